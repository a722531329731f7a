"""From the settings of a data set to its catalogue: which layout it has, its names, then digests and sizes.

`read_catalogue` stops at the first fault; `check` uses the same two steps and reports all faults.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from mcis_cli.config import DataConfig, SourceConfig
from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.data.facts import Facts, Measure, file_facts, no_facts
from mcis_cli.data.formats import JUNK_FOLDERS
from mcis_cli.data.layouts.assembling import assemble
from mcis_cli.data.layouts.known import LAYOUTS
from mcis_cli.data.layouts.layout import Layout
from mcis_cli.data.layouts.listing import Finding, Item, Listing, Source
from mcis_cli.data.layouts.multi_hot import SUFFIX
from mcis_cli.data.layouts.other_tools import other_export
from mcis_cli.data.layouts.rows import TABLE_SUFFIXES
from mcis_cli.data.layouts.sources import joined, names_of
from mcis_cli.data.layouts.tag_lists import SUFFIX as LIST_SUFFIX
from mcis_cli.data.layouts.tag_lists import names_list, read_tag_list
from mcis_cli.data.layouts.voc import IMAGES
from mcis_cli.data.places import url_of
from mcis_cli.data.tar_members import SUFFIX as TAR_SUFFIX
from mcis_cli.errors import DataError, counted
from mcis_cli.store import StatCache

LOOKED_FOR = "; ".join(layout.title for layout in LAYOUTS)
FILE_SUFFIXES = TABLE_SUFFIXES | {".json", SUFFIX, LIST_SUFFIX, TAR_SUFFIX}
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")


def read_catalogue(config: DataConfig, cache: StatCache | None = None) -> Catalogue:
    """Read an image set with digests, without decoding images.

    Args:
        config: Where everything is.
        cache: The store's stat cache; without it every file is read.

    Raises:
        DataError: There is no image set, or it has a fault; one line that names the file.
    """
    listing = read_listing(config, cache)
    _refuse(listing.root, listing.findings)
    catalogue, findings = describe(listing, cache)
    _refuse(listing.root, findings)
    return catalogue


def require_root(config: DataConfig) -> Path:
    """The folder, or the table, list or archive, of an image set, checked.

    Raises:
        DataError: There is neither: nothing, another file, a pipe or a device.
    """
    root = local_root(config.root, config.remote_mb)
    if not root.exists():
        raise DataError(f"no such folder: {root}; expected an image set ({LOOKED_FOR}); correct the path or data.root")
    if not root.is_dir() and not (root.is_file() and root.suffix.lower() in FILE_SUFFIXES):
        _refuse_archive(root)
        kind = "a file" if root.is_file() else "a pipe or a device"
        raise DataError(
            f"{root} is {kind}; expected a folder, a table in .csv, .tsv, .json or .npy, "
            "a list in .txt, or a shard in .tar; correct it"
        )
    return root


def local_root(root: str, remote_mb: int) -> Path:
    """The path of a root on this machine: for a URL, that of its mirror, which is brought up to date."""
    url = url_of(root)
    if url is None:
        return Path(root)
    from mcis_cli.data.remote import mirror

    return mirror(url, remote_mb, frozenset(FILE_SUFFIXES))


def _refuse_archive(root: Path) -> None:
    if root.is_file() and root.name.lower().endswith(ARCHIVES):
        raise DataError(f"{root} is an archive; expected the folder that is in it; unpack it: tar xf, or unzip")


def read_listing(config: DataConfig, cache: StatCache | None = None) -> Listing:
    """List an image set by names, with the images of its sources.

    Raises:
        DataError: There is no image set, or a list of it cannot be read.
    """
    listing = _read_place(config, cache)
    if not config.sources:
        return listing
    names = names_of(config.sources)
    read = (
        _read_source(source, name, listing, cache, config.remote_mb)
        for source, name in zip(config.sources, names, strict=True)
    )
    return joined(listing, list(read))


def _read_source(source: SourceConfig, name: str, target: Listing, cache: StatCache | None, remote_mb: int) -> Source:
    """List one source by itself; its classes are those of the target, in their order."""
    root = local_root(source.root, remote_mb)
    is_list = source.layout == "list" or (source.layout == "auto" and names_list(root))
    config = DataConfig(
        root=source.root,
        layout=source.layout,
        tags=source.tags,
        classes=target.class_names,
        saliency=source.saliency,
        remote_mb=remote_mb,
    )
    try:
        if not is_list:
            return Source(name, source.domain, config, _read_place(config, cache))
        found = read_tag_list(root, source.list_tags)
        return Source(name, source.domain, config, assemble(config, root.parent, "list", found))
    except DataError as error:
        raise DataError(f"source {name!r}: {error}") from error


def _read_place(config: DataConfig, cache: StatCache | None) -> Listing:
    """List the images of one place, in the layout that it has."""
    root = require_root(config)
    layout = layout_of(config, root)
    found = layout.read(config, root, cache)
    listing = assemble(config, found.root or root, layout.name, found)
    if not config.tags_from_masks:
        return listing
    from mcis_cli.data.mask_tags import with_tags_of_masks

    return with_tags_of_masks(listing, cache)


def layout_of(config: DataConfig, root: Path) -> Layout:
    """The layout that the settings name, or the first that matches.

    Raises:
        DataError: None matches.
    """
    wanted = config.layout
    for layout in LAYOUTS:
        if layout.name == wanted or (wanted == "auto" and layout.matches(config, root)):
            return layout
    _refuse_archive(root)
    meant = _meant(config, root) if root.is_dir() else None
    if meant is None and root.is_dir() and (other := other_export(root)):
        raise DataError(f"no image set in {root}; {other} (looked for {LOOKED_FOR})")
    hint = f"did you mean {meant}?" if meant else "give the folder that holds one of these, or --set data.layout"
    raise DataError(f"no image set in {root}; looked for {LOOKED_FOR}; {hint}")


def _meant(config: DataConfig, root: Path) -> Path | None:
    """A folder below that is an image set, or the one above that these photographs belong to."""
    below = sorted(one for one in root.glob("*/") if one.name not in JUNK_FOLDERS and not one.name.startswith("."))
    if found := next((one for one in below if _has_layout(config, one)), None):
        return found
    has_table = any(file.suffix.lower() in TABLE_SUFFIXES for file in root.parent.glob("*.*"))
    return root.parent if has_table or root.name == IMAGES else None


def _has_layout(config: DataConfig, folder: Path) -> bool:
    try:
        return any(layout.matches(config, folder) for layout in LAYOUTS)
    except DataError:  # such as several tables
        return False


def describe(listing: Listing, cache: StatCache | None = None) -> tuple[Catalogue, tuple[Finding, ...]]:
    """Read every file of a listing once: digests and sizes.

    Returns:
        The catalogue of the images that could be read, and a finding for each file that could not.
    """
    items = listing.items
    images = _facts(listing.root, [item.image for item in items], "photo-1", _size, cache)
    masks = _facts(listing.root, [item.mask for item in items], "file-1", no_facts, cache)
    saliency = _facts(listing.root, [item.saliency for item in items], "file-1", no_facts, cache)
    class_index = {name: index for index, name in enumerate(listing.class_names)}

    @lru_cache(4096)
    def labels(tags: frozenset[str]) -> tuple[int, ...]:  # many images have few combinations of tags
        return tuple(sorted(class_index[tag] for tag in tags if tag in class_index))

    entries: list[ImageEntry] = []
    findings: list[Finding] = []
    for item, image, mask, salient in zip(items, images, masks, saliency, strict=True):
        for kind, facts in (("image", image), ("mask", mask), ("saliency", salient)):
            if isinstance(facts, DataError):
                findings.append(Finding("error", f"unreadable-{kind}", str(facts), (item.id,)))
        if image is not None and not isinstance(image, DataError):
            entries.append(_entry(item, image, _digest(mask), _digest(salient), labels(item.tags)))
    catalogue = Catalogue(
        listing.root,
        listing.layout,
        listing.class_names,
        tuple(entries),
        listing.missing,
        mask_colours=listing.mask_colours,
    )
    return catalogue, tuple(findings)


def _size(content: bytes, name: str) -> Facts:
    from mcis_cli.data.images import inspect

    header = inspect(content, name)
    return {"height": header.height, "width": header.width}


def _facts(
    root: Path, paths: Sequence[str | None], kind: str, measure: Measure, cache: StatCache | None
) -> Iterator[Facts | DataError | None]:
    """Facts of existing files, None for missing ones."""
    facts = file_facts([os.path.join(root, path) for path in paths if path is not None], kind, measure, cache)
    for path in paths:
        yield None if path is None else next(facts)


def _digest(facts: Facts | DataError | None) -> str | None:
    return None if facts is None or isinstance(facts, DataError) else str(facts["sha256"])


def _entry(
    item: Item, image: Facts, mask_digest: str | None, saliency_digest: str | None, labels: tuple[int, ...]
) -> ImageEntry:
    return ImageEntry(
        id=item.id,
        image=item.image,
        digest=image["sha256"],
        height=image["height"],
        width=image["width"],
        labels=labels,
        splits=item.splits,
        mask=item.mask if mask_digest else None,
        mask_digest=mask_digest,
        saliency=item.saliency if saliency_digest else None,
        saliency_digest=saliency_digest,
        domain=item.domain,
        is_negative=item.is_negative,
    )


def _refuse(root: Path, findings: Iterable[Finding]) -> None:
    faults = [finding.message for finding in findings if finding.severity == "error"]
    if len(faults) > 1:
        raise DataError(f"{faults[0]} (and {counted(len(faults) - 1, 'more fault')}: `mcis check {root}` lists them)")
    if faults:
        raise DataError(faults[0])
