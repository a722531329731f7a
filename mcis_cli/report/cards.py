"""The gallery: which images are shown, and for each one photograph with its maps, masks and ground truth over it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.palette import voc_palette
from mcis_cli.errors import DataError
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.metrics import count_pixels
from mcis_cli.report import figures
from mcis_cli.report.scores import Scores, image_score
from mcis_cli.stages import read_record, stages
from mcis_cli.stages.plan.lineage import Run, split_of
from mcis_cli.stages.stage import SCORED, Kind
from mcis_cli.store import Artifact

Masks = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Layer:
    """A picture that lies over a photograph; of one class, from 0, where it is a map."""

    picture: str
    class_index: int | None = None


@dataclass(frozen=True)
class Tile:
    """What is shown of an image in one column: layers of which one at a time is seen.

    Attributes:
        kind: "photo", "map" or "mask".
        title: of the column.
        layers: none for the photograph itself.
        score: mean IoU of this image, if it has one.
    """

    kind: str
    title: str
    layers: tuple[Layer, ...] = ()
    score: float | None = None


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    Attributes:
        image_id: its id.
        photo: number of the photograph, see `Photos`.
        ratio: width over height.
        labels: foreground classes from 0.
        split: the list that it is on.
        tiles: by title of the column.
        score: that it is sorted by; of the last subject that is scored on it.
        rank: "best" or "worst", or nothing.
    """

    image_id: str
    photo: int
    ratio: float
    labels: tuple[int, ...]
    split: str
    tiles: Mapping[str, Tile]
    score: float | None = None
    rank: str = ""


@dataclass
class Photos:
    """The photographs of the page, each of them once, numbered as they come."""

    images: Catalogue
    pictures: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, image_id: str) -> int:
        """The number of a photograph, which is read where that was not done.

        Raises:
            DataError: it cannot be read.
        """
        if image_id not in self.numbers:
            self.pictures.append(figures.photo(self.images.read_image(image_id)))
            self.numbers[image_id] = len(self.pictures) - 1
        return self.numbers[image_id]


def choose(run: Run, images: Catalogue, scores: Mapping[Kind, Scores], count: int) -> dict[str, str]:
    """The ids of the images to show, with "best", "worst" or nothing: of maps and masks, and of what was scored.

    A third of each are the best, a third the worst where images have scores; the others are spread over the rest.
    """
    pools: list[tuple[Sequence[str], Mapping[str, float]]] = []
    pools_of: tuple[tuple[Kind, ...], ...] = (("pseudo masks", "walked maps", "maps"), ("network",))
    for subjects in pools_of:
        known = [scores[subject] for subject in subjects if subject in scores]
        made = [run.made[subject] for subject in subjects if subject in run.made and subject != "network"]
        holding = [*made, *(one.artifact for one in known)]
        if holding:
            there = [image_id for image_id in holding[0].ids if image_id in images]
            pools.append((there, known[0].images if known else {}))
    chosen: dict[str, str] = {}
    for number, (ids, of_images) in enumerate(pools):
        wanted = (count - len(chosen)) // (len(pools) - number)
        chosen |= _spread([image_id for image_id in ids if image_id not in chosen], of_images, wanted)
    return chosen


def _spread(ids: Sequence[str], of_images: Mapping[str, float], count: int) -> dict[str, str]:
    ranked = sorted((image_id for image_id in ids if image_id in of_images), key=lambda one: (of_images[one], one))
    third = min(count // 3, len(ranked) // 3)
    chosen = dict.fromkeys(ranked[:third], "worst")
    chosen |= dict.fromkeys(ranked[len(ranked) - third :], "best")
    rest = [image_id for image_id in ids if image_id not in chosen]
    wanted = min(count - len(chosen), len(rest))
    chosen |= {rest[place * len(rest) // wanted]: "" for place in range(wanted)}
    return chosen


def cards(
    run: Run,
    images: Catalogue,
    photos: Photos,
    chosen: Mapping[str, str],
    predictions: Masks,
    scores: Mapping[Kind, Scores],
) -> Iterator[Card | DataError]:
    """The images of the gallery; the fault of each that cannot be shown.

    Args:
        run: the artifacts.
        images: the data set.
        photos: where photographs are put.
        chosen: ids with their rank.
        predictions: masks of the network by id.
        scores: by subject; of images that they do not have, what ground truth says here.
    """
    for image_id, rank in chosen.items():
        try:
            yield _card(run, images, photos, image_id, rank, predictions.get(image_id), scores)
        except DataError as fault:
            yield fault


def _card(
    run: Run,
    images: Catalogue,
    photos: Photos,
    image_id: str,
    rank: str,
    prediction: NDArray[np.uint8] | None,
    scores: Mapping[Kind, Scores],
) -> Card:
    entry = images[image_id]
    number = photos.number(image_id)
    target = images.read_mask(image_id) if entry.mask is not None else None
    tiles = {"photograph": Tile("photo", "photograph")}
    of_image = {name: one.images[image_id] for name, one in scores.items() if image_id in one.images}
    kinds_of_maps: tuple[Kind, ...] = ("maps", "walked maps")
    for kind in kinds_of_maps:
        if (maps := _holding(run, kind, image_id)) is not None:
            title = stages()[maps.stage].content.shown_as
            found = tuple(map_layers(read_record(maps, image_id), entry.height, entry.width))
            tiles[title] = Tile("map", title, found, of_image.get(kind))
    masks: dict[str, tuple[Kind | None, NDArray[np.uint8] | None]] = {"ground truth": (None, target)}
    if (pseudo := _holding(run, "pseudo masks", image_id)) is not None:
        masks = {"pseudo mask": ("pseudo masks", read_record(pseudo, image_id)["mask"]), **masks}
    if prediction is not None:
        masks = {**masks, "prediction": ("network", prediction)}
    for title in ("pseudo mask", "prediction", "ground truth"):
        subject, mask = masks.get(title, (None, None))
        if mask is None:
            continue
        if mask.shape != (entry.height, entry.width):
            raise DataError(f"{image_id}: the {title} is of another size than the photograph, which has changed")
        if subject and subject not in of_image and target is not None:
            own = image_score(count_pixels(mask, target))
            of_image |= {} if own is None else {subject: own}
        score = None if subject is None else of_image.get(subject)
        tiles[title] = Tile("mask", title, (Layer(figures.mask_layer(mask, voc_palette())),), score)
    return Card(
        image_id=image_id,
        photo=number,
        ratio=entry.width / entry.height,
        labels=entry.labels,
        split=split_of(run, images, image_id),
        tiles=tiles,
        score=next((of_image[subject] for subject in reversed(SCORED) if subject in of_image), None),
        rank=rank,
    )


def map_layers(fields: Mapping[str, NDArray[np.generic]], height: int, width: int) -> Iterator[Layer]:
    """The maps of an image, each class between its own minimum and maximum."""
    maps = np.asarray(fields["maps"], dtype=np.float32)
    side = figures.HEAT_SIDE / max(height, width)
    small = enlarge(maps, max(1, round(height * side)), max(1, round(width * side)))
    for plane, class_index in zip(normalise(small, "minmax"), fields["classes"].tolist(), strict=True):
        yield Layer(figures.heat_layer(plane), int(class_index))


def columns_of(shown: Iterable[Card]) -> list[str]:
    """The titles of the columns that any card has, in their order."""
    titles = {title for card in shown for title in card.tiles}
    known = ("photograph", "map", "walked map", "pseudo mask", "prediction", "ground truth")
    return [title for title in known if title in titles]


def _holding(run: Run, kind: Kind, image_id: str) -> Artifact | None:
    artifact = run.made.get(kind)
    return artifact if artifact is not None and image_id in artifact else None
