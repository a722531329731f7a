"""What an artifact of each stage holds, checked before a stage builds on one: it may have been made by anybody.

A digest tells that a file is as it was written, not that a stage wrote it. So its schema, what its meta says and the
values of each record are compared here with what the stage of that name writes; sizes first, before anything is built.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcis_cli.config import AffinityWeights, Backbone
from mcis_cli.data import records
from mcis_cli.data.layouts.listing import MAX_CLASSES
from mcis_cli.store import Artifact, Record, Schema
from mcis_cli.store.format.user_block import damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORE_INDEX = 255
ASPP_CHANNELS = 256  # of torchvision's head of DeepLab-V3
MAPS = ("cams", "affinity")  # whose records are maps

SCHEMAS: Mapping[str, Schema | None] = {
    "dataset": records.SCHEMA,
    "train-cls": None,
    "cams": {"maps": ("float16", 3), "classes": ("int32", 1), "references": ("uint8", 1)},
    "affinity-labels": {"labels": ("uint8", 2)},
    "affinity-net": None,
    "affinity": {"maps": ("float16", 3), "classes": ("int32", 1)},
    "pseudo": {"mask": ("uint8", 2), "classes": ("int32", 1)},
    "train-seg": None,
    "eval": {"counts": ("int64", 2)},
    "saliency": {"saliency": ("uint8", 2)},
    "weights": None,
}

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=1000)]
Side = Annotated[int, Field(ge=32, le=2**14)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Meta(BaseModel):
    """What is needed of a meta; more may be there."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _OfClasses(_Meta):
    class_names: Annotated[list[Text], Field(min_length=1, max_length=MAX_CLASSES)]


class _OfImages(_OfClasses):
    dataset: Hex
    split: Text
    initialisation: Text


class _Classifier(_Meta):
    backbone: Backbone
    output_stride: Literal[8, 16]
    heads: Literal["shared", "separate"]
    affinity_init: Literal["uniform", "identity"]
    affinity_scale: Annotated[float, Field(gt=0, le=1e4)] | None = None
    equivariant: bool = False
    affinity_weights: AffinityWeights = "shared"
    num_foreground: int


class _TrainCls(_OfImages):
    model: _Classifier
    image_size: Side


class _Affinities(_Meta):
    backbone: Backbone
    output_stride: Literal[8, 16]
    radius: Annotated[int, Field(ge=2, le=64)]


class _AffinityNet(_Meta):
    model: _Affinities
    initialisation: Text


class _Segmenter(_Meta):
    network: Literal["deeplab-largefov", "deeplabv3"]
    backbone: Backbone
    output_stride: Literal[8, 16]
    head_channels: Annotated[int, Field(ge=1)] = ASPP_CHANNELS
    head_dilation: Annotated[int, Field(ge=1, le=2**14)]
    num_classes: int


class _TrainSeg(_OfImages):
    model: _Segmenter
    supervision: Literal["pseudo", "full"]


class _Scored(_Meta):
    thresholds: Annotated[list[Fraction], Field(min_length=1, max_length=255)] = [0.0]
    scales: list[float] = []
    flip: bool = False
    crf: bool = False


class _Eval(_OfImages):
    subject: Literal["train-seg", "cams", "affinity", "pseudo"]
    supervision: Literal["pseudo", "full"]
    settings: _Scored


class _Weights(_Meta):
    backbone: Backbone
    source: Text


_METAS: Mapping[str, type[_Meta]] = {
    "dataset": _OfClasses,
    "train-cls": _TrainCls,
    "cams": _OfImages,
    "affinity-labels": _OfImages,
    "affinity-net": _AffinityNet,
    "affinity": _OfImages,
    "pseudo": _OfImages,
    "train-seg": _TrainSeg,
    "eval": _Eval,
    "saliency": _Meta,
    "weights": _Weights,
}


def check_kind(artifact: Artifact) -> None:
    """Check what an artifact says of itself; one of a stage that is not known here passes.

    Raises:
        DamagedError: it is not what its stage writes.
    """
    if artifact.stage not in SCHEMAS:
        return
    found = artifact.manifest.get("schema")
    if found != _spelled(SCHEMAS[artifact.stage]) and not (
        artifact.stage == "dataset" and found == _spelled(records.SCHEMA_WITH_SOURCES)
    ):
        raise damaged(artifact.path, "its records have other fields", f"those of {artifact.stage}")
    try:
        meta = _METAS[artifact.stage].model_validate(artifact.meta)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise damaged(artifact.path, f"its meta has {first['input']!r:.80} at {place}", first["msg"]) from None
    if isinstance(meta, _TrainCls | _TrainSeg):
        _refuse_unlisted(artifact, meta.model.backbone)
    if isinstance(meta, _Weights):
        _refuse_unlisted(artifact, meta.backbone)
    if isinstance(meta, _TrainCls | _TrainSeg | _Eval):
        _check_sizes(artifact, meta)


def _refuse_unlisted(artifact: Artifact, backbone: str) -> None:
    """Check that a backbone of timm's is one that timm lists."""
    if backbone.startswith("timm:"):
        from mcis_cli.models.timm_networks import is_listed  # torch is waited for where it is needed alone

        if not is_listed(backbone.removeprefix("timm:")):
            raise damaged(artifact.path, f"its backbone is {backbone!r:.80}", "a network that this timm lists")


def _spelled(schema: Schema | None) -> dict[str, list[str | int]] | None:
    """A schema as a manifest has it; None for tensors."""
    return None if schema is None else {name: list(field) for name, field in schema.items()}


def _check_sizes(artifact: Artifact, meta: _TrainCls | _TrainSeg | _Eval) -> None:
    """Check that what is built for a meta is no larger than what the file holds."""
    num_foreground = len(meta.class_names)
    if isinstance(meta, _Eval):
        of_networks = {"scales", "flip", "crf"} if meta.subject == "train-seg" else set()
        needed = {"thresholds"} if meta.subject in MAPS else of_networks
        if not needed <= meta.settings.model_fields_set:
            raise damaged(artifact.path, "its meta lacks settings", f"{', '.join(sorted(needed))}")
        return
    if isinstance(meta, _TrainCls):
        if meta.model.num_foreground != num_foreground:
            raise damaged(artifact.path, f"its network has {meta.model.num_foreground} classes", f"{num_foreground}")
        return
    if meta.model.num_classes != num_foreground + 1:
        raise damaged(artifact.path, f"its network has {meta.model.num_classes} classes", f"{num_foreground + 1}")
    channels = meta.model.head_channels
    listed = artifact.manifest.get("tensors")
    entries = listed if isinstance(listed, list) else []
    shapes = [entry[2] for entry in entries if isinstance(entry, list) and len(entry) == 3]
    middle = [channels, (5 if meta.model.network == "deeplabv3" else 1) * channels, 1, 1]  # five branches are joined
    if middle not in shapes:
        raise damaged(artifact.path, f"its head has {channels} channels by its meta", "tensors of that size")


def read_record(artifact: Artifact, image_id: str) -> "dict[str, NDArray[Any]]":
    """The fields of one record, checked.

    Raises:
        MissingError: there is no record of that id.
        DamagedError: the values are not what the stage writes.
    """
    fields = artifact.read(image_id)
    _refuse(artifact, image_id, fields)
    return fields


def read_records(artifact: Artifact) -> Iterator[Record]:
    """All records in the order of their ids, each checked.

    Raises:
        DamagedError: the values are not what the stage writes.
    """
    for image_id, fields in artifact.records():
        _refuse(artifact, image_id, fields)
        yield image_id, fields


def _refuse(artifact: Artifact, image_id: str, fields: "Mapping[str, NDArray[Any]]") -> None:
    if artifact.stage in _FAULTS and (fault := _FAULTS[artifact.stage](fields, artifact.meta)):
        raise damaged(artifact.path, f"{fault} in the record of {image_id!r:.80}", f"what {artifact.stage} writes")


def _fault_of_maps(fields: "Mapping[str, NDArray[Any]]", meta: Mapping[str, Any]) -> str | None:
    maps, classes = fields["maps"], fields["classes"]
    if maps.shape[0] != len(classes) or (len(classes) and not maps.size):
        return f"maps of the shape {maps.shape} for {len(classes)} classes"
    if not _ascend(classes, len(meta["class_names"])):
        return "classes that are none, or twice there"
    return None if (abs(maps) < math.inf).all() else "values that are not finite"


def _fault_of_masks(fields: "Mapping[str, NDArray[Any]]", meta: Mapping[str, Any]) -> str | None:
    mask, classes = fields["mask"], fields["classes"]
    num_foreground = len(meta["class_names"])
    if not _ascend(classes, num_foreground):
        return "classes that are none, or twice there"
    return None if ((mask <= num_foreground) | (mask == IGNORE_INDEX)).all() else "a value that is no class"


def _fault_of_labels(fields: "Mapping[str, NDArray[Any]]", meta: Mapping[str, Any]) -> str | None:
    labels = fields["labels"]
    if not labels.size:
        return f"labels of the shape {labels.shape}"
    return (
        None if ((labels <= len(meta["class_names"])) | (labels == IGNORE_INDEX)).all() else "a value that is no class"
    )


def _fault_of_counts(fields: "Mapping[str, NDArray[Any]]", meta: Mapping[str, Any]) -> str | None:
    counts = fields["counts"]
    num_levels = len(meta["settings"]["thresholds"]) + 1 if meta["subject"] in MAPS else 1
    if counts.shape[1] != 4:
        return f"counts of the shape {counts.shape}"
    limits = (num_levels, 256, 256, 2**40)
    return None if ((counts >= 0) & (counts < limits)).all() else "counts out of range"


def _ascend(classes: "NDArray[Any]", num_foreground: int) -> bool:
    inside = bool(((classes >= 0) & (classes < num_foreground)).all())
    return inside and bool((classes[1:] > classes[:-1]).all())


_FAULTS = {
    "cams": _fault_of_maps,
    "affinity-labels": _fault_of_labels,
    "affinity": _fault_of_maps,
    "pseudo": _fault_of_masks,
    "eval": _fault_of_counts,
}
