"""What stages that make pseudo masks share: the fields of a record, and word of masks that teach nothing."""

from collections.abc import Sequence
from typing import Any

from mcis_cli.config import Reporter
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import counted
from mcis_cli.maps.pseudo import is_ignored
from mcis_cli.store import Artifact, Record, Schema

SCHEMA: Schema = {"mask": ("uint8", 2), "classes": ("int32", 1)}
NUM_NAMED = 5


class Ignored:
    """The masks that are wholly ignored: how many, and the first of them.

    A function of the masks, so of no use in their identity: it is kept in the provenance, and told again whenever the
    masks are found done.

    Attributes:
        facts: `count` and `first`.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {"count": 0, "first": []}

    def add(self, record: Record) -> None:
        """Take in a mask; they come in the order of their ids."""
        image_id, fields = record
        if is_ignored(fields["mask"]):
            self.facts["count"] += 1
            if len(self.facts["first"]) <= NUM_NAMED:
                self.facts["first"].append(image_id)


def tell_ignored(masks: Artifact, reporter: Reporter) -> None:
    """Warn of masks that are wholly ignored."""
    ignored = masks.provenance.get("ignored", {"count": 0, "first": []})  # masks of before do not tell
    if ignored["count"]:
        reporter.warn(f"wholly ignored: {ignored['count']} of {len(masks)} masks: {named(ignored['first'])}")


def tell_untagged(images: Catalogue, reporter: Reporter) -> None:
    """Warn of images without a tag, whose masks are background."""
    untagged = [entry.id for entry in images.entries if not entry.labels]
    if untagged:
        reporter.warn(f"no object in the masks of {counted(len(untagged), 'image')} without a tag: {named(untagged)}")


def named(ids: Sequence[str]) -> str:
    """The first of some ids."""
    return ", ".join(ids[:NUM_NAMED]) + (", …" if len(ids) > NUM_NAMED else "")
