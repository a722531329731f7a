"""The formats of `mcis export`: each is a function in its own file, and has one entry here."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcis_cli.errors import UsageError

if TYPE_CHECKING:
    from mcis_cli.interop.exports.content import Export, File
    from mcis_cli.stages.stage import Kind

MASKS: tuple["Kind", ...] = ("pseudo masks", "network")
MAPS: tuple["Kind", ...] = ("maps", "walked maps")


@dataclass(frozen=True)
class Format:
    """A format of an export.

    Attributes:
        flag: that asks for it.
        help: of the flag.
        kinds: of artifacts that it can be made of; the first is used where none is named.
        made_by: `module:function` of this package, imported when the files are made; it takes an
            `interop.exports.content.Export` and yields the files. "" for the network itself.
        needs_images: whether it asks anything of the image set.
        photographs: the folder that `--images` copies photographs to; None where there is no place for them.
        is_flat: whether that folder has no folders of its own; a slash in an id becomes "_".
    """

    flag: str
    help: str
    kinds: tuple["Kind", ...]
    made_by: str = ""
    needs_images: bool = False
    photographs: str | None = None
    is_flat: bool = False

    def files(self, content: "Export") -> "Iterator[File]":
        """The files, made as they are asked for."""
        module, _, function = self.made_by.partition(":")
        made: Iterator[File] = getattr(import_module(f"mcis_cli.{module}"), function)(content)
        return made


FORMATS = (
    Format(
        "--voc",
        "Masks as PASCAL VOC has them, for CVAT and Datumaro, too.",
        MASKS,
        "interop.exports.voc:voc_files",
        photographs="JPEGImages",
    ),
    Format(
        "--coco",
        "Masks as JSON of COCO, run lengths for each class.",
        MASKS,
        "interop.exports.coco:coco_files",
        needs_images=True,
        photographs="images",
    ),
    Format(
        "--panoptic",
        "Masks as panoptic pictures and JSON of COCO.",
        MASKS,
        "interop.exports.coco:panoptic_files",
        needs_images=True,
        photographs="images",
    ),
    Format(
        "--yolo",
        "Masks as polygons for YOLO's segmentation.",
        MASKS,
        "interop.exports.yolo:yolo_files",
        photographs="images/{split}",
        is_flat=True,
    ),
    Format(
        "--overlays",
        "Pictures of photographs under their masks.",
        MASKS,
        "report.figures:overlay_files",
        needs_images=True,
    ),
    Format("--maps", "Maps as ID.npy, each a dictionary of classes.", MAPS, "interop.exports.dictionaries:map_files"),
    Format(
        "--heatmaps",
        "Pictures of photographs under their maps.",
        MAPS,
        "report.figures:heat_files",
        needs_images=True,
    ),
    Format(
        "--voc-submission",
        "Predictions for the evaluation server of PASCAL VOC 2012.",
        ("network",),
        "interop.exports.voc:submission_files",
        needs_images=True,
    ),
    Format(
        "--onnx",
        "The network itself, or the classifier, for onnxruntime; with a model card.",
        ("network", "classifier"),
    ),
)


class FormatFlags:
    """A flag for each format; exactly one is given."""

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """The options."""
        return tuple(
            inspect.Parameter(
                _parameter(one),
                inspect.Parameter.KEYWORD_ONLY,
                default=False,
                annotation=Annotated[bool, typer.Option(one.flag, help=one.help)],
            )
            for one in FORMATS
        )

    def build(self, given: Mapping[str, Any]) -> Format:
        """The format that was asked for.

        Raises:
            UsageError: none was, or several.
        """
        chosen = [one for one in FORMATS if given[_parameter(one)]]
        if len(chosen) != 1:
            raise UsageError(
                f"what is exported is not clear: found {' and '.join(one.flag for one in chosen) or 'none'}, expected "
                f"one of {', '.join(one.flag for one in FORMATS)}; see mcis export --help"
            )
        return chosen[0]


def _parameter(one: Format) -> str:
    return one.flag.removeprefix("--").replace("-", "_")
