"""`mcis check`: the contents and the faults of an image set: names, splits, tags, and missing files. `check_pixels`
checks pixels.
"""

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from mcis_cli.config import DataConfig
from mcis_cli.data.catalogue import Catalogue, ImageEntry, count_domains
from mcis_cli.data.check_pixels import Progress, check_pixels
from mcis_cli.data.evidence import of_tags
from mcis_cli.data.layouts.left_out import left_out
from mcis_cli.data.layouts.listing import Finding, Listing, Severity
from mcis_cli.data.layouts.other_tools import other_export
from mcis_cli.data.reading import describe, read_listing, require_root
from mcis_cli.errors import DataError, counted, first_few
from mcis_cli.store import StatCache

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


def check(
    config: DataConfig,
    cache: StatCache | None = None,
    *,
    num_references: int = 3,
    workers: int = 2,
    progress: Progress | None = None,
) -> list[Finding]:
    """Report what an image set contains and what is wrong with it, errors first.

    Args:
        config: Where everything is.
        cache: The store's stat cache.
        num_references: How many other images of its class an image needs for multi-round maps.
        workers: Threads that decode.
        progress: Called with (images decoded, images in all).

    Returns:
        The findings; a set without an "error" can be trained on.

    Raises:
        DataError: The path is neither a folder nor a table.
    """
    return survey(config, cache, num_references=num_references, workers=workers, progress=progress)[1]


def survey(
    config: DataConfig,
    cache: StatCache | None = None,
    *,
    num_references: int = 3,
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Catalogue | None, list[Finding]]:
    """As `check`, with the catalogue of everything readable; None if there is no image set at all.

    Raises:
        DataError: The path is neither a folder nor a table.
    """
    require_root(config)
    try:
        listing = read_listing(config, cache)
    except DataError as error:
        return None, [Finding("error", "no-image-set", str(error))]
    catalogue, unreadable = describe(listing, cache)
    findings = [
        *_summary(listing, catalogue),
        *listing.findings,
        *unreadable,
        *left_out(config, listing),
        *(finding for source in listing.sources for finding in left_out(source.config, source.listing)),
        *_ids(catalogue),
        *_splits(config, catalogue),
        *_one_folder(listing),
        *(one for one in of_tags(catalogue) if one.code != "one-tag" or listing.layout != "folders"),
        *_tags(config, catalogue, num_references),
        *_companions(config, catalogue),
        *_sizes(listing, catalogue),
        *_contents(config, catalogue),
        *check_pixels(catalogue, workers=workers, progress=progress),
    ]
    return catalogue, sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _summary(listing: Listing, catalogue: Catalogue) -> Iterator[Finding]:
    names = catalogue.class_names
    shown = first_few(names, most=20)
    tags = f"tags from {listing.tag_source}" if listing.tag_source else "no tags"
    splits = ", ".join(f"{name} {count}" for name, count in _split_sizes(catalogue))
    masks = sum(entry.mask is not None for entry in catalogue.entries)
    saliency = sum(entry.saliency is not None for entry in catalogue.entries)
    domains = ", ".join(f"{domain} {count}" for domain, count in count_domains(catalogue).items())
    images = _count(listing.items, "image") + (f" ({domains})" if listing.sources else "")
    yield Finding("note", "layout", f"layout {listing.layout}, {images}, {tags}")
    yield Finding("note", "classes", f"{_count(names, 'class', 'classes')}: {shown}", names)
    yield Finding("note", "splits", f"splits: {splits or 'none'}")
    yield Finding("note", "companions", f"{counted(masks, 'mask')}, {counted(saliency, 'saliency map')}")


def _split_sizes(catalogue: Catalogue) -> Iterator[tuple[str, int]]:
    for name in catalogue.split_names:
        yield name, sum(name in entry.splits for entry in catalogue.entries)


def _ids(catalogue: Catalogue) -> Iterator[Finding]:
    groups: dict[str, list[str]] = defaultdict(list)
    for image_id in catalogue.ids:
        groups[unicodedata.normalize("NFC", image_id).casefold()].append(image_id)
    clashes = [ids for ids in groups.values() if len(ids) > 1]
    if clashes:
        message = (
            f"{_count(clashes, 'group')} of image ids that differ only in case or in how letters are composed "
            f"({', '.join(map(repr, clashes[0]))}); other file systems keep only one of them; rename them"
        )
        yield Finding("warning", "ids-alike", message, tuple(image_id for ids in clashes for image_id in ids))


def _splits(config: DataConfig, catalogue: Catalogue) -> Iterator[Finding]:
    for name, missing in catalogue.missing.items():
        if missing:
            severity: Severity = "error" if name in (config.train, config.val) else "warning"
            message = f"the split {name!r} lists {_count(missing, 'image')} not there (the first is {missing[0]!r})"
            yield Finding(severity, "split-without-image", message, missing)
    train, val = _members(catalogue, config.train), _members(catalogue, config.val)
    for setting, name, ids in (("train", config.train, train), ("val", config.val, val)):
        if not ids:
            absence: Severity = "error" if setting == "train" else "note"
            message = f"no images in the split {name!r} (data.{setting}); found {', '.join(catalogue.split_names)}"
            yield Finding(absence, f"no-{setting}", message)
    nowhere = tuple(e.id for e in catalogue.entries if e.domain == "target" and not e.splits)
    if nowhere:
        message = f"{_count(nowhere, 'image')} in no split (the first is {nowhere[0]!r}); not read but with --split all"
        yield Finding("note", "in-no-split", message, nowhere)
    both = tuple(sorted(train & val))
    if both and config.train != config.val:
        message = f"{_count(both, 'image')} in both {config.train!r} and {config.val!r} (the first is {both[0]!r})"
        yield Finding("error", "train-val-overlap", message, both)


def _tags(config: DataConfig, catalogue: Catalogue, num_references: int) -> Iterator[Finding]:
    train = _members(catalogue, config.train)
    empty = [image_id for image_id in sorted(train) if not catalogue[image_id].labels]
    negatives = tuple(image_id for image_id in empty if catalogue[image_id].is_negative)
    untagged = tuple(image_id for image_id in empty if not catalogue[image_id].is_negative)
    if untagged or (train and len(empty) == len(train)):
        first = (untagged or negatives)[0]
        message = f"{_count(untagged or negatives, 'image')} of {config.train!r} without a tag (the first is {first!r})"
        yield Finding("error" if len(empty) == len(train) else "warning", "untagged", message, untagged or negatives)
    if negatives and len(empty) < len(train):
        shown = f"the first is {negatives[0]!r}"
        message = (
            f"{_count(negatives, 'negative')} in {config.train!r}, listed without a tag ({shown}): they show no class"
        )
        yield Finding("note", "negatives", message, negatives)
    counts = {name: len(train.intersection(catalogue.carriers(k))) for k, name in enumerate(catalogue.class_names)}
    absent = tuple(name for name, count in counts.items() if count == 0)
    if absent:
        message = f"{_count(absent, 'class', 'classes')} without an image in {config.train!r}: {', '.join(absent)}"
        yield Finding("warning", "class-without-image", message, absent)
    few = {name: count for name, count in counts.items() if 0 < count <= num_references}
    if few:
        listed = ", ".join(f"{name} {count}" for name, count in few.items())
        needed = counted(num_references, "reference")
        message = f"classes with too few images in {config.train!r} for {needed} each: {listed}"
        yield Finding("warning", "few-references", message, tuple(few))
    yield from _slips(few, counts)


def _one_folder(listing: Listing) -> Iterator[Finding]:
    """Warn of a single folder: most often it holds all photographs, and the table is missing or not a CSV file."""
    has_negatives = any(item.is_negative for item in listing.items)
    if listing.layout == "folders" and len(listing.class_names) == 1 and not has_negatives:
        (name,), other = listing.class_names, other_export(listing.root)
        message = (
            f"the folder {name!r} is used as the tag of all {_count(listing.items, 'image')}; expected a folder for "
            f"each class, or tags in a table beside it, such as tags.csv{f'; {other}' if other else ''}"
        )
        yield Finding("warning", "one-folder", message)


def _slips(few: Mapping[str, int], counts: Mapping[str, int]) -> Iterator[Finding]:
    """Warn of rare classes with nearly the name of a frequent one: most often one tag, spelled in two ways."""
    usual = {name.casefold(): name for name, count in counts.items() if name not in few and count}
    for name, count in few.items():
        near = difflib.get_close_matches(name.casefold(), usual, n=1, cutoff=0.8)
        if near:
            meant = usual[near[0]]
            message = f"class {name!r} ({counted(count, 'image')}) is spelled nearly as {meant!r} ({counts[meant]})"
            message += "; if both mean one thing, correct the tags"
            yield Finding("warning", "class-alike", message, (name, meant))


def _companions(config: DataConfig, catalogue: Catalogue) -> Iterator[Finding]:
    mapped = [entry for entry in catalogue.entries if entry.domain == "target"]
    no_saliency = tuple(entry.id for entry in mapped if entry.saliency is None)
    if no_saliency:
        message = f"saliency missing for {_count(no_saliency, 'image')} (the first is {no_saliency[0]!r})"
        message += (
            "; `mcis saliency` makes maps, or give `mcis pseudo` --background otsu"
            if len(no_saliency) == len(mapped)
            else ""
        )
        severity: Severity = "note" if len(no_saliency) == len(mapped) else "warning"
        yield Finding(severity, "no-saliency", message, no_saliency)
    no_mask = tuple(i for i in sorted(_members(catalogue, config.val)) if catalogue[i].mask is None)
    if no_mask:
        message = f"ground truth missing for {_count(no_mask, 'image')} of {config.val!r} (the first is {no_mask[0]!r})"
        yield Finding("warning", "no-mask", message, no_mask)


def _sizes(listing: Listing, catalogue: Catalogue) -> Iterator[Finding]:
    """Report photographs whose proportions differ from their annotations, so that outlines would be displaced."""
    differ = []
    for entry in catalogue.entries:
        height, width = listing.sizes.get(entry.id, (entry.height, entry.width))
        if height * entry.width != width * entry.height:
            differ.append((entry, width, height))
    if not differ:
        return
    entry, width, height = differ[0]
    turned = ", its size before its EXIF data turn it" if (width, height) == (entry.height, entry.width) else ""
    message = (
        f"{counted(len(differ), 'image')} of another size in {listing.tag_source} (the first is {entry.id!r}: "
        f"annotations for {width} x {height} pixels{turned}; the photograph has {entry.width} x {entry.height}); "
        "export annotations of these files"
    )
    yield Finding("error", "size-differs", message, tuple(one.id for one, _, _ in differ))


def _contents(config: DataConfig, catalogue: Catalogue) -> Iterator[Finding]:
    same: dict[str, list[ImageEntry]] = defaultdict(list)
    for entry in catalogue.entries:
        same[entry.digest].append(entry)
    groups = [entries for entries in same.values() if len(entries) > 1]
    if groups:
        ids = tuple(entry.id for entries in groups for entry in entries)
        message = f"{_count(groups, 'group')} of images with the same content (the first: {ids[0]!r}, {ids[1]!r})"
        yield Finding("warning", "same-content", message, ids)
    train, val = _members(catalogue, config.train), _members(catalogue, config.val)
    train |= {entry.id for entry in catalogue.entries if entry.domain != "target"}  # the training uses them, too
    leaks = [e for e in groups if {x.id for x in e} & (train - val) and {x.id for x in e} & (val - train)]
    if leaks:
        ids = tuple(entry.id for entries in leaks for entry in entries)
        pair = f"{ids[0]!r}, {ids[1]!r}"
        message = f"{config.train!r} and {config.val!r} share the content of {_count(leaks, 'image')} ({pair})"
        yield Finding("error", "train-val-same-content", message, ids)


def _members(catalogue: Catalogue, split: str) -> frozenset[str]:
    target = (entry for entry in catalogue.entries if entry.domain == "target")
    return frozenset(entry.id for entry in target if split == "all" or split in entry.splits)


def _count(things: Sequence[object], singular: str, plural: str | None = None) -> str:
    return counted(len(things), singular, plural)
