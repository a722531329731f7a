"""From a layout's reader to a listing: join class names, tags, masks and saliency maps."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mcis_cli.config import DataConfig
from mcis_cli.data.formats import MASK_SUFFIXES, PHOTO_SUFFIXES
from mcis_cli.data.layouts.listing import Finding, Found, Item, Listing, by_composition, index_files, suffix_list
from mcis_cli.data.layouts.names import class_names, is_negative, mask_colours
from mcis_cli.errors import DataError, counted, first_few

_PIXELS = PHOTO_SUFFIXES | {".npy", ".npz", ".mat"}


def assemble(config: DataConfig, root: Path, layout: str, found: Found) -> Listing:
    """Join the result of a reader with class names, masks and saliency.

    Raises:
        DataError: There are no images, no classes, too many classes, or a folder named in the settings does not exist.
    """
    if not found.images:
        raise _no_images(root, layout, found)
    names = class_names(config, root, found)
    masks, mask_findings = _companions(root, config.masks, found.default_masks, MASK_SUFFIXES, "masks", found.images)
    if found.masks is not None and config.masks is None:
        masks, mask_findings = dict(found.masks), ()
    saliency, saliency_findings = _companions(
        root, config.saliency, "saliency", PHOTO_SUFFIXES, "saliency", found.images
    )
    if found.saliency is not None and config.saliency is None:
        saliency, saliency_findings = dict(found.saliency), ()
    splits, tags = _splits(found), _tags(found, names)
    membership: dict[str, set[str]] = {}
    for name, ids in splits.items():
        for image_id in ids:
            membership.setdefault(image_id, set()).add(name)
    known: dict[frozenset[str], frozenset[str]] = {}

    def shared(names: Iterable[str]) -> frozenset[str]:
        """One object for all equal sets, to save memory: many images share few combinations of tags and splits."""
        kept = frozenset(names)
        return known.setdefault(kept, kept)

    items = tuple(
        Item(
            id=image_id,
            image=found.images[image_id],
            tags=shared(tags.get(image_id, ())),
            splits=shared(membership.get(image_id, ())),
            mask=masks.get(image_id),
            saliency=saliency.get(image_id),
            is_negative=image_id in tags and not tags[image_id],
        )
        for image_id in sorted(found.images)
    )
    missing = {name: tuple(sorted(ids - found.images.keys())) for name, ids in sorted(splits.items())}
    findings = (*found.findings, *_tag_findings(found, tags, names), *mask_findings, *saliency_findings)
    colours = mask_colours(root, names)
    source, sizes = found.tag_source, found.sizes
    return Listing(root, layout, names, source, items, missing, findings, mask_colours=colours, sizes=sizes)


def _no_images(root: Path, layout: str, found: Found) -> DataError:
    faults = [finding.message for finding in found.findings if finding.severity == "error"]
    if faults:
        others = f" (and {counted(len(faults) - 1, 'more fault')})" if len(faults) > 1 else ""
        return DataError(f"{faults[0]}{others}; no image is left")
    return DataError(f"no images in {root} (layout {layout}); expected files ending in {suffix_list(PHOTO_SUFFIXES)}")


def _splits(found: Found) -> dict[str, frozenset[str]]:
    """The splits by name. If CVAT's `default`, or `all` of our exports, is the only one, it is also `train`."""
    splits = dict(found.splits) or {"train": frozenset(found.images)}
    (only, *others) = splits
    return {**splits, "train": splits[only]} if only in ("default", "all") and not others else splits


def _tags(found: Found, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """The tags of each tagged image, without names that mean background or nothing."""
    known = set(names)
    nothing = {tag for tag in set().union(*found.tags.values()) if is_negative(tag) and tag not in known}
    return {image_id: tags - nothing if nothing else tags for image_id, tags in found.tags.items()}


def _companions(
    root: Path,
    setting: str | None,
    default: str,
    suffixes: frozenset[str],
    kind: str,
    images: Mapping[str, str],
) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """Masks or saliency maps by image id, from the folder of the settings or the usual one."""
    folder = root / (setting or default)
    if not folder.is_dir():
        if setting is None:
            return {}, ()
        raise DataError(f"no folder of {kind} at {folder}; correct it with --set data.{kind}=FOLDER")
    files, findings = index_files(folder, root, suffixes)
    if len(files) < len(images):
        findings = (*findings, *_not_read(folder, suffixes, kind))
    by_image = _match(files, images)
    strays = tuple(sorted(files.keys() - set(by_image.values())))
    if strays:
        message = f"without an image: {len(strays)} of the {kind} in {folder} (the first is {strays[0]!r})"
        findings = (*findings, Finding("warning", f"stray-{kind}", message, strays))
    return {image_id: files[name] for image_id, name in by_image.items()}, findings


def _not_read(folder: Path, suffixes: frozenset[str], kind: str) -> Iterator[Finding]:
    """Warn of files in a folder of masks or saliency maps whose format is not read there."""
    other, _ = index_files(folder, folder, frozenset(_PIXELS - suffixes))
    if other:
        first = min(other.values())
        message = (
            f"not read: {counted(len(other), 'file')} in the folder of {kind} {folder} (the first is {first!r}); "
            f"expected {suffix_list(suffixes)}, where every value stays as it is; save them so"
        )
        yield Finding("warning", f"{kind}-not-read", message, tuple(sorted(other)))


def _match(files: Mapping[str, str], images: Mapping[str, str]) -> dict[str, str]:
    """Image id -> id of its companion: the same, or the same below the one folder that all images are in."""
    composed = by_composition(files)
    same = {
        image_id: name
        for image_id in images
        if (name := image_id if image_id in files else composed.get(unicodedata.normalize("NFC", image_id)))
    }
    top = {PurePosixPath(image_id).parts[0] for image_id in images}
    if same or len(top) != 1 or any("/" not in image_id for image_id in images):
        return same
    return {image_id: tail for image_id in images if (tail := image_id.split("/", 1)[1]) in files}


def _tag_findings(found: Found, tags: Mapping[str, frozenset[str]], names: Sequence[str]) -> Iterator[Finding]:
    known = set(names)
    some = first_few(names)
    carriers: dict[str, list[str]] = {}
    for image_id, of_image in sorted(tags.items()):
        for tag in of_image - known:
            carriers.setdefault(tag, []).append(image_id)
    for tag, ids in sorted(carriers.items()):
        message = (
            f"unknown tag {tag!r} of image {ids[0]!r} in {found.tag_source}; expected one of: {some}; "
            "correct it, or name it in classes.txt or data.classes"
        )
        yield Finding("error", "unknown-tag", message, tuple(ids))
    strays = tuple(sorted(found.tags.keys() - found.images.keys()))
    if strays:
        message = (
            f"not there: {counted(len(strays), 'tagged image')} of {found.tag_source} (the first is {strays[0]!r})"
        )
        yield Finding("warning", "tags-without-image", message, strays)
