"""`import --weights`: a file of initial weights becomes an artifact that both trainings take with `--weights`."""

import torch

from mcis_cli.config import Backbone, RunOptions
from mcis_cli.errors import WeightsError
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.equivariance import PixelCorrelation
from mcis_cli.stages.engine.by_image import provenance_of
from mcis_cli.stages.engine.networks import tensors_of
from mcis_cli.stages.materials import WEIGHTS
from mcis_cli.store import Artifact, Store
from mcis_cli.training.initial_weights import InitialWeights


def run(backbone: Backbone, initial: InitialWeights, store: Store, options: RunOptions) -> Artifact:
    """Import the weights, or return them if that was done before.

    Args:
        backbone: what they are for.
        initial: the file, read and checked.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        WeightsError: they do not fit the backbone.
    """
    recipe = WEIGHTS.imported({"backbone": backbone}, file=initial.digest)
    with store.begin(recipe, on_wait=lambda pid: options.reporter.note(f"waiting for process {pid}")) as partial:
        if done := store.find(recipe):
            return done
        options.reporter.start("import", 1)
        network = build_backbone(backbone, generator=torch.Generator().manual_seed(0))
        try:
            network.initialise(initial.state)
        except WeightsError as error:  # which names the layers; the file is known here
            raise WeightsError(f"{initial.source}: {error}") from None
        with provenance_of(options) as provenance:
            tensors = tensors_of(network.trunk)
            correlation = PixelCorrelation(network.tap_channels)
            if correlation.initialise(initial.state):
                tensors |= tensors_of(correlation)
        # The name of the file is no part of what they are; that of a published file is.
        source = initial.identity[: len("sha256:") + 12] if initial.identity.startswith("sha256:") else initial.identity
        return partial.seal_tensors(
            tensors, {"backbone": backbone, "source": source}, {**provenance, "file": initial.source}
        )
