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
        flag: the flag that selects it.
        help: the flag's help text.
        kinds: kinds of artifacts that it can be made from; the first is the default.
        made_by: `module:function` of this package, imported when the files are made; it takes an
            `interop.exports.content.Export` and yields the files. "" for the network itself.
        needs_images: whether it reads the image set.
        photographs: the folder that `--images` copies photographs to; None if the format has none.
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
        """The files, each made when it is requested."""
        module, _, function = self.made_by.partition(":")
        made: Iterator[File] = getattr(import_module(f"mcis_cli.{module}"), function)(content)
        return made


FORMATS = (
    Format(
        "--voc",
        "Masks in the layout of PASCAL VOC, also for CVAT and Datumaro.",
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
        "Masks as panoptic images and JSON of COCO.",
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
        "--cvat",
        "Masks as annotations.xml of CVAT for images 1.1, to upload to a task.",
        MASKS,
        "interop.exports.cvat:cvat_files",
        needs_images=True,
        photographs="images",
    ),
    Format(
        "--label-studio",
        "Masks as tasks of Label Studio, with brushes as predictions.",
        MASKS,
        "interop.exports.label_studio:label_studio_files",
        needs_images=True,
        photographs="images",
    ),
    Format(
        "--overlays",
        "Images of photographs under their masks.",
        MASKS,
        "report.figures:overlay_files",
        needs_images=True,
    ),
    Format("--maps", "Maps as ID.npy, each a dictionary of classes.", MAPS, "interop.exports.dictionaries:map_files"),
    Format(
        "--heatmaps",
        "Images of photographs under their maps.",
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
        """The selected format.

        Raises:
            UsageError: none or several are selected.
        """
        chosen = [one for one in FORMATS if given[_parameter(one)]]
        if len(chosen) != 1:
            raise UsageError(
                f"choose one format: found {' and '.join(one.flag for one in chosen) or 'none'}, expected "
                f"one of {', '.join(one.flag for one in FORMATS)}; see mcis export --help"
            )
        return chosen[0]


def _parameter(one: Format) -> str:
    return one.flag.removeprefix("--").replace("-", "_")
