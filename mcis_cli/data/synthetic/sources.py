"""Further images of the classes of the synthetic set, with a deliberate shift: for the settings of the paper that learn
from single-label images and from web images.

Single-label images look like those of a catalogue of goods: one large token, bold in colour and texture, often without
its badge, on a plain pale ground. Images of the web are scenes as in the set, each with the one tag that it was
searched by; a share of these tags is wrong.
"""

from collections.abc import Container
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mcis_cli.data.loading import ordered_map
from mcis_cli.data.seeds import generator
from mcis_cli.data.synthetic.image_set import (
    IGNORE_INDEX,
    Picture,
    Placement,
    Scene,
    Style,
    begin,
    draw_scene,
    hsv,
    imperfect,
    lay,
    outline,
    photograph,
    token,
    write_lines,
)
from mcis_cli.data.synthetic.shapes import Kind, kinds

CATALOGUE = Style(saturation=(0.6, 0.95), value=(0.6, 0.95), texture=(0.35, 0.6), badges=0.5)


def write_single_label(
    root: Path,
    *,
    num_images: int,
    num_classes: int = 6,
    size: tuple[int, int] = (128, 176),
    seed: int = 0,
    workers: int = 0,
) -> None:
    """Write single-label images, CLASS/NUMBER.jpg, with saliency maps; classes take turns.

    Args:
        root: the folder to make; may exist if it is empty.
        num_images: of all classes together.
        num_classes: as in the set that it accompanies.
        size: the smallest and largest height and width, in pixels.
        seed: of everything random.
        workers: threads that draw.

    Raises:
        UsageError: the folder exists and is not empty.
    """
    unfinished = begin(root)
    chosen = kinds(num_classes)
    ids = [f"{chosen[number % num_classes].name}/{number:04d}" for number in range(num_images)]
    draw = partial(draw_alone, seed, chosen, size)
    for image_id, scene in zip(ids, ordered_map(draw, ids, workers=workers), strict=True):
        _write(unfinished / f"{image_id}.jpg", scene.image)
        _write(unfinished / "saliency" / f"{image_id}.png", scene.saliency)
    unfinished.rename(root)


def write_web(
    root: Path,
    *,
    num_images: int,
    wrong: float = 0.25,
    num_classes: int = 6,
    size: tuple[int, int] = (128, 176),
    seed: int = 0,
    workers: int = 0,
) -> None:
    """Write images as from a web search: images/NUMBER.jpg, and lists of lines `path tag`.

    `found.txt` has the tags to learn from, `right.txt` a true one of each image, to count the wrong ones.

    Args:
        root: the folder to make; may exist if it is empty.
        num_images: how many.
        wrong: share of the tags that name a class which is not in the image.
        num_classes, size, seed, workers: as for `write_single_label`; at least two classes.

    Raises:
        UsageError: the folder exists and is not empty.
    """
    assert num_classes >= 2, "a wrong tag needs a second class"
    unfinished = begin(root)
    ids = [f"web-{number:04d}" for number in range(num_images)]
    order = generator(seed, "synthetic wrong tags").permutation(num_images)
    are_wrong = frozenset(ids[position] for position in order[: round(wrong * num_images)])
    draw = partial(draw_found, seed, kinds(num_classes), size, are_wrong)
    found, right = [], []
    for image_id, (image, given, shown) in zip(ids, ordered_map(draw, ids, workers=workers), strict=True):
        path = f"images/{image_id}.jpg"
        _write(unfinished / path, image)
        found.append(f"{path} {given}")
        right.append(f"{path} {shown}")
    write_lines(unfinished / "found.txt", found)
    write_lines(unfinished / "right.txt", right)
    unfinished.rename(root)


def draw_found(
    seed: int, chosen: tuple[Kind, ...], size: tuple[int, int], are_wrong: Container[str], image_id: str
) -> tuple[npt.NDArray[np.uint8], str, str]:
    """Draw a search result: the image, the class that was searched for, and one that it shows."""
    random = generator(seed, "synthetic search", image_id)
    wrong = chosen[random.integers(len(chosen))] if image_id in are_wrong else None
    there = tuple(kind for kind in chosen if kind != wrong)
    scene = draw_scene(seed, there, size, image_id)
    shown = there[random.choice(scene.labels)]
    return scene.image, (wrong or shown).name, shown.name


def draw_alone(seed: int, chosen: tuple[Kind, ...], size: tuple[int, int], image_id: str) -> Scene:
    """Draw the one token of an image, as a catalogue of goods shows it; its id begins with its class."""
    random = generator(seed, "synthetic alone", image_id)
    height, width = (int(side) for side in random.integers(size[0], size[1] + 1, size=2))
    k = next(k for k, kind in enumerate(chosen) if kind.name == image_id.partition("/")[0])
    placement = Placement(
        row=height * random.uniform(0.42, 0.58),
        column=width * random.uniform(0.42, 0.58),
        radius=min(height, width) * random.uniform(0.34, 0.45),
        turn=random.uniform(-0.3, 0.3),
        stretch=random.uniform(0.95, 1.05),
    )
    x, y, distance = outline(chosen[k], placement, height, width, random)
    surface = token(chosen[k], x, y, distance, placement, random, CATALOGUE)
    picture = lay(pale_ground(height, width, random), distance, surface, placement, random)
    mask = np.where(distance <= 0, k + 1, 0).astype(np.uint8)
    mask[np.abs(distance) < 1] = IGNORE_INDEX
    salient = (distance < random.uniform(-1, 1)).astype(np.float32)
    return Scene(photograph(picture, random), mask, imperfect(salient, random), (k,))


def pale_ground(height: int, width: int, random: np.random.Generator) -> Picture:
    """Draw paper that is a little darker towards its foot."""
    color = hsv(random.random(), random.uniform(0, 0.08), random.uniform(0.9, 1))
    fall = 1 - random.uniform(0.02, 0.1) * np.linspace(0, 1, height)[:, None, None]
    return np.asarray(np.broadcast_to(color * fall, (height, width, 3)), dtype=np.float32)


def _write(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, quality=92)  # PNG ignores it
