"""Writes docs/images/tags-to-masks.png, the first picture of README: photographs, their tags, and their pseudo masks.

Run it as `python docs/scripts/tags_to_masks.py PHOTOS DATA CLASSIFIER SALIENCY` where the artifact is; `photographs.py`
explains the arguments. The classifier learned from the tags of DATA with the preset `best`, and has seen none of the
photographs. Their references are images of DATA.
"""

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from photographs import TAGS, export, mcis, write_set
from PIL import Image

from mcis_cli.report.gallery import panel

TARGET = Path(__file__).parent.parent / "images" / "tags-to-masks.png"
WIDTH = 1000


def main(photos: Path, data: Path, classifier: str, saliency: Path) -> None:
    """Make the masks of the photographs, and draw them under the photographs."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        images = write_set(folder / "set", photos, data.resolve())
        given = ("--data", folder / "set", "--preset", "best")
        split = ("--split", "shown")
        mcis("saliency", folder / "set", *split, "--model", saliency, "-o", folder / "saliency")
        maps = mcis("cams", classifier, *given, *split)
        masks = mcis("pseudo", maps, *given, "--set", f"data.saliency={folder / 'saliency'}")
        overlays = export(masks, "--overlays", folder / "masks", folder / "set")
        pictures = [*map(read, images), *(read(overlays / f"{name}.png") for name in TAGS)]
        captions = [*(f"tagged: {tag}" for tag in TAGS.values()), *(f"mask of {tag}" for tag in TAGS.values())]
        drawn = Image.open(io.BytesIO(panel(pictures, captions, columns=len(TAGS)))).convert("RGB")
    drawn.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    drawn.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(TARGET, optimize=True)


def read(path: Path) -> np.ndarray:
    """The pixels of an image, (height, width, 3)."""
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


if __name__ == "__main__":
    photos, data, classifier, saliency = sys.argv[1:]
    main(Path(photos), Path(data), classifier, Path(saliency))
