"""The images of several sources as one set: each keeps its domain, and its ids begin with its name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mcis_cli.config import SourceConfig
from mcis_cli.data.formats import id_fault
from mcis_cli.data.layouts.listing import Finding, Item, Listing, Source
from mcis_cli.errors import counted, first_few


def names_of(sources: Sequence[SourceConfig]) -> list[str]:
    """The name of each source: its own, or its domain, numbered from the second on.

    It is not the folder's name, so that a set that moves keeps its ids, and with them its artifacts.
    """
    taken = {source.name for source in sources}
    names: list[str] = []
    for source in sources:
        unnamed = (
            source.domain if number == 1 else f"{source.domain}-{number}" for number in range(1, len(sources) + 2)
        )
        names.append(source.name or next(name for name in unnamed if name not in {*taken, *names}))
    return names


def joined(listing: Listing, sources: Sequence[Source]) -> Listing:
    """A listing of the target with the images of its sources.

    Only images of the target, and of sources of that domain, are in splits. Images of the others without a tag that is
    a class are left out with a note: search results and other data sets hold more than the classes in question.
    """
    known = frozenset(listing.class_names)
    items, findings = list(listing.items), list(listing.findings)
    splits = {name: set(ids) for name, ids in listing.missing.items()}
    for source in sources:
        kept = [item for item in _items(source) if source.domain == "target" or item.tags & known]
        findings += _findings(source, kept, known)
        items += kept
        if source.domain == "target":
            for name, ids in source.listing.missing.items():
                splits.setdefault(name, set()).update(f"{source.name}/{image_id}" for image_id in ids)
    findings += _same_ids(items)
    items = list({item.id: item for item in items}.values())
    return replace(
        listing,
        items=tuple(sorted(items, key=lambda item: item.id)),
        missing={name: tuple(sorted(ids)) for name, ids in sorted(splits.items())},
        findings=tuple(findings),
        sources=tuple(sources),
    )


def _items(source: Source) -> Iterator[Item]:
    """The images of a source as they are in the whole set: other ids, absolute paths."""
    root = source.listing.root.absolute()
    is_target = source.domain == "target"
    for item in source.listing.items:
        yield replace(
            item,
            id=f"{source.name}/{item.id}",
            image=str(root / item.image),
            splits=item.splits if is_target else frozenset(),
            mask=str(root / item.mask) if is_target and item.mask else None,
            saliency=str(root / item.saliency) if item.saliency else None,
            domain=source.domain,
        )


def _findings(source: Source, kept: Sequence[Item], known: frozenset[str]) -> Iterator[Finding]:
    """Findings from reading the source, and a summary of it."""
    is_target = source.domain == "target"
    # Other contents of such a set are left out below; masks are read for the target only.
    beside = () if is_target else ("unknown-tag", "stray-masks", "stray-saliency", "nested-folders")
    reported = [finding for finding in source.listing.findings if finding.code not in beside]
    yield from reported
    yield from _summary(source, kept)
    if not kept and not any(finding.severity == "error" for finding in reported):
        classes = first_few(sorted(known))
        message = f"no image of a class of the set in {source.config.root}; expected tags such as {classes}"
        yield Finding("error", "empty-source", message)
    elif kept and not is_target:
        yield from _left_out(source, kept, known)
    several = [item for item in kept if source.domain == "single-label" and len(item.tags & known) > 1]
    if several:
        first = f"{several[0].id!r} has {', '.join(sorted(several[0].tags & known))}"
        message = (
            f"{counted(len(several), 'image')} of {source.name!r} with more than one class ({first}); expected one in "
            "a single-label source; take them off, or name the source as web"
        )
        yield Finding("error", "not-single-label", message, tuple(item.id for item in several))
    faults = [(item.id, fault) for item in kept if (fault := id_fault(item.id))]
    if faults:
        message = f"{faults[0][1]}; give the source a shorter name, or rename the file"
        yield Finding("error", "bad-id", message, tuple(image_id for image_id, _ in faults))


def _summary(source: Source, kept: Sequence[Item]) -> Iterator[Finding]:
    listing = source.listing
    tags = f"tags from {listing.tag_source}" if listing.tag_source else "no tags"
    saliency = sum(item.saliency is not None for item in kept)
    counts = Counter(tag for item in kept for tag in item.tags)
    message = (
        f"source {source.name!r}: domain {source.domain}, layout {listing.layout}, {counted(len(kept), 'image')} of "
        f"{counted(len(counts.keys() & {*listing.class_names}), 'class', 'classes')}, {tags}, "
        f"{counted(saliency, 'saliency map')}"
    )
    yield Finding("note", "source", message, (source.name,))


def _left_out(source: Source, kept: Sequence[Item], known: frozenset[str]) -> Iterator[Finding]:
    """Report tags that are not a class of the set, and the images that are left out because of them."""
    strange = Counter(tag for item in source.listing.items for tag in item.tags - known)
    num_left_out = len(source.listing.items) - len(kept)
    if strange or num_left_out:
        some = first_few(name for name, _ in strange.most_common())
        message = (
            f"left out of source {source.name!r}: {counted(num_left_out, 'image')} without a class of the set; "
            f"{counted(len(strange), 'tag')} of it are none ({some})"
        )
        yield Finding("warning", "no-class-of-the-set", message, tuple(strange))


def _same_ids(items: Sequence[Item]) -> Iterator[Finding]:
    counts = Counter(item.id for item in items)
    if twice := tuple(image_id for image_id, count in counts.items() if count > 1):
        message = f"two images with the id {twice[0]!r} in different sources; give one source another name"
        yield Finding("error", "same-id", message, twice)
