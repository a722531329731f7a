"""Pictures of an export: photographs under their masks, and under their localization maps."""

from collections.abc import Iterator
from pathlib import Path

from mcis_cli.data.layouts.listing import id_fault
from mcis_cli.data.palette import voc_palette
from mcis_cli.interop.exports.content import Export
from mcis_cli.interop.exports.files import File
from mcis_cli.report.figures import heat, overlay, png_bytes


def overlay_files(export: Export) -> Iterator[File]:
    """`ID.png`: the photograph with its mask laid over it."""
    for image_id, mask in export.masks():
        yield File(Path(f"{image_id}.png"), png_bytes(overlay(export.read_image(image_id), mask, voc_palette())))


def heat_files(export: Export) -> Iterator[File]:
    """`ID/CLASS.png`: the photograph in grey under the map of a class; a name that is no file's gives its number."""
    for image_id, by_class in export.maps(full_size=True):
        image = export.read_image(image_id) if by_class else None
        for label, array in by_class.items():
            name = export.class_names[label]
            inside = str(label) if "/" in name or id_fault(name) else name
            assert image is not None, "read above"
            yield File(Path(image_id, f"{inside}.png"), png_bytes(heat(image, array)))
