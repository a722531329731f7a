"""Contents of an export: masks and maps of an artifact, or predictions of a network, by id.

The modules beside this one define the files of each format; nothing is written here.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from mcis_cli.config import EvalConfig, RunOptions
from mcis_cli.data.catalogue import IGNORE_INDEX, Catalogue
from mcis_cli.data.formats import id_fault
from mcis_cli.errors import DataError
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.stages import check, holds, read_record
from mcis_cli.stages.engine.inputs import Inputs, images_of, warn_if_changed
from mcis_cli.stages.stage import Kind
from mcis_cli.store import Artifact, Store

Mask = UInt8[np.ndarray, "height width"]
Maps = Mapping[int, NDArray[Any]]
Content = TypeVar("Content")


class File(NamedTuple):
    """A file of an export."""

    path: Path
    content: bytes


@dataclass(frozen=True)
class Source:
    """The source of an export.

    Attributes:
        artifact: masks, maps, or a network.
        split: the name of its images.
        ids: of these images, sorted.
        images: the image set; None if it is not needed.
    """

    artifact: Artifact
    split: str
    ids: tuple[str, ...]
    images: Catalogue | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The foreground classes."""
        return tuple(self.artifact.meta["class_names"])

    def only(self, wanted: Collection[str]) -> "Source":
        """The same with some of its images.

        Raises:
            DataError: one of them is not among its images.
        """
        absent = sorted({*wanted} - {*self.ids})
        if absent:
            raise DataError(
                f"{self.artifact.path.name}: no image {absent[0]!r:.200} among its {len(self.ids)} of {self.split}; "
                "expected ids of its images, one a line; `mcis review` prints them"
            )
        return replace(self, ids=tuple(sorted({*wanted})))

    def catalogue(self) -> Catalogue:
        """The image set."""
        assert self.images is not None, "requested when the source was opened"
        return self.images


@dataclass(frozen=True)
class Export:
    """The input of a format.

    Attributes:
        source: the artifact and its images.
        config: scales, mirror, window and CRF of predictions, and `normalization` of maps at full size.
        options: how to run on this machine.
        full_size: whether to return maps at the size of the photograph.
        competition: of the evaluation server of PASCAL VOC.
    """

    source: Source
    config: EvalConfig
    options: RunOptions
    full_size: bool = False
    competition: str = "comp6"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The foreground classes; index k is mask value k + 1."""
        return self.source.class_names

    @property
    def split(self) -> str:
        """The name of the images."""
        return self.source.split

    def masks(self) -> Iterator[tuple[str, Mask]]:
        """Ids with masks, in order.

        Raises:
            DataError: a photograph cannot be read, or a mask is not of its size.
        """
        return self._counted(_masks(self.source, self.config, self.options))

    def maps(self, *, full_size: bool = False) -> Iterator[tuple[str, Maps]]:
        """Ids with maps by class: as stored, or at the size of the photograph in [0, 1]."""
        is_full = full_size or self.full_size
        return self._counted(_full_maps(self.source, self.config) if is_full else _stored_maps(self.source))

    def read_image(self, image_id: str) -> UInt8[np.ndarray, "height width 3"]:
        """A photograph."""
        return self.source.catalogue().read_image(image_id)

    def file_name(self, image_id: str) -> str:
        """The id with the extension of its photograph."""
        return image_id + PurePosixPath(self.source.catalogue()[image_id].image).suffix

    def _counted(self, items: Iterator[tuple[str, Content]]) -> Iterator[tuple[str, Content]]:
        for item in items:
            self.options.reporter.advance()
            yield item


def open_source(
    inputs: Inputs, store: Store, options: RunOptions, *, kinds: tuple[Kind, ...], split: str | None, needs_images: bool
) -> Source:
    """Find the images of an export.

    Args:
        inputs: the artifact, and where the images are.
        store: its store.
        options: its reporter warns of changed images.
        kinds: kinds of artifacts with the exported content.
        split: the images to export; None for all of an artifact, and for the `val` split for a network.
        needs_images: whether more of the image set is needed than ids.

    Raises:
        UsageError: the artifact is of another stage.
        MissingError: the images are needed, and not found.
        DataError: the artifact lacks images of the split.
    """
    artifact = inputs.expect(*kinds)
    check(artifact)
    is_network = holds(artifact, "network")
    images = None
    if needs_images or is_network or split is not None:
        images = images_of(artifact, inputs.data, store)
    if is_network:
        assert images is not None, "read above"
        name = split or (inputs.data.val if inputs.data else "val")
        return Source(artifact, name, images.split(name).ids, images)
    name, ids = str(artifact.meta["split"]), artifact.ids
    if images is not None:
        chosen = images.split(split) if split is not None else images.only(ids)
        absent = sorted(set(chosen.ids) - set(ids))
        if absent:
            raise DataError(
                f"{artifact.path.name} lacks {len(absent)} of {len(chosen)} images of split {split!r} ({absent[0]}, "
                "…): expected all; choose another --split, or make it of these images"
            )
        name, ids = split or name, chosen.ids
        known = images.only(image_id for image_id in artifact.ids if image_id in images)
        warn_if_changed(artifact, known, options.reporter)
    if fault := next((fault for image_id in ids if (fault := id_fault(image_id))), None):
        raise DataError(f"{artifact.path.name}: {fault}; make it again")
    return Source(artifact, name, tuple(ids), images)


def _masks(source: Source, config: EvalConfig, options: RunOptions) -> Iterator[tuple[str, Mask]]:
    """Masks by id: those of the artifact, or predictions of the network."""
    if holds(source.artifact, "network"):
        from mcis_cli.stages.engine.predictor import Predictor

        images = source.catalogue()
        predicting = Predictor(source.artifact, config, options).masks(
            _after_crf, lambda one: (images.read_image(one),)
        )
        with predicting.workers:
            yield from predicting.records(source.ids)
        return
    for image_id in source.ids:
        mask = read_record(source.artifact, image_id)["mask"]
        if source.images is not None:
            entry = source.images[image_id]
            if mask.shape != (entry.height, entry.width):
                raise DataError(
                    f"the mask of {image_id!r} has {mask.shape[1]} x {mask.shape[0]} pixels, its photograph "
                    f"{entry.width} x {entry.height}: it has changed since; run `mcis pseudo` again"
                )
        yield image_id, mask


def _after_crf(image_id: str, mask: Mask, before: Mask) -> tuple[str, Mask]:
    return image_id, mask


def _stored_maps(source: Source) -> Iterator[tuple[str, Maps]]:
    """Localization maps by id and class, as stored: at the network's resolution, of any range."""
    for image_id in source.ids:
        fields = read_record(source.artifact, image_id)
        yield image_id, dict(zip(fields["classes"].tolist(), fields["maps"].astype(np.float32), strict=True))


def _full_maps(source: Source, config: EvalConfig) -> Iterator[tuple[str, Maps]]:
    """Localization maps by id and class, at the size of the photograph and in [0, 1]."""
    for image_id, by_class in _stored_maps(source):
        entry = source.catalogue()[image_id]
        if by_class:
            stack = normalise(
                enlarge(np.stack(list(by_class.values())), entry.height, entry.width), config.normalization
            )
            yield image_id, dict(zip(by_class, stack, strict=True))
        else:
            yield image_id, {}


def values_of(mask: Mask) -> list[int]:
    """The classes of a mask by their values, ascending; without background and ignored pixels."""
    return [value for value in np.unique(mask).tolist() if value not in (0, IGNORE_INDEX)]


def require_file_name(name: str, what: str) -> str:
    """A name as part of the name of a file.

    Raises:
        DataError: it would leave the folder, or is not text.
    """
    if "/" in name or id_fault(name):
        raise DataError(f"{what} {name!r:.80} cannot be part of a file's name: expected plain text; rename it")
    return name


def flat_name(image_id: str) -> str:
    """An id without folders."""
    return image_id.replace("/", "_")
