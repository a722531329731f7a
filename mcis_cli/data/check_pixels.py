"""What only decoding tells of an image set: files cut off, masks that do not fit, saliency of another shape.

Ground truth is looked at here, to say where it disagrees with the tags; training from tags never does.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from mcis_cli.data.catalogue import IGNORE_INDEX, Catalogue, ImageEntry
from mcis_cli.data.layouts.listing import Finding
from mcis_cli.data.loading import ordered_map
from mcis_cli.errors import DataError

ASPECT_TOLERANCE = 0.02  # of a ratio; shrunk maps are rounded to whole pixels

Progress = Callable[[int, int], None]


def check_pixels(catalogue: Catalogue, *, workers: int = 2, progress: Progress | None = None) -> Iterator[Finding]:
    """Decode every image, mask and saliency map once.

    Args:
        catalogue: The image set.
        workers: Threads that decode; 0 decodes here.
        progress: Called with (images decoded, images in all).

    Yields:
        One finding for each file with an error; of warnings and notes one for each kind, naming the first.
    """
    gathered: dict[str, list[Finding]] = defaultdict(list)
    for done, findings in enumerate(ordered_map(partial(_decode, catalogue), catalogue.ids, workers=workers), start=1):
        for finding in findings:
            if finding.severity == "error":
                yield finding
            else:
                gathered[finding.code].append(finding)
        if progress is not None:
            progress(done, len(catalogue))
    for code, same in gathered.items():
        more = f" (and of {len(same) - 1} more)" if len(same) > 1 else ""
        ids = tuple(image_id for finding in same for image_id in finding.ids)
        yield Finding(same[0].severity, code, same[0].message + more, ids)


def _decode(catalogue: Catalogue, image_id: str) -> list[Finding]:
    entry = catalogue[image_id]
    attempts: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("unreadable-image", lambda: _image(catalogue, entry)),
        ("bad-mask", lambda: _mask(catalogue, entry)),
        ("unreadable-saliency", lambda: _saliency(catalogue, entry)),
    ]
    findings: list[Finding] = []
    for code, attempt in attempts:
        try:
            findings += attempt()
        except DataError as error:
            findings.append(Finding("error", code, str(error), (image_id,)))
    return findings


def _image(catalogue: Catalogue, entry: ImageEntry) -> Iterator[Finding]:
    catalogue.read_image(entry.id)
    yield from ()


def _mask(catalogue: Catalogue, entry: ImageEntry) -> Iterator[Finding]:
    if entry.mask is None:
        return
    seen = _classes_in(catalogue.read_mask(entry.id))
    tagged = set(entry.labels)
    if not tagged or seen == tagged:
        return
    parts = [("in the mask only", seen - tagged), ("in the tags only", tagged - seen)]
    told = "; ".join(
        f"{where}: {', '.join(catalogue.class_names[k] for k in sorted(classes))}"
        for where, classes in parts
        if classes
    )
    yield Finding("note", "tags-and-mask-differ", f"tags and mask of {entry.id!r} differ: {told}", (entry.id,))


def _classes_in(mask: UInt8[ndarray, "height width"]) -> set[int]:
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return {int(value) - 1 for value in present if value not in (0, IGNORE_INDEX)}


def _saliency(catalogue: Catalogue, entry: ImageEntry) -> Iterator[Finding]:
    if entry.saliency is None:
        return
    height, width = catalogue.read_saliency(entry.id, resize=False).shape
    if abs(height * entry.width / (width * entry.height) - 1) > ASPECT_TOLERANCE:
        message = (
            f"the saliency map {entry.saliency!r} is {width} x {height} pixels for an image of "
            f"{entry.width} x {entry.height}: other proportions, it will be stretched"
        )
        yield Finding("warning", "saliency-size", message, (entry.id,))
