"""Tags taken from the masks of images. That is pixel supervision, so it happens only if a setting requests it."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from mcis_cli.data.catalogue import IGNORE_INDEX
from mcis_cli.data.facts import Facts, file_facts
from mcis_cli.data.images import decode_mask
from mcis_cli.data.layouts.listing import Finding, Item, Listing
from mcis_cli.errors import DataError
from mcis_cli.store import StatCache

KIND = "mask-values-2"


def with_tags_of_masks(listing: Listing, cache: StatCache | None = None) -> Listing:
    """A listing whose tags are the classes in each mask; images without a mask have none.

    A mask of background, ignored pixels aside, makes its image a negative. One that is wholly ignored shows nothing.

    Args:
        listing: an image set without tags, with class names and masks.
        cache: The store's stat cache; without it every mask is read.

    Raises:
        DataError: There are tags already, there is no mask, or one cannot be read or has a value that is not a class.
    """
    if any(item.tags for item in listing.items):
        raise DataError(
            f"{listing.root} has tags, from {listing.tag_source}: none are taken from masks; leave out "
            "--tags-from-masks (data.tags_from_masks), or the tags"
        )
    masked = [item for item in listing.items if item.mask is not None]
    if not masked:
        raise DataError(f"no masks in {listing.root} to take tags from; expected them in the folder data.masks names")
    files = [listing.root / str(item.mask) for item in masked]
    tagged: dict[str, Item] = {}
    findings: list[Finding] = []
    colours = listing.mask_colours
    kind = f"{KIND}-{_digest(colours)}" if colours else KIND
    for item, facts in zip(masked, file_facts(files, kind, partial(_values, colours), cache), strict=True):
        if isinstance(facts, DataError):
            findings.append(Finding("error", "unreadable-mask", str(facts), (item.id,)))
            continue
        outside = [value for value in facts["values"] if value > len(listing.class_names)]
        if outside:
            message = (
                f"{listing.root / str(item.mask)}: mask value {outside[0]}; expected 0 to {len(listing.class_names)} "
                f"or {IGNORE_INDEX}; correct the mask or the classes"
            )
            findings.append(Finding("error", "bad-mask", message, (item.id,)))
            continue
        tags = frozenset(listing.class_names[value - 1] for value in facts["values"])
        shows_no_class = facts["background"] and not tags
        tagged[item.id] = replace(item, tags=tags, is_negative=item.is_negative or shows_no_class)
    return replace(
        listing,
        items=tuple(tagged.get(item.id, item) for item in listing.items),
        tag_source="the masks, which is pixel supervision",
        findings=(*listing.findings, *findings),
    )


def _digest(colours: Mapping[tuple[int, int, int], int]) -> str:
    return hashlib.sha256(repr(sorted(colours.items())).encode()).hexdigest()[:16]


def _values(colours: Mapping[tuple[int, int, int], int], content: bytes, name: str) -> Facts:
    values = np.unique(decode_mask(content, name, colours)).tolist()
    return {"values": [value for value in values if value not in (0, IGNORE_INDEX)], "background": 0 in values}
