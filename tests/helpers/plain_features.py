"""Features of an image, computed anew: what cached ones, and the maps made of them, are compared with."""

import torch
from torch import Tensor

from mcis_cli.data.augment import normalise, warp
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.stages.engine.networks import backbone_of

SIZE = 64
CPU = torch.device("cpu")


def features_of(
    model: CoAttentionClassifier, images: Catalogue, image_id: str, *, scale: float = 1.0, mirrored: bool = False
) -> Tensor:
    """Features of an image that is `SIZE * scale` pixels wide and high."""
    pixels = warp(images.read_image(image_id), round(SIZE * scale))
    backbone = backbone_of(model)
    tensor = normalise(pixels[:, ::-1] if mirrored else pixels, backbone.mean, backbone.std)
    with torch.inference_mode():
        return model.features(tensor[None])
