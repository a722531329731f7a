"""Contradictions between names, tags and masks, which show that an image set is misread.

Valid files can be misread: classes in another order, masks of 0 and 255, several tags in one. `mcis check` reads every
mask; a stage that is about to use the set reads a sample of them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from mcis_cli.data.catalogue import IGNORE_INDEX, Catalogue, ImageEntry
from mcis_cli.data.images import palette_of
from mcis_cli.data.layouts.listing import Finding
from mcis_cli.data.layouts.names import same_name
from mcis_cli.data.layouts.tag_cells import joined_tags
from mcis_cli.errors import DataError, counted, first_few

SAMPLE = 64  # masks that are read before a set is used
_YES_NO = (
    *({"0", "1"}, {"0.0", "1.0"}, {"-1", "1"}, {"-1.0", "1.0"}),
    *({"no", "yes"}, {"n", "y"}, {"false", "true"}, {"f", "t"}, {"absent", "present"}, {"normal", "abnormal"}),
)
_WITH_ANSWER = re.compile(r"\S.*[:=]\s*(?:0|1|0\.0|1\.0|true|false|yes|no)", re.IGNORECASE)
# Words for "no object" or "not tagged"; the last may also be a part of a name, as in BACKGROUND_Google.
_NO_TAG = frozenset({"nan", "null", "nil", "na", "n/a", "-", "?", "unknown", "unlabeled", "unlabelled", "untagged"})
_NO_OBJECT = frozenset({"neg", "nothing", "empty", "clutter", "noise", "background", "negative", "negatives"})
_NOT = re.compile(r"(?:no|not|non|without)[\s_-]+(.+)")


@dataclass(frozen=True, slots=True)
class MaskLook:
    """The content of one mask: its classes (0-based), whether it has ignored pixels, and the colour of each index it
    uses."""

    classes: frozenset[int]
    ignores: bool
    colours: Mapping[int, tuple[int, int, int]]


def look_at_mask(catalogue: Catalogue, entry: ImageEntry, *, colours: bool = True) -> MaskLook:
    """Decode the mask of an image.

    Raises:
        DataError: It cannot be read, or does not fit the image or the classes.
    """
    mask = catalogue.read_mask(entry.id)
    of_indices = {}
    if colours and not catalogue.mask_colours:
        of_indices = palette_of(catalogue.read_mask_file(entry.id), str(entry.mask))
    return MaskLook(classes_in(mask), bool((mask == IGNORE_INDEX).any()), of_indices)


def classes_in(mask: UInt8[ndarray, "height width"]) -> frozenset[int]:
    """The foreground classes (0-based) with pixels in a mask."""
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return frozenset(int(value) - 1 for value in present if value not in (0, IGNORE_INDEX))


def sampled_masks(catalogue: Catalogue) -> list[Finding]:
    """Findings against a set from a sample of its masks; unreadable masks are left to code that reads all of them."""
    with_mask = [entry for entry in catalogue.entries if entry.mask is not None]
    step = max(1, len(with_mask) // SAMPLE)
    looks: dict[str, MaskLook] = {}
    for entry in with_mask[::step][:SAMPLE]:
        try:
            looks[entry.id] = look_at_mask(catalogue, entry)
        except DataError:
            continue
    return list(of_masks(catalogue, looks, is_complete=False))


def of_tags(catalogue: Catalogue) -> Iterator[Finding]:
    """Warn of tags that probably do not mean what the user intended."""
    names = catalogue.class_names
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in names:
        spellings[same_name(name)].append(name)
    for same in spellings.values():
        if len(same) > 1:
            message = (
                f"classes that are spelled nearly the same: {', '.join(map(repr, same))} (capitals, or letters that"
            )
            message += " cannot be seen); if they mean one thing, correct the tags"
            yield Finding("warning", "names-alike", message, tuple(same))
    if joined := joined_tags(name for k, name in enumerate(names) if catalogue.carriers(k)):
        shown = first_few(map(repr, joined))
        message = f"tags that are other tags joined by blanks or signs: {shown}; separate the tags of an image by ';'"
        yield Finding("warning", "tags-joined", message, tuple(joined))
    yield from _answers(catalogue)
    if said := [name for k, name in enumerate(names) if catalogue.carriers(k) and _is_of_nothing(name, names)]:
        message = (
            f"tags that seem to say that no class is there, or that nobody looked: {first_few(map(repr, said))}; leave "
            "the cell of tags of an image without any class empty, or call its folder background; do not list an "
            "image that nobody looked at"
        )
        yield Finding("warning", "tags-of-nothing", message, tuple(said))
    yield from _one_tag(catalogue)


def _answers(catalogue: Catalogue) -> Iterator[Finding]:
    """Warn of tags that say whether an object is present, and do not name it."""
    names = catalogue.class_names
    if {name.casefold() for name in names} in _YES_NO:
        message = (
            f"the only tags are {names[0]!r} and {names[1]!r}, and both are treated as objects; if they say whether "
            "one object is there, name the column after it, as in image,cat, with 1 and 0"
        )
        yield Finding("warning", "yes-no-tags", message, names)
    if answered := [name for name in names if _WITH_ANSWER.fullmatch(name)]:
        message = (
            f"tags with an answer in them: {first_few(map(repr, answered))}, each treated as an object; write a column "
            "of 1 and 0 for each class, as in image,cat,dog"
        )
        yield Finding("warning", "yes-no-tags", message, tuple(answered))


def _is_of_nothing(name: str, names: Sequence[str]) -> bool:
    """Whether a name seems to mean that an image shows none of the other classes."""
    text = name.casefold().strip()
    others = {other.casefold() for other in names} - {text}
    negated = _NOT.fullmatch(text)
    is_negated = negated is not None and negated[1] in others
    return text in _NO_TAG or is_negated or not _NO_OBJECT.isdisjoint(re.split("[^a-z]+", text))


def _one_tag(catalogue: Catalogue) -> Iterator[Finding]:
    looked_at = [entry for entry in catalogue.entries if entry.is_labelled]
    tags = {entry.labels for entry in looked_at}
    if len(tags) != 1 or len(looked_at) < 2 or not (only := next(iter(tags))):
        return
    named = ", ".join(catalogue.class_names[k] for k in only)
    message = (
        f"all {counted(len(looked_at), 'tagged image')} have the same tag ({named}), so nothing shows how "
        "other images differ; add images without it: with an empty cell of tags, or in a folder called background"
    )
    yield Finding("warning", "one-tag", message)


def of_masks(catalogue: Catalogue, looks: Mapping[str, MaskLook], *, is_complete: bool = True) -> Iterator[Finding]:
    """Report contradictions between masks and tags, or between masks.

    Args:
        catalogue: The image set.
        looks: Contents of masks, by image.
        is_complete: Whether these are all masks.
    """
    tagged = [catalogue[image_id] for image_id in looks if catalogue[image_id].labels]
    against = [entry.id for entry in tagged if _contradict(set(entry.labels), looks[entry.id].classes)]
    repacked = _repacked(looks.values())
    if len(against) > 1 and 2 * len(against) > len(tagged):
        message = (
            f"tags and masks disagree in {len(against)} of {counted(len(tagged), 'tagged image')} (the first is "
            f"{against[0]!r}): {_likely_reason(catalogue, tagged, looks, repacked)}"
        )
        yield Finding("error", "tags-against-masks", message, tuple(against))
    elif repacked is not None:
        message = (
            f"masks use index {repacked} for different colours in different files; if the colours are the classes, "
        )
        message += "write masks with one palette, or labelmap.txt with the colour of each class"
        yield Finding("warning", "palettes-differ", message)
    elif is_complete:
        absent = [name for k, name in enumerate(catalogue.class_names) if _is_absent(k, tagged, looks)]
        if absent:
            shown = first_few(map(repr, absent))
            message = (
                f"{counted(len(absent), 'class', 'classes')} in tags and in no mask: {shown}; correct the masks, or "
            )
            message += "the order of the classes in classes.txt"
            yield Finding("warning", "class-in-no-mask", message, tuple(absent))


def classes_in_no_mask(catalogue: Catalogue) -> list[str]:
    """Classes in the tags of images with masks that none of these masks has; reads masks until each is found."""
    seen: set[int] = set()
    absent: list[str] = []
    for k, name in enumerate(catalogue.class_names):
        entries = [catalogue[image_id] for image_id in catalogue.carriers(k)]
        masked = [entry for entry in entries if entry.mask is not None]
        for entry in masked:
            if k in seen:
                break
            seen |= look_at_mask(catalogue, entry, colours=False).classes
        if masked and k not in seen:
            absent.append(name)
    return absent


def _contradict(tags: set[int], classes: frozenset[int]) -> bool:
    """Whether each of tags and mask has a class that the other lacks, or the mask has none."""
    return not classes or bool(tags - classes and classes - tags)


def _is_absent(k: int, tagged: Sequence[ImageEntry], looks: Mapping[str, MaskLook]) -> bool:
    carriers = [entry for entry in tagged if k in entry.labels]
    return len(carriers) > 1 and not any(k in look.classes for look in looks.values())


def _repacked(looks: Iterable[MaskLook]) -> int | None:
    """The first index that has different colours in different files, or None."""
    colours: dict[int, tuple[int, int, int]] = {}
    for look in looks:
        for index, colour in look.colours.items():
            if colours.setdefault(index, colour) != colour and index not in (0, IGNORE_INDEX):
                return index
    return None


def _likely_reason(
    catalogue: Catalogue, tagged: Sequence[ImageEntry], looks: Mapping[str, MaskLook], repacked: int | None
) -> str:
    if not any(looks[entry.id].classes for entry in tagged):
        if any(looks[entry.id].ignores for entry in tagged):
            return (
                f"the masks hold 0 and {IGNORE_INDEX} alone, and {IGNORE_INDEX} is ignored; expected 1 for the first "
                "class, 2 for the second; save the masks with these values"
            )
        return "these masks hold background alone; expected 1 for the first class, 2 for the second; save them so"
    if repacked is not None:
        return (
            f"the index {repacked} has different colours in different files, so the palettes were packed anew; write "
            "the masks with one palette, or labelmap.txt with the colour of each class"
        )
    if order := _order(catalogue, tagged, looks):
        listed = ", ".join(order)
        return (
            f"the classes of the masks are in another order, probably {listed}; write it into classes.txt, one a line"
        )
    return "expected each tag in the mask of its image; correct the order in classes.txt, or the masks"


def _order(catalogue: Catalogue, tagged: Sequence[ImageEntry], looks: Mapping[str, MaskLook]) -> list[str] | None:
    """The order of classes in which masks and tags would agree, if each class corresponds to exactly one value."""
    together: dict[int, Counter[int]] = defaultdict(Counter)
    images: Counter[int] = Counter()
    for entry in tagged:
        images.update(looks[entry.id].classes)
        for value in looks[entry.id].classes:
            together[value].update(entry.labels)
    if any(5 * counts.most_common(1)[0][1] < 4 * images[value] for value, counts in together.items()):
        return None
    meant = {value: counts.most_common(1)[0][0] for value, counts in together.items()}
    if len(set(meant.values())) < len(meant):
        return None
    rest = iter(k for k in range(catalogue.num_foreground) if k not in meant.values())
    values = range(catalogue.num_foreground)
    return [catalogue.class_names[meant[value] if value in meant else next(rest)] for value in values]
