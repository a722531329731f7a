"""`import --weights` and `--affinity-net`: files of weights become artifacts, for trainings and walks."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from mcis_cli.config import Backbone, RunOptions
from mcis_cli.errors import WeightsError, counted
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.equivariance import PixelCorrelation
from mcis_cli.models.layers import listed, misfits
from mcis_cli.models.pairwise_affinity import PairwiseAffinity
from mcis_cli.stages.affinity.declaration import AFFINITY_NET
from mcis_cli.stages.engine.by_image import provenance_of
from mcis_cli.stages.engine.networks import build_affinity_net, initialise, tensors_of
from mcis_cli.stages.materials import WEIGHTS
from mcis_cli.store import Artifact, Recipe, Store
from mcis_cli.training.initial_weights import InitialWeights

OUTPUT_STRIDE, RADIUS = 8, 5  # of the authors' AffinityNet
Made = tuple[dict[str, NDArray[Any]], Mapping[str, Any]]


def run(backbone: Backbone, initial: InitialWeights, store: Store, options: RunOptions) -> Artifact:
    """Import initial weights, or return the cached ones.

    Args:
        backbone: their network.
        initial: the file, read and checked.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        WeightsError: they do not fit the backbone.
    """

    def make() -> Made:
        network = build_backbone(backbone, generator=torch.Generator().manual_seed(0))
        try:
            network.initialise(initial.state)
        except WeightsError as error:  # this error names the layers; the file's name is added here
            raise WeightsError(f"{initial.source}: {error}") from None
        tensors = tensors_of(network.trunk)
        correlation = PixelCorrelation(network.tap_channels)
        if correlation.initialise(initial.state):
            tensors |= tensors_of(correlation)
        return tensors, {"backbone": backbone, "source": _identity(initial)}

    return _import(WEIGHTS.imported({"backbone": backbone}, file=initial.digest), initial, make, store, options)


def run_affinity_net(backbone: Backbone, initial: InitialWeights, store: Store, options: RunOptions) -> Artifact:
    """Import a trained AffinityNet in its authors' naming, or return the cached one.

    Args:
        backbone: the network under its new layers (`f8_3`, `f8_4`, `f8_5`, `f9`).
        initial: the file, read and checked.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        WeightsError: names or shapes do not fit; it lists them.
    """
    description = {"backbone": backbone, "output_stride": OUTPUT_STRIDE, "radius": RADIUS}

    def make() -> Made:
        torch.manual_seed(0)  # all random weights are replaced
        network = build_affinity_net(description)
        _take(network, initial)
        return tensors_of(network), {"model": description, "initialisation": initial.identity[: len("sha256:") + 12]}

    return _import(AFFINITY_NET.imported({"backbone": backbone}, file=initial.digest), initial, make, store, options)


def _import(
    recipe: Recipe, initial: InitialWeights, make: Callable[[], Made], store: Store, options: RunOptions
) -> Artifact:
    with store.begin(recipe, on_wait=lambda pid: options.reporter.note(f"waiting for process {pid}")) as partial:
        if done := store.find(recipe):
            return done
        options.reporter.start("import", 1)
        with provenance_of(options) as provenance:
            tensors, meta = make()
        return partial.seal_tensors(tensors, meta, {**provenance, "file": initial.source})


def _identity(initial: InitialWeights) -> str:
    """A short description of weights, with the name of a published file, and without that of others."""
    return initial.identity[: len("sha256:") + 12] if initial.identity.startswith("sha256:") else initial.identity


def _take(network: PairwiseAffinity, initial: InitialWeights) -> None:
    """Load the tensors of a file into a network: new layers by their names, the backbone as published weights."""
    own = {name: value for name, value in network.state_dict().items() if not name.startswith("backbone.")}
    new = {name: value for name, value in initial.state.items() if name.startswith(("f8_", "f9.", "gn8_"))}
    if wrong := misfits(own, new):
        raise WeightsError(
            f"{initial.source}: the new layers of AffinityNet do not fit {network.backbone.name}: "
            f"{counted(len(wrong), 'tensor')} of another kind ({listed(wrong)}); choose the "
            "network under them with --backbone"
        )
    rest = {name: value for name, value in initial.state.items() if name not in new}
    initialise(network, InitialWeights(rest, initial.source, initial.digest, initial.identity))
    network.load_state_dict({**network.state_dict(), **new})
