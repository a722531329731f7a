"""The evidence for the maps of an image: its attention over each reference, and the map from that (§3.2).

This is not a stage of the chain, and stores nothing. The references are those that the maps record.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn import functional

from mcis_cli.config import RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.models.co_attention import mix
from mcis_cli.stages import read_record
from mcis_cli.stages.cams.features import FeatureCache, View
from mcis_cli.stages.engine.networks import build_classifier, load_tensors, place
from mcis_cli.store import Artifact
from mcis_cli.training.precision import choose_device, choose_precision

QUERY_CELLS, REFERENCE_CELLS = 12, 24


@dataclass(frozen=True)
class Evidence:
    """The evidence of one reference for one image.

    Attributes:
        reference: its id.
        attention: for each cell of the image, weights over the cells of the reference that sum to one. Both grids cover
            the square that images are warped to, and are reduced to `QUERY_CELLS` and `REFERENCE_CELLS`.
        localization_map: the map from it, unnormalised, on the image's own grid.
    """

    reference: str
    attention: Float32[np.ndarray, "h_q w_q h_r w_r"]
    localization_map: Float32[np.ndarray, "h w"]


@dataclass(frozen=True)
class Looked:
    """One class of one image: its maps with and without references.

    Attributes:
        image_id: the image.
        class_index: the foreground class, from 0.
        alone: the single-round map, of the image by itself.
        evidence: of each reference.
    """

    image_id: str
    class_index: int
    alone: Float32[np.ndarray, "h w"]
    evidence: tuple[Evidence, ...]


def references_of(maps: Artifact, image_id: str) -> Mapping[str, Sequence[str]]:
    """The references that the maps of an image were made with, by class name; none if the maps do not name them."""
    try:
        named = json.loads(bytes(read_record(maps, image_id)["references"]).decode())
    except (ValueError, RecursionError):
        return {}
    if not isinstance(named, dict):
        return {}
    return {str(name): [str(one) for one in ids] for name, ids in named.items() if isinstance(ids, list) and ids}


def look(
    classifier: Artifact, maps: Artifact, images: Catalogue, asked: Sequence[tuple[str, int]], options: RunOptions
) -> Iterator[Looked]:
    """Compute the attention of some images again: at scale 1, not mirrored, one reference at a time.

    Args:
        classifier: that the maps were made with.
        maps: of `cams`.
        images: the data set.
        asked: image id and class (from 0); those whose references no longer exist are left out.
        options: how to run on this machine.
    """
    device = choose_device(options.device)
    model = build_classifier(classifier.meta["model"])
    load_tensors(model, classifier)
    place(model, device)
    model.eval()
    config = maps.manifest["recipe"]["config"]
    features = FeatureCache(
        model,
        images.read_image,
        image_size=int(config.get("image_size") or classifier.meta["image_size"]),
        device=device,
        precision=choose_precision("auto", device),
        budget=options.cache_mb * 2**20,
    )
    for image_id, class_index in asked:
        named = references_of(maps, image_id).get(images.class_names[class_index], ())
        references = [one for one in dict.fromkeys(named) if one in images]
        if not references:
            continue
        with torch.inference_mode():
            own = features(image_id, View())
            evidence = []
            for reference in references:
                other = features(reference, View())
                single = (torch.tensor([images[one].domain == "single-label"]) for one in (image_id, reference))
                pair = own.features[None].float(), other.features[None].float()
                over_reference = model.co_attention.attentions(*pair, *single)[1][0]
                found = mix(other.co_activations[class_index][None], over_reference, own.features.shape[1:])[0]
                coarse = _coarse(over_reference, own.features.shape[1:], other.features.shape[1:])
                evidence.append(Evidence(reference, coarse, found.float().cpu().numpy()))
            alone = own.activations[class_index].float().cpu().numpy()
        yield Looked(image_id, class_index, alone, tuple(evidence))


def _coarse(
    over_reference: torch.Tensor, query: Sequence[int], reference: Sequence[int]
) -> Float32[np.ndarray, "h_q w_q h_r w_r"]:
    """Attention between coarser grids: the mean over each cell of the image, sums over the reference's."""
    grids = over_reference.float().mT.reshape(1, query[0] * query[1], *reference)
    cells = min(reference[0], REFERENCE_CELLS), min(reference[1], REFERENCE_CELLS)
    grids = functional.adaptive_avg_pool2d(grids, cells)
    grids = grids.reshape(*query, cells[0] * cells[1]).permute(2, 0, 1)[None]
    asked = min(query[0], QUERY_CELLS), min(query[1], QUERY_CELLS)
    grids = functional.adaptive_avg_pool2d(grids, asked)[0].permute(1, 2, 0)
    total = grids.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    result = (grids / total).reshape(*grids.shape[:2], *cells)
    return np.asarray(result.cpu().numpy(), dtype=np.float32)
