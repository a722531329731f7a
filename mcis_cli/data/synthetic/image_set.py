"""A synthetic image set that is written to disk as an ordinary one of the VOC layout.

Tokens of several kinds (see `shapes`) are on textured grounds among plain pebbles that have no class. A small badge
shows the kind at a glance, outline and faint texture show it everywhere: a classifier needs only the badge, a mask
needs the whole token. Other images of the kind show what its badge, outline and texture have in common.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from mcis_cli.data.loading import ordered_map
from mcis_cli.data.palette import write_mask_png
from mcis_cli.data.seeds import generator
from mcis_cli.data.synthetic.shapes import Field, Kind, kinds
from mcis_cli.errors import UsageError

IGNORE_INDEX = 255
Picture = npt.NDArray[np.floating[Any]]  # (height, width, 3) in 0..1


@dataclass(frozen=True, slots=True)
class Scene:
    """One image of the set: photograph (H, W, 3), mask and saliency (H, W), all uint8; classes ascend from 0."""

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    saliency: npt.NDArray[np.uint8]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Place of a token or a pebble: middle and radius in pixels, turn in radians, stretch along its own x axis."""

    row: float
    column: float
    radius: float
    turn: float
    stretch: float


def write_synthetic(
    root: Path,
    *,
    num_train: int,
    num_val: int,
    num_classes: int = 6,
    size: tuple[int, int] = (128, 176),
    seed: int = 0,
    workers: int = 0,
) -> None:
    """Write a set of textured shapes on textured grounds in the VOC layout, with ground truth and saliency maps.

    Each image depends only on the seed, its split and its number, so a larger set begins with the smaller one. The
    folder appears when it is complete.

    Args:
        root: the folder to make; may exist if it is empty.
        num_train: images in `train`, named train-0000 and so on.
        num_val: images in `val`.
        num_classes: foreground classes, 1 to 64.
        size: the smallest and largest height and width, in pixels.
        seed: of everything random.
        workers: threads that draw.

    Raises:
        UsageError: the folder exists and is not empty.
    """
    unfinished = begin(root)
    for folder in ("JPEGImages", "SegmentationClass", "saliency", "ImageSets/Segmentation"):
        (unfinished / folder).mkdir(parents=True)

    chosen = kinds(num_classes)
    splits = {"train": num_train, "val": num_val}
    ids = {split: [f"{split}-{number:04d}" for number in range(count)] for split, count in splits.items()}
    ids["trainval"] = ids["train"] + ids["val"]
    draw = partial(draw_scene, seed, chosen, size)
    tags = [
        write_scene(unfinished, image_id, scene, chosen)
        for image_id, scene in zip(ids["trainval"], ordered_map(draw, ids["trainval"], workers=workers), strict=True)
    ]
    for split, members in ids.items():
        write_lines(unfinished / "ImageSets/Segmentation" / f"{split}.txt", members)
    write_lines(unfinished / "image_tags.txt", tags)
    write_lines(unfinished / "classes.txt", ["background", *(kind.name for kind in chosen)])
    unfinished.rename(root)


def begin(root: Path) -> Path:
    """The folder that a set is drawn in, before it is complete and gets its name.

    Raises:
        UsageError: something has that name.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(
            f"cannot write the synthetic set to {root}: found something there, expected nothing or an empty folder; "
            "give another folder or remove it"
        )
    unfinished = root.with_name(root.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    return unfinished


def write_scene(root: Path, image_id: str, scene: Scene, chosen: Sequence[Kind]) -> str:
    """Write the three files of a scene and return its line of tags."""
    Image.fromarray(scene.image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=92)
    (root / "SegmentationClass" / f"{image_id}.png").write_bytes(write_mask_png(scene.mask))
    Image.fromarray(scene.saliency).save(root / "saliency" / f"{image_id}.png")
    return " ".join([image_id, *(chosen[k].name for k in scene.labels)])


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write lines of text."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def draw_scene(seed: int, chosen: Sequence[Kind], size: tuple[int, int], image_id: str) -> Scene:
    """Draw the scene that belongs to a seed and an id: ground, pebbles, then tokens, then light and the camera."""
    random = generator(seed, "synthetic", image_id)
    height, width = (int(side) for side in random.integers(size[0], size[1] + 1, size=2))
    picture = draw_ground(height, width, random)
    mask = np.zeros((height, width), np.uint8)
    salient = np.zeros((height, width), np.float32)

    labels = choose_classes(len(chosen), random)
    tokens = [k for k in labels for _ in range(1 + (random.random() < 0.35))]
    things: list[int | None] = [*[None] * int(random.integers(0, 4)), *random.permutation(tokens).tolist()]
    for k, placement in zip(things, place(things, height, width, random), strict=True):
        x, y, distance = outline(None if k is None else chosen[k], placement, height, width, random)
        if k is None:
            picture = lay(picture, distance, pebble(x, y, random), placement, random)
        else:
            picture = lay(picture, distance, token(chosen[k], x, y, distance, placement, random), placement, random)
            mask[distance <= 0] = k + 1
            mask[np.abs(distance) < 1] = IGNORE_INDEX
        strength = (
            random.uniform(0.05, 0.5) if k is None else random.choice([0.25, 0.7, 0.9, 1], p=[0.1, 0.2, 0.3, 0.4])
        )
        salient = np.maximum(salient, strength * (distance < random.uniform(-2, 3)))
    visible = tuple(k for k in labels if (mask == k + 1).any())
    return Scene(photograph(picture, random), mask, imperfect(salient, random), visible)


def choose_classes(num_classes: int, random: np.random.Generator) -> tuple[int, ...]:
    """Choose one to three classes, each as often as any other."""
    count = min(num_classes, int(random.choice([1, 2, 3], p=[0.3, 0.45, 0.25])))
    return tuple(sorted(random.choice(num_classes, size=count, replace=False).tolist()))


def place(things: Sequence[int | None], height: int, width: int, random: np.random.Generator) -> Iterator[Placement]:
    """Find places with little overlap, tokens before pebbles, and give them in the order of things."""
    side = min(height, width)
    taken: list[Placement] = []
    places: dict[int, Placement] = {}
    crowd = sum(k is not None for k in things)
    largest = {1: 0.48, 2: 0.36, 3: 0.3}.get(crowd, 0.25)
    for index in sorted(range(len(things)), key=lambda index: things[index] is None):
        radius = side * (random.uniform(0.05, 0.1) if things[index] is None else random.uniform(0.62, 1) * largest)
        tries = [one_place(radius, height, width, random) for _ in range(24)]
        best = max(tries, key=lambda try_: min((gap(try_, other) for other in taken), default=0.0))
        # The first that overlaps nothing, so that tokens do not flee to the corners; else that of smallest overlap.
        places[index] = next((try_ for try_ in tries if all(gap(try_, other) > 0 for other in taken)), best)
        taken.append(places[index])
    return (places[index] for index in range(len(things)))


def one_place(radius: float, height: int, width: int, random: np.random.Generator) -> Placement:
    """Draw a place that keeps most of a thing inside the image."""
    margin = 0.8 * radius
    return Placement(
        row=random.uniform(margin, height - margin),
        column=random.uniform(margin, width - margin),
        radius=radius,
        turn=random.uniform(-0.6, 0.6),
        stretch=random.uniform(0.85, 1.2),
    )


def gap(first: Placement, second: Placement) -> float:
    """Distance between two things as part of their radii, negative if they overlap."""
    reach = 0.85 * (first.radius + second.radius)
    return float(np.hypot(first.row - second.row, first.column - second.column) / reach - 1)


def outline(
    kind: Kind | None, placement: Placement, height: int, width: int, random: np.random.Generator
) -> tuple[Field, Field, Field]:
    """Return a thing's own coordinates (radius 1) and the distance to its edge in pixels, for each pixel."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    down, right = (rows - placement.row) / placement.radius, (columns - placement.column) / placement.radius
    cos, sin = np.cos(placement.turn), np.sin(placement.turn)
    x, y = (cos * right + sin * down) / placement.stretch, (cos * down - sin * right) * placement.stretch
    # A gentle bend of the coordinates, so that no shape is exact.
    bend, phase = random.uniform(-0.05, 0.05, size=2), random.uniform(0, 2 * np.pi, size=2)
    x, y = x + bend[0] * np.sin(3 * y + phase[0]), y + bend[1] * np.sin(3 * x + phase[1])
    distance = np.hypot(x, y) - 0.9 if kind is None else kind.distance(x, y)
    return x, y, (distance * placement.radius).astype(np.float32)


Range = tuple[float, float]


class Style(NamedTuple):
    """How tokens are painted: saturation and brightness of the body, strength of the texture, share with a badge."""

    saturation: Range = (0.12, 0.5)
    value: Range = (0.5, 0.88)
    texture: Range = (0.12, 0.22)
    badges: float = 0.88


PLAIN = Style()


def token(
    kind: Kind,
    x: Field,
    y: Field,
    distance: Field,
    placement: Placement,
    random: np.random.Generator,
    style: Style = PLAIN,
) -> Picture:
    """Colour a token: a body of any colour, the kind's texture, and mostly a badge."""
    body = hsv(random.random(), random.uniform(*style.saturation), random.uniform(*style.value))
    unit = placement.radius / 8
    pattern = np.clip(kind.texture((x * unit).astype(np.float32), (y * unit).astype(np.float32)), -1, 1)
    picture = body * (1 + random.uniform(*style.texture) * pattern[..., None])
    if random.random() < style.badges:
        picture = pin_badge(picture, kind, x, y, distance, placement, random)
    return picture.astype(np.float32)


def pin_badge(
    picture: Picture, kind: Kind, x: Field, y: Field, distance: Field, placement: Placement, random: np.random.Generator
) -> Picture:
    """Place the badge somewhere on the body where it fits."""
    radius = random.uniform(0.19, 0.25)
    room = -distance / placement.radius
    fits = np.flatnonzero(room > min(radius, 0.85 * room.max()))
    spot = fits[random.integers(len(fits))]
    away = np.hypot(x - x.flat[spot], y - y.flat[spot])
    for color, reach in zip(kind.badge, (radius, 0.62 * radius), strict=True):
        cover = np.clip((reach - away) * placement.radius + 0.5, 0, 1)[..., None]
        picture = picture * (1 - cover) + np.array(color) * cover
    return picture.astype(np.float32)


def pebble(x: Field, y: Field, random: np.random.Generator) -> Picture:
    """Colour a pebble: any colour, speckled."""
    speckles = cloud(x.shape[0], x.shape[1], 0.8, random)[..., None]
    return np.asarray(
        hsv(random.random(), random.uniform(0.05, 0.4), random.uniform(0.35, 0.85)) * (1 + 0.1 * speckles)
    )


def lay(
    picture: Picture, distance: Field, surface: Picture, placement: Placement, random: np.random.Generator
) -> Picture:
    """Draw a thing into the image, with a soft shadow below and an edge lit from the upper left."""
    fall = max(2.0, 0.12 * placement.radius)
    shadow = ndimage.shift(np.clip(0.5 - distance / (2 * fall), 0, 1), (fall, 0.7 * fall), order=1, mode="nearest")
    depth = np.clip(-distance / max(2.0, 0.16 * placement.radius), 0, 1)
    slope_down, slope_right = np.gradient(np.sqrt(depth))
    light = np.clip(1 + 0.9 * (slope_down + 0.7 * slope_right), 0.6, 1.5)[..., None]
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    ground = picture * (1 - 0.5 * shadow[..., None])
    return np.asarray(ground * (1 - cover) + surface * light * cover, dtype=np.float32)


def draw_ground(height: int, width: int, random: np.random.Generator) -> Picture:
    """Draw a ground: cloud-like stone, boards, sand, or cloth, of any colour and no meaning."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    turn = random.uniform(0, np.pi)
    along, across = np.cos(turn) * columns + np.sin(turn) * rows, np.cos(turn) * rows - np.sin(turn) * columns
    stone = cloud(height, width, 2.0, random)
    ground = random.integers(4)
    if ground == 0:
        relief = stone + 0.25 * cloud(height, width, 0.7, random)
    elif ground == 1:
        boards = random.uniform(18, 34)
        relief = 0.8 * np.sin(across * 0.9 + 5 * stone) * np.abs(stone) + np.sin(np.floor(across / boards) * 2.4)
        relief = relief - 2.2 * (across % boards < 1.3)
    elif ground == 2:
        relief = 1.1 * cloud(height, width, 0.4, random) + 0.5 * stone
    else:
        thread = random.uniform(1.3, 2.2)
        relief = 0.7 * np.sin(thread * along) * np.sin(thread * across) + 0.6 * stone
    hue, saturation = random.random(), random.uniform(0.1, 0.55)
    dark, bright = random.uniform(0.18, 0.45), random.uniform(0.6, 0.92)
    low, high = hsv(hue, saturation, dark), hsv(hue + random.uniform(-0.08, 0.08), 0.8 * saturation, bright)
    mix = (0.5 + 0.22 * relief)[..., None]
    return np.clip(low + (high - low) * mix, 0.03, 1).astype(np.float32)


def photograph(picture: Picture, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Imitate a camera: uneven light, a lens that is not quite sharp, noise of the sensor."""
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    lamp_row, lamp_column = random.uniform(-0.2, 0.7) * height, random.uniform(0, 1) * width
    away = np.hypot(rows - lamp_row, columns - lamp_column) / np.hypot(height, width)
    lit = picture * (random.uniform(1.0, 1.12) - random.uniform(0.1, 0.4) * away[..., None])
    soft = ndimage.gaussian_filter(lit, (0.5, 0.5, 0))
    noisy = soft + random.normal(0, random.uniform(0.005, 0.02), size=picture.shape)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def imperfect(salient: Field, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Make exact regions look like the output of a saliency network: frayed, soft, uneven, with spots on the ground."""
    height, width = salient.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    fray = [2.2 * cloud(height, width, 1.5, random) for _ in range(2)]
    frayed = ndimage.map_coordinates(salient, [rows + fray[0], columns + fray[1]], order=1, mode="nearest")
    soft = ndimage.gaussian_filter(frayed, random.uniform(1.0, 2.2))
    haze = np.clip(0.05 * cloud(height, width, 2.0, random), 0, None)
    uneven = soft * (0.97 + 0.06 * cloud(height, width, 2.0, random)) + haze
    return np.asarray(np.rint(np.clip(uneven, 0, 1) * 255).astype(np.uint8))


def cloud(height: int, width: int, roughness: float, random: np.random.Generator) -> Field:
    """Noise with a 1/f^roughness amplitude, mean 0, deviation 1: 0 is grain, 2 is clouds."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    waves = (
        np.fft.rfft2(random.normal(size=(height, width))) / np.maximum(frequency, 1.5 / max(height, width)) ** roughness
    )
    noise = np.fft.irfft2(waves, s=(height, width))
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


def hsv(hue: float, saturation: float, value: float) -> npt.NDArray[np.float64]:
    """Red, green and blue in 0..1 of a colour; hue as part of the full circle."""
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return np.asarray(value * (1 - saturation * (1 - wheel)))
