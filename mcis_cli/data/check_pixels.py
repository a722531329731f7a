"""Faults of an image set that only decoding shows: truncated files, masks that do not fit, saliency of another shape.

Ground truth is read here to report where it disagrees with the tags; training from tags never reads it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.data.evidence import MaskLook, look_at_mask, of_masks
from mcis_cli.data.images import decode_image, highest_of_16_bits
from mcis_cli.data.layouts.listing import Finding
from mcis_cli.data.loading import ordered_map
from mcis_cli.errors import DataError, counted

ASPECT_TOLERANCE = 0.02  # of a ratio, since shrunk maps are rounded to whole pixels

Progress = Callable[[int, int], None]


def check_pixels(catalogue: Catalogue, *, workers: int = 2, progress: Progress | None = None) -> Iterator[Finding]:
    """Decode every image, mask and saliency map once.

    Args:
        catalogue: The image set.
        workers: Threads that decode; 0 decodes here.
        progress: Called with (images decoded, images in all).

    Yields:
        One finding for each file with an error; for warnings and notes one of each kind, naming the first.
    """
    gathered: dict[str, list[Finding]] = defaultdict(list)
    looks: dict[str, MaskLook] = {}
    depths: dict[str, int] = {}
    decode = partial(_decode, catalogue, looks, depths)
    for done, findings in enumerate(ordered_map(decode, catalogue.ids, workers=workers), start=1):
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
    yield from _depth(catalogue, depths)
    yield from of_masks(catalogue, {image_id: looks[image_id] for image_id in catalogue.ids if image_id in looks})


def _depth(catalogue: Catalogue, depths: Mapping[str, int]) -> Iterator[Finding]:
    """Warn if no 16-bit photograph uses more than 14 bits: cameras of 10 or 12 bits write such files, which look
    dark."""
    if depths and max(depths.values()) < 2**14:
        ids = tuple(image_id for image_id in catalogue.ids if image_id in depths)
        bits = max(1, max(depths.values()).bit_length())
        message = (
            f"{counted(len(ids), 'image')} of 16 bits with values of at most {bits} bits (the first is {ids[0]!r}), so "
            f"they look nearly black; expected values up to 65535; multiply them by {2 ** (16 - bits)}"
        )
        yield Finding("warning", "few-bits", message, ids)


def _decode(catalogue: Catalogue, looks: dict[str, MaskLook], depths: dict[str, int], image_id: str) -> list[Finding]:
    entry = catalogue[image_id]
    attempts: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("unreadable-image", lambda: _image(catalogue, entry, depths)),
        ("bad-mask", lambda: _mask(catalogue, entry, looks)),
        ("unreadable-saliency", lambda: _saliency(catalogue, entry)),
    ]
    findings: list[Finding] = []
    for code, attempt in attempts:
        try:
            findings += attempt()
        except DataError as error:
            findings.append(Finding("error", code, str(error), (image_id,)))
    return findings


def _image(catalogue: Catalogue, entry: ImageEntry, depths: dict[str, int]) -> Iterator[Finding]:
    content = catalogue.read_file(entry.id)
    name = str(catalogue.root / entry.image)
    decode_image(content, name)
    if (highest := highest_of_16_bits(content, name)) is not None:
        depths[entry.id] = highest
    yield from ()


def _mask(catalogue: Catalogue, entry: ImageEntry, looks: dict[str, MaskLook]) -> Iterator[Finding]:
    if entry.mask is None:
        return
    looks[entry.id] = look_at_mask(catalogue, entry)
    seen, tagged = looks[entry.id].classes, set(entry.labels)
    if not (tagged or entry.is_negative) or seen == tagged:
        return
    parts = [("in the mask only", seen - tagged), ("in the tags only", tagged - seen)]
    differences = "; ".join(
        f"{where}: {', '.join(catalogue.class_names[k] for k in sorted(classes))}"
        for where, classes in parts
        if classes
    )
    yield Finding("note", "tags-and-mask-differ", f"tags and mask of {entry.id!r} differ: {differences}", (entry.id,))


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
