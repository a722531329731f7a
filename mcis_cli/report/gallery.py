"""A picture of what the stages made of a few images: photograph, maps, pseudo mask, prediction, ground truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.palette import voc_palette
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.report.figures import heat, legend_of, overlay, panel
from mcis_cli.store import Artifact


def stage_gallery(
    images: Catalogue,
    ids: Sequence[str],
    *,
    maps: Mapping[str, Artifact],
    masks: Mapping[str, Artifact],
    predictions: Mapping[str, Mapping[str, NDArray[np.uint8]]],
) -> Image.Image:
    """One row for each image: itself, the map of its first class, masks, predictions, and ground truth if there is any.

    Args:
        images: the data set.
        ids: which of its images, all in the artifacts.
        maps: caption to `cams` artifact.
        masks: caption to `pseudo` artifact.
        predictions: caption to masks by image id.

    Returns:
        An RGB picture.
    """
    pictures: list[UInt8[np.ndarray, "_ _ 3"]] = []
    captions: list[str] = []
    shown: list[NDArray[np.uint8]] = []
    palette = voc_palette()

    def add(picture: NDArray[np.uint8], caption: str) -> None:
        pictures.append(picture)
        captions.append(caption)

    for image_id in ids:
        image = images.read_image(image_id)
        add(image, ", ".join(images.class_names[k] for k in images[image_id].labels))
        for caption, artifact in maps.items():
            fields = artifact.read(image_id)
            largest = normalise(enlarge(fields["maps"][:1].astype(np.float32), *image.shape[:2]), "minmax")[0]
            add(heat(image, largest), f"{caption}: {images.class_names[int(fields['classes'][0])]}")
        found = {caption: artifact.read(image_id)["mask"] for caption, artifact in masks.items()}
        found |= {caption: by_id[image_id] for caption, by_id in predictions.items()}
        if images[image_id].mask is not None:
            found["ground truth"] = images.read_mask(image_id)
        for caption, mask in found.items():
            add(overlay(image, mask, palette), caption)
            shown.append(mask)
    columns = len(pictures) // len(ids)
    return panel(pictures, captions, columns=columns, legend=legend_of(shown, images.class_names, palette))
