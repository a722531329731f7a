"""`import --affinity-net`: a trained AffinityNet in its authors' naming becomes an artifact that maps can walk by."""

import torch

from mcis_cli.config import Backbone, RunOptions
from mcis_cli.errors import WeightsError, counted
from mcis_cli.models.misfits import listed, misfits
from mcis_cli.models.pairwise_affinity import PairwiseAffinity
from mcis_cli.stages.affinity.declaration import AFFINITY_NET
from mcis_cli.stages.engine.by_image import provenance_of
from mcis_cli.stages.engine.networks import build_affinity_net, initialise, tensors_of
from mcis_cli.store import Artifact, Store
from mcis_cli.training.initial_weights import InitialWeights

OUTPUT_STRIDE, RADIUS = 8, 5  # of the authors' network


def run(backbone: Backbone, initial: InitialWeights, store: Store, options: RunOptions) -> Artifact:
    """Import the network, or return it if that was done before.

    Args:
        backbone: what is under its new layers (`f8_3`, `f8_4`, `f8_5`, `f9`).
        initial: the file, read and checked.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        WeightsError: names or shapes do not fit; it lists them.
    """
    recipe = AFFINITY_NET.imported({"backbone": backbone}, file=initial.digest)
    with store.begin(recipe, on_wait=lambda pid: options.reporter.note(f"waiting for process {pid}")) as partial:
        if done := store.find(recipe):
            return done
        options.reporter.start("import", 1)
        description = {"backbone": backbone, "output_stride": OUTPUT_STRIDE, "radius": RADIUS}
        torch.manual_seed(0)  # all that is drawn is replaced
        network = build_affinity_net(description)
        _take(network, initial)
        with provenance_of(options) as provenance:
            tensors = tensors_of(network)
        meta = {"model": description, "initialisation": initial.identity[: len("sha256:") + 12]}
        return partial.seal_tensors(tensors, meta, {**provenance, "file": initial.source})


def _take(network: PairwiseAffinity, initial: InitialWeights) -> None:
    """Give a network the tensors of a file: the new layers' by their names, the backbone's as published weights."""
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
