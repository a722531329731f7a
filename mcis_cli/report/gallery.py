"""A figure of the results of a few images: photograph, maps, pseudo mask, prediction, ground truth."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.palette import voc_palette
from mcis_cli.errors import plain
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.report.figures import Colour, heat, legend_of, overlay
from mcis_cli.report.plotting import drawing, png_of
from mcis_cli.store import Artifact

_TILE, _LINE = 3.2, 0.23  # inches: the width of an image, the height of a line of text
_DPI = 100


def stage_gallery(
    images: Catalogue,
    ids: Sequence[str],
    *,
    maps: Mapping[str, Artifact],
    masks: Mapping[str, Artifact],
    predictions: Mapping[str, Mapping[str, NDArray[np.uint8]]],
) -> bytes:
    """One row for each image: itself, the map of its first class, masks, predictions, and ground truth if there is any.

    Args:
        images: the data set.
        ids: which of its images, all in the artifacts.
        maps: caption to `cams` artifact.
        masks: caption to `pseudo` artifact.
        predictions: caption to masks by image id.

    Returns:
        A PNG.
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


def panel(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[str],
    *,
    columns: int,
    legend: Sequence[tuple[str, Colour]] = (),
) -> bytes:
    """Images in rows and columns with a caption under each, and a legend of colours below, as PNG.

    Args:
        images: RGB images of any sizes, row by row.
        captions: one an image, "" for none. Wrapped to two lines; longer ones end in an ellipsis.
        columns: images in a row.
        legend: names and colours, as from `legend_of`.
    """
    assert len(images) == len(captions) > 0, f"{len(captions)} captions for {len(images)} images"
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    heights = [max(_TILE * image.shape[0] / image.shape[1] for image in row) + 2 * _LINE for row in rows]
    entries = [(_short(name, 40, lines=1), "#" + bytes(colour).hex()) for name, colour in legend]
    keys = max(1, int(columns * _TILE / (0.5 + 0.09 * max((len(name) for name, _ in entries), default=1))))
    size = columns * _TILE, sum(heights) + _LINE * 1.2 * -(-len(entries) // keys)
    with drawing():
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        figure = Figure(figsize=size, layout="constrained")
        places = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights).ravel()
        for place, image, caption in zip(places, images, captions, strict=False):
            place.imshow(image)
            place.set_xlabel(_short(caption, 34, lines=2), size=11)
        for place in places:
            place.set(xticks=(), yticks=())
            place.spines[:].set_visible(False)
        if entries:
            patches = [Patch(color=colour) for _, colour in entries]
            figure.legend(
                patches,
                [name for name, _ in entries],
                loc="outside lower left",
                ncols=keys,
                frameon=False,
                fontsize=11,
                handlelength=1,
                handleheight=1,
            )
        return png_of(figure, dpi=_DPI)


def _short(text: str, width: int, *, lines: int) -> str:
    return "\n".join(textwrap.wrap(plain(text), width, max_lines=lines, placeholder="…"))
