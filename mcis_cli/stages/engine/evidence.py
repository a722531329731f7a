"""What a stage says before it works with an image set that probably means something else than it seems to."""

from mcis_cli.config import Reporter
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.evidence import classes_in_no_mask, of_tags, sampled_masks
from mcis_cli.errors import DataError, counted, first_few


def heed_tags(images: Catalogue, reporter: Reporter) -> None:
    """Print what speaks against tags that are about to be learned from; masks, if there are any, are asked too."""
    for finding in (*of_tags(images), *sampled_masks(images)):
        reporter.warn(finding.message)


def heed_masks(images: Catalogue, reporter: Reporter, *, is_learned: bool = False) -> None:
    """Refuse ground truth that contradicts the tags; print a warning where that is not sure.

    Args:
        images: with masks.
        reporter: prints warnings.
        is_learned: whether a network is to learn from the masks: then each class in the tags has to be in one.

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
