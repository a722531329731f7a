"""Pictures of an export: photographs under their masks, and under their localization maps."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jaxtyping import Float, UInt8
from numpy import ndarray

from mcis_cli.data.layouts.listing import id_fault
from mcis_cli.data.palette import voc_palette
from mcis_cli.interop.exports.files import File, Mask
from mcis_cli.report.figures import heat, overlay, png_bytes

Photograph = UInt8[ndarray, "height width 3"]
ReadImage = Callable[[str], Photograph]


def overlay_files(masks: Iterable[tuple[str, Mask]], read_image: ReadImage) -> Iterator[File]:
    """`ID.png`: the photograph with its mask laid over it.

    Args:
        masks: ids with masks.
        read_image: the photograph of an id.
    """
    for image_id, mask in masks:
        yield File(Path(f"{image_id}.png"), png_bytes(overlay(read_image(image_id), mask, voc_palette())))


def heat_files(
    maps: Iterable[tuple[str, Mapping[int, Float[ndarray, "height width"]]]],
    read_image: ReadImage,
    class_names: Sequence[str],
) -> Iterator[File]:
    """`ID/CLASS.png`: the photograph in grey under the map of a class; a name that is no file's gives its number.

    Args:
        maps: ids with maps by class, in [0, 1], of the photograph's size.
        read_image: the photograph of an id.
        class_names: foreground classes.
    """
    for image_id, by_class in maps:
        image = read_image(image_id) if by_class else None
        for label, array in by_class.items():
            name = class_names[label]
            inside = str(label) if "/" in name or id_fault(name) else name
            assert image is not None, "read above"
            yield File(Path(image_id, f"{inside}.png"), png_bytes(heat(image, array)))
