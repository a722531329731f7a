"""An affinity network applied to an image: how similar each position is to its neighbours."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from mcis_cli.data.augment import normalise
from mcis_cli.models.pairwise_affinity import Offset, PairwiseAffinity, affinities, pair_offsets
from mcis_cli.stages.engine.networks import backbone_of, place, stored_affinity_net
from mcis_cli.store import Artifact
from mcis_cli.training.precision import Precision, autocast


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """A trained network and how to apply it to an image.

    Attributes:
        model: the network, in evaluation mode.
        offsets: (down, right) of the neighbours, one of each two opposite ones.
        device: where the network is.
        precision: of its matrix products.
    """

    model: PairwiseAffinity
    offsets: tuple[Offset, ...]
    device: torch.device
    precision: Precision

    @property
    def output_stride(self) -> int:
        """Pixels of the image for each position."""
        return backbone_of(self.model).output_stride

    @torch.inference_mode()
    def planes(self, image: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "offset h w"]:
        """Affinities by offset; see `models.pairwise_affinity`."""
        backbone = backbone_of(self.model)
        batch = normalise(image, backbone.mean, backbone.std)[None]
        batch = batch.to(self.device, memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            embedding = self.model(batch)
        found = affinities(embedding.float(), self.offsets)
        return np.asarray(found[0].cpu().numpy(), dtype=np.float32)


def load_neighbours(artifact: Artifact, *, device: torch.device, precision: Precision) -> Neighbours:
    """The network of a checked `affinity-net` artifact, ready for images.

    Raises:
        DamagedError: it does not fit its own description.
    """
    model = stored_affinity_net(artifact)
    place(model, device)
    model.eval()
    offsets = pair_offsets(artifact.meta["model"]["radius"])
    return Neighbours(model=model, offsets=offsets, device=device, precision=precision)
