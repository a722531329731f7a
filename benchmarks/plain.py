"""The baselines: what a reader of the papers and of the released code would write first, without any of our shortcuts.

Batches of one, every pair forwarded in full, float32, default memory format. Nothing here is used by `mcis`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mcis_cli.models.classifier import CoAttentionClassifier


@torch.no_grad()
def pair_activation(model: CoAttentionClassifier, image_m: Tensor, image_n: Tensor) -> tuple[Tensor, Tensor]:
    """φ of the co-attentive features of both images of a pair, (1, K, h, w) each: Eq. 2-4 as they are written."""
    features_m, features_n = model.backbone(image_m), model.backbone(image_n)
    flat_m, flat_n = features_m.flatten(2), features_n.flatten(2)
    affinity = flat_m.transpose(1, 2) @ (model.co_attention.affinity_weight @ flat_n)
    attention_over_m = torch.softmax(affinity, dim=1)
    attention_over_n = torch.softmax(affinity.transpose(1, 2), dim=1)
    coattentive_m = (flat_n @ attention_over_n).view_as(features_m)
    coattentive_n = (flat_m @ attention_over_m).view_as(features_n)
    head = model.class_head if model.co_class_head is None else model.co_class_head
    return head(coattentive_m), head(coattentive_n)


def paper_maps(
    model: CoAttentionClassifier, image: Tensor, references: Mapping[int, Sequence[Tensor]]
) -> NDArray[np.float32]:
    """The paper's maps of one image: mean over the references of each class (§3.2)."""
    maps = [
        torch.stack([pair_activation(model, image, other)[0][0, k] for other in others]).mean(0)
        for k, others in references.items()
    ]
    return torch.stack(maps).cpu().numpy()


def released_maps(
    model: CoAttentionClassifier, views: Sequence[Tensor], references: Mapping[int, Sequence[Tensor]]
) -> NDArray[np.float32]:
    """The released code's maps of one image: four from the image paired with views of itself, and the paper's.

    `views` are the image, its mirror, and what its 0.75× and 2× warps show.
    """
    classes, (image, mirror, small, large) = list(references), views
    own, of_mirror = (one[0, classes] for one in pair_activation(model, image, mirror))
    parts = [own, of_mirror.flip(-1)]
    for scaled in (small, large):
        asked = pair_activation(model, image, scaled)[1][:, classes]
        parts.append(functional.interpolate(asked, size=own.shape[1:], mode="bicubic", align_corners=False)[0])
    planes = [part.cpu().numpy() for part in parts] + [paper_maps(model, image, references)]
    total = np.zeros(planes[0].shape)
    for place, part in enumerate(planes):
        for row, plane in enumerate(part):
            if place and 1 / (1 + np.exp(-plane.mean())) <= 0.1:
                continue
            positive = np.maximum(plane, 0)
            total[row] += positive / (positive.max() + 1e-8) * 255
    return np.asarray((total / len(planes)).astype(np.uint8) / 255, dtype=np.float32)


def pair_loss(
    model: CoAttentionClassifier, image_m: Tensor, image_n: Tensor, labels_m: Tensor, labels_n: Tensor
) -> Tensor:
    """Eq. 1-10 for a batch of pairs: two forwards, all features mixed and masked, the head applied to each kind."""
    features_m, features_n = model.backbone(image_m), model.backbone(image_n)
    flat_m, flat_n = features_m.flatten(2), features_n.flatten(2)
    affinity = flat_m.transpose(1, 2) @ (model.co_attention.affinity_weight @ flat_n)
    coattentive_m = (flat_n @ torch.softmax(affinity.transpose(1, 2), dim=1)).view_as(features_m)
    coattentive_n = (flat_m @ torch.softmax(affinity, dim=1)).view_as(features_n)
    common = labels_m * labels_n
    total = image_m.new_zeros(())
    sides = ((features_m, coattentive_m, labels_m), (features_n, coattentive_n, labels_n))
    for features, coattentive, labels in sides:
        mask = torch.sigmoid(model.co_attention.mask_conv(coattentive))
        kinds = ((features, labels), (coattentive, common), (features * (1 - mask), labels - common))
        for kind, target in kinds:
            scores = model.class_head(kind).mean(dim=(2, 3))
            total = total + functional.binary_cross_entropy_with_logits(scores, target)
    return total


def pseudo_mask(
    maps: NDArray[np.float32], classes: Sequence[int], saliency: NDArray[np.uint8], num_foreground: int
) -> NDArray[np.uint8]:
    """The released rules for one image: a full-size plane for every class, as the released code has."""
    height, width = saliency.shape
    scores = np.zeros((num_foreground + 1, height, width), np.float32)
    scores[0] = 1 - saliency.astype(np.float32) / 255
    for plane, k in zip(maps, classes, strict=True):
        enlarged = functional.interpolate(
            torch.from_numpy(plane)[None, None], size=(height, width), mode="bilinear", align_corners=False
        )[0, 0].numpy()
        low, high = enlarged.min(), enlarged.max()
        scores[k + 1] = (enlarged - low) / (high - low) if high > low else 0
    strong = (scores[1:] > 0.95).sum(axis=0) > 0
    scores[scores < 0.3] = 0
    mask: NDArray[np.uint8] = scores.argmax(axis=0).astype(np.uint8)
    mask[(scores > 0.99).sum(axis=0) > 1] = 255
    mask[(mask == 0) & ((saliency >= 32) | strong)] = 255
    if ((mask > 0) & (mask < 255)).mean() < 0.01:
        mask[:] = 255
    return mask
