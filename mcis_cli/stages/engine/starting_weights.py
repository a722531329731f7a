"""Initial weights of a training: published ones, a file, or an imported artifact."""

from pathlib import Path

from mcis_cli.errors import MissingError, WeightsError
from mcis_cli.stages.materials import WEIGHTS
from mcis_cli.stages.stage import Lack
from mcis_cli.store import Artifact
from mcis_cli.training.initial_weights import (
    PACKAGED,
    InitialWeights,
    initial_weights_identity,
    load_initial_weights,
    missing_weights,
)


def starting_identity(backbone: str, weights: str | None) -> str:
    """The identity of the initial weights in a recipe: by content, for any path. Imports no torch.

    Args:
        backbone: its name.
        weights: a file, perhaps of an artifact, or None for the published ones.

    Raises:
        WeightsError: the file cannot be read, the artifact holds other weights, or there are no published ones.
    """
    artifact = _artifact(backbone, weights)
    return artifact.id if artifact else initial_weights_identity(backbone, Path(weights) if weights else None)


def lacking_weights(backbone: str, weights: str | None) -> Lack | None:
    """The lack of initial weights on this machine: they would be downloaded, or a package is missing."""
    missing = None if weights is not None else missing_weights(backbone)
    return None if missing is None else Lack(missing, stops=backbone in PACKAGED)


def load_starting(backbone: str, weights: str | None) -> InitialWeights:
    """Read the initial weights of a training; see `starting_identity`.

    Raises:
        WeightsError: no file, no download, or a file that is not a flat mapping of finite tensors.
        DamagedError: the artifact is damaged.
    """
    artifact = _artifact(backbone, weights)
    if artifact is None:
        return load_initial_weights(backbone, Path(weights) if weights else None)
    import torch

    state = {name: torch.from_numpy(tensor) for name, tensor in artifact.tensors().items()}
    if strange := [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]:
        raise WeightsError(f"{artifact.path} has values that are not finite at {strange[0]!r:.80}: expected none")
    return InitialWeights(state=state, source=artifact.meta["source"], digest=artifact.id, identity=artifact.id)


def _artifact(backbone: str, weights: str | None) -> Artifact | None:
    if weights is None or Path(weights).suffix != ".h5":
        return None
    try:
        found = Artifact(Path(weights).resolve())
    except MissingError:
        raise WeightsError(f"{weights} cannot be read: found no such file; expected one of `mcis ls`") from None
    if found.stage != WEIGHTS.name:
        raise WeightsError(
            f"{found.path.name} was made by {found.stage}: expected weights; `mcis import --weights FILE` makes them"
        )
    WEIGHTS.check(found)
    if found.meta["backbone"] != backbone:
        raise WeightsError(
            f"{found.path.name} holds weights of {found.meta['backbone']}: expected those of {backbone}; choose the "
            "network with --backbone"
        )
    return found
