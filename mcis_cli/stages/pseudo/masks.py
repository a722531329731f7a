"""What stages that make pseudo masks share: the fields of a record, what a network says, and word of masks that teach
nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from mcis_cli.config import PseudoConfig, Reporter, RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import NUM_NAMED, counted, first_few
from mcis_cli.maps.pseudo import among_tags, is_ignored
from mcis_cli.store import Artifact, Record

WINDOW = 1024  # longest side of one forward pass, as `eval` has it by default


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
        reporter.warn(f"wholly ignored: {ignored['count']} of {len(masks)} masks: {first_few(ignored['first'])}")


def tell_untagged(images: Catalogue, reporter: Reporter) -> None:
    """Warn of images that nobody tagged, whose masks are background; those of negatives are meant to be."""
    untagged = [entry.id for entry in images.entries if not entry.is_labelled]
    if untagged:
        reporter.warn(
            f"no object in the masks of {counted(len(untagged), 'image')} without a tag: {first_few(untagged)}"
        )


def settled_here(config: PseudoConfig, options: RunOptions) -> tuple[PseudoConfig, Mapping[str, Any]]:
    """The settings with the precision of this machine, and what it is, for the provenance."""
    from mcis_cli.training.precision import choose_device, choose_precision, describe_machine

    device = choose_device(options.device, options.local)
    precision = choose_precision(config.precision, device)
    return config.model_copy(update={"precision": precision}), describe_machine(device, precision)


def predictions(
    config: PseudoConfig, network: Artifact, options: RunOptions
) -> Callable[[UInt8[np.ndarray, "height width 3"], Sequence[int]], Float32[np.ndarray, "kept height width"]]:
    """From an image and its tags to what a network predicts among them, over scales and mirror as the settings say."""
    from mcis_cli.stages.engine.predictor import load_segmenter
    from mcis_cli.training.precision import choose_device, choose_precision

    device = choose_device(options.device, options.local)
    segmenter = load_segmenter(
        network,
        scales=config.scales,
        flip=config.flip,
        window=WINDOW,
        device=device,
        precision=choose_precision(config.precision, device),
    )
    return lambda image, classes: among_tags(segmenter.probabilities(image), classes)
