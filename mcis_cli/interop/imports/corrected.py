"""`import --corrected`: pseudo masks that people corrected in another tool become an artifact for `pseudo`."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mcis_cli.config import RunOptions
from mcis_cli.data.catalogue import IGNORE_INDEX, Catalogue, mask_fault
from mcis_cli.errors import DataError, UsageError, counted
from mcis_cli.interop.imports.corrected_files import Mask, read_corrected
from mcis_cli.stages import check, holds, read_record
from mcis_cli.stages.engine.by_image import run_segments
from mcis_cli.stages.engine.file_digests import digest_of_all
from mcis_cli.stages.engine.inputs import Inputs, images_of
from mcis_cli.stages.materials import CORRECTED, corrected_recipe
from mcis_cli.store import Artifact, Record, Store


def run(path: Path, inputs: Inputs, store: Store, options: RunOptions, *, note: str = "") -> Artifact:
    """Import the masks, or return the cached ones.

    A record holds `mask` (H, W) at the image's size: 0 background, k + 1 class k, 255 to be ignored. Only images whose
    mask differs from the pseudo mask have one.

    Args:
        path: a folder, an archive or a file; see `corrected_files`.
        inputs: the pseudo masks that were corrected, and perhaps `data`.
        store: where the artifact goes.
        options: how to run on this machine.
        note: who made them, or how.

    Raises:
        UsageError: the artifact holds no pseudo masks.
        DataError: a file cannot be used, or nothing was corrected.
    """
    masks = _pseudo_masks(inputs.upstream)
    images = images_of(masks, inputs.data, store).only(masks.ids, masks.meta["split"])
    found = dict(_changed(_packed(read_corrected(path, images, masks.path.stem), images, path), masks, options))
    if not found:
        raise DataError(
            f"{path}: every mask is as in {masks.path.stem}; expected corrected ones; save and export again"
        )
    digest = digest_of_all(((image_id,), hashlib.sha256(found[image_id]).hexdigest()) for image_id in sorted(found))
    recipe = corrected_recipe(masks.id, digest, note)

    def record(image_id: str) -> Record:
        entry, pixels = images[image_id], zlib.decompress(found[image_id])
        return image_id, {"mask": np.frombuffer(pixels, np.uint8).reshape(entry.height, entry.width)}

    schema = CORRECTED.content.schemas[0]
    assert schema is not None, "masks are records"
    return store.find(recipe) or run_segments(
        recipe,
        store,
        options,
        schema=schema,
        ids=sorted(found),
        compute=lambda ids: map(record, ids),
        meta=lambda: {
            "dataset": masks.meta["dataset"],
            "split": masks.meta["split"],
            "class_names": list(masks.meta["class_names"]),
            "note": note,
        },
    )


def _pseudo_masks(given: Artifact | None) -> Artifact:
    """The masks that were corrected, checked."""
    assert given is not None, "the command names them"
    if not holds(given, "pseudo masks"):
        raise UsageError(
            f"{given.path.stem} was made by {given.stage}: expected the pseudo masks that were corrected; `mcis ls` "
            "lists all"
        )
    check(given)
    return given


def _packed(masks: Iterable[tuple[str, Mask]], images: Catalogue, path: Path) -> Iterator[tuple[str, bytes]]:
    """The pixels of each mask, checked and compressed: there may be thousands."""
    seen = set()
    for image_id, mask in masks:
        if image_id in seen:
            raise DataError(f"{path}: two masks of the image {image_id!r}; remove one")
        if fault := mask_fault(mask, images[image_id], images.num_classes):
            raise DataError(f"{path}: the mask of {image_id!r}: {fault}; correct it, or export again")
        seen.add(image_id)
        yield image_id, zlib.compress(mask.tobytes(), 1)


def _changed(packed: Iterable[tuple[str, bytes]], masks: Artifact, options: RunOptions) -> Iterator[tuple[str, bytes]]:
    """Those that differ from the pseudo masks; tools export masks that nobody touched, too.

    Most formats have no ignored pixels, so a mask whose ignored pixels became background was not touched either.
    """
    num_same = 0
    for image_id, pixels in packed:
        before, found = read_record(masks, image_id)["mask"], zlib.decompress(pixels)
        is_same = found in (before.tobytes(), np.where(before == IGNORE_INDEX, 0, before).tobytes())
        num_same += is_same
        if not is_same:
            yield image_id, pixels
    if num_same:
        options.reporter.note(f"left out: {counted(num_same, 'mask')} as in {masks.path.stem}")
