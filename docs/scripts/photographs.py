"""Writes docs/images/photographs.png: what a classifier and a network make of photographs that all may look at.

Run it as `python docs/scripts/photographs.py PHOTOS DATA CLASSIFIER NETWORK SALIENCY` where the artifacts are. PHOTOS
is the folder `data` of scikit-image, whose four photographs below are in the public domain. DATA is the set that the
classifier learnt from, as VOC has it, whose images are references. SALIENCY is a network for `mcis saliency`.

A row is a photograph. Its columns are the photograph, the map of its tag without and with ten references, the pseudo
mask without and with saliency, and what the network predicts.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).parent.parent / "images" / "photographs.png"
TAGS = {"astronaut": "person", "camera": "person", "chelsea": "cat", "coffee": "diningtable"}
LONG_SIDE = 320
WIDTH, GAP = 190, 4


def main(photos: Path, data: Path, classifier: str, network: str, saliency: Path) -> None:
    """Make maps, masks and predictions of the photographs, and draw them side by side."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        images = write_set(folder / "set", photos, data.resolve())
        split = ("--data", folder / "set", "--split", "shown")
        mcis("saliency", folder / "set", "--split", "shown", "--model", saliency, "-o", folder / "saliency")
        maps = mcis("cams", classifier, *split, "--preset", "best", "--refs", "0,10").split()
        drawn = []
        for number, one in enumerate(maps):
            heatmaps = export(one, "--heatmaps", folder / f"maps-{number}", folder / "set")
            drawn.append(heatmaps / "{name}" / "{tag}.png")
        given = ("--preset", "best", "--data", folder / "set", "--set", f"data.saliency={folder / 'saliency'}")
        for background in ("constant", "saliency"):
            masks = mcis("pseudo", maps[1], *given, "--background", background)
            overlays = export(masks, "--overlays", folder / f"masks-{background}", folder / "set")
            drawn.append(overlays / "{name}.png")
        mcis("predict", network, *images, "-o", folder / "predicted", "--overlay", "--crf")
        drawn.append(folder / "predicted" / "{name}-overlay.png")
        files = [[Path(str(where).format(name=name, tag=tag)) for where in drawn] for name, tag in TAGS.items()]
        rows = [[image, *row] for image, row in zip(images, files, strict=True)]
        sheet(rows).quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(TARGET, optimize=True)


def write_set(root: Path, photos: Path, data: Path) -> list[Path]:
    """The set with the photographs beside, in a split of their own; gives their files."""
    (root / "JPEGImages").mkdir(parents=True)
    for path in sorted((data / "JPEGImages").iterdir()):
        (root / "JPEGImages" / path.name).symlink_to(path)
    shutil.copytree(data / "ImageSets" / "Segmentation", root / "ImageSets" / "Segmentation")
    shutil.copy(data / "classes.txt", root)
    images = []
    for name in TAGS:
        with Image.open(photos / f"{name}.png") as opened:
            small = opened.convert("RGB")
        small.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
        images.append(root / "JPEGImages" / f"{name}.jpg")
        small.save(images[-1], quality=95)
    lines = [f"{name} {tag}\n" for name, tag in TAGS.items()]
    (root / "image_tags.txt").write_text((data / "image_tags.txt").read_text() + "".join(lines))
    (root / "ImageSets" / "Segmentation" / "shown.txt").write_text("".join(f"{name}\n" for name in TAGS))
    return images


def mcis(*arguments: str | Path) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "mcis_cli", *map(str, arguments), "-q"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def export(artifact: str, how: str, folder: Path, data: Path) -> Path:
    """Pictures of an artifact; gives their folder. The images are named, since a store may know an older copy."""
    mcis("export", artifact, how, "-o", folder, "--data", data)
    return folder


def sheet(rows: list[list[Path]]) -> Image.Image:
    """Pictures in rows and columns of one width."""
    scaled = [[fitted(path) for path in row] for row in rows]
    heights = [max(one.height for one in row) + GAP for row in scaled]
    page = Image.new("RGB", (len(rows[0]) * (WIDTH + GAP) - GAP, sum(heights) - GAP), "white")
    for number, row in enumerate(scaled):
        for column, one in enumerate(row):
            page.paste(one, (column * (WIDTH + GAP), sum(heights[:number])))
    return page


def fitted(path: Path) -> Image.Image:
    """An image at the width of a column."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    return picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    photos, data, classifier, network, saliency = sys.argv[1:]
    main(Path(photos), Path(data), classifier, network, Path(saliency))
