"""Warnings and errors of a stage about an image set that is probably misread."""

from collections.abc import Callable

from jaxtyping import UInt8
from numpy import ndarray

from mcis_cli.config import Reporter
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.evidence import SAMPLE, classes_in, classes_in_no_mask, of_tags, sampled_masks
from mcis_cli.errors import DataError, counted, first_few


def heed_tags(images: Catalogue, reporter: Reporter) -> None:
    """Print findings against tags that are about to be learned from; masks, if any, are read too."""
    for finding in (*of_tags(images), *sampled_masks(images)):
        reporter.warn(finding.message)


def heed_masks(images: Catalogue, reporter: Reporter, *, is_learned: bool = False) -> None:
    """Refuse ground truth that contradicts the tags, or warn if that is uncertain.

    Args:
        images: with masks.
        reporter: prints warnings.
        is_learned: whether a network learns from the masks; then each class in the tags must be in a mask.

    Raises:
        DataError: tags and masks disagree in most images of a sample, or classes in the tags are in no mask.
    """
    for finding in sampled_masks(images):
        if finding.severity == "error":
            raise DataError(f"{finding.message} (`mcis check {images.root}` looks at all)")
        reporter.warn(finding.message)
    absent = classes_in_no_mask(images)
    if not absent:
        return
    tagged = [name for k, name in enumerate(images.class_names) if images.carriers(k)]
    named = f"{counted(len(absent), 'class', 'classes')} in tags and in no mask of split {images.split_name!r}: "
    named += first_few(map(repr, absent))
    if is_learned or set(tagged) == set(absent):
        raise DataError(f"{named}; expected pixels of them; correct the masks, or the order of classes in classes.txt")
    reporter.warn(f"{named}; they are not scored")


def heed_made_masks(
    what: str, images: Catalogue, read: Callable[[str], UInt8[ndarray, "height width"]], reporter: Reporter
) -> None:
    """Warn if most masks that a network is about to learn from have no pixel of their image's tags.

    Args:
        what: how messages call the masks.
        images: those that masks were made of.
        read: from an image id to its mask; a sample is read.
        reporter: prints the warning.
    """
    tagged = [entry for entry in images.entries if entry.labels]
    sample = tagged[:: max(1, len(tagged) // SAMPLE)][:SAMPLE]
    without = [entry.id for entry in sample if not classes_in(read(entry.id)).intersection(entry.labels)]
    if len(without) > 1 and 2 * len(without) > len(sample):
        reporter.warn(
            f"{len(without)} of {len(sample)} {what} that were checked have no pixel of their image's tags (first "
            f"{without[0]!r}); check the maps with `mcis report`, and the settings of the background"
        )


def note_left_out(what: str, images: Catalogue, labelled: Catalogue, reporter: Reporter) -> None:
    """Print how many images are left out because nobody tagged them."""
    if unlabelled := sorted({*images.ids} - {*labelled.ids}):
        shown = first_few(unlabelled)
        reporter.note(f"left out of the {what}: {counted(len(unlabelled), 'image')} without a tag ({shown})")


def learned_ids(images: Catalogue, reporter: Reporter) -> list[str]:
    """The images that a classifier learns from: those with a tag, and the negatives; unlabelled ones are left out.

    Raises:
        DataError: no image has a tag, or all have the same one, so that nothing shows how other images differ.
    """
    learned = [entry for entry in images.entries if entry.is_labelled]
    split = f"split {images.split_name!r} in {images.root}"
    if not any(entry.labels for entry in learned):
        masks = (
            "; its masks may give them with --tags-from-masks, which is pixel supervision"
            if any(entry.mask for entry in images.entries)
            else ""
        )
        raise DataError(f"no image of {split} has a tag: expected one at least{masks}")
    if len(learned) > 1 and len({entry.labels for entry in learned}) == 1 == len(learned[0].labels):
        raise DataError(
            f"all {len(learned)} images of {split} have the one tag {images.class_names[learned[0].labels[0]]!r}, and "
            "nothing shows how other images differ: expected negatives; add images without it, with an empty cell of "
            "tags or in a folder called background"
        )
    if negatives := sum(entry.is_negative for entry in learned):
        reporter.note(f"learns from {counted(negatives, 'negative')}, too: images that show no class")
    ids = [entry.id for entry in learned]
    note_left_out("training", images, images.only(ids), reporter)
    return ids
