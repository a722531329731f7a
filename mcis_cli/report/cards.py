"""The contact sheet: which images are on it, and for each its photograph with maps, masks and ground truth over it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.data.palette import voc_palette
from mcis_cli.errors import DataError
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.metrics import count_pixels
from mcis_cli.report import figures
from mcis_cli.report.coverage import Coverage, coverage_of
from mcis_cli.report.scores import Scores, image_score
from mcis_cli.stages import read_record, stages
from mcis_cli.stages.plan.lineage import Run, split_of
from mcis_cli.stages.review.ranking import Reviewed
from mcis_cli.stages.stage import Kind
from mcis_cli.store import Artifact

Masks = Mapping[str, NDArray[np.uint8]]

MAIN = ("pseudo mask", "prediction", "walked map", "map")  # the sheet shows the first that an image has
_SUBJECTS: Mapping[str, Kind] = {"pseudo mask": "pseudo masks", "prediction": "network"}


@dataclass(frozen=True)
class Layer:
    """An image over a photograph; of one class, from 0, if it is a map."""

    picture: str
    class_index: int | None = None


@dataclass(frozen=True)
class Tile:
    """One way to look at an image: layers of which one at a time is seen.

    Attributes:
        kind: "photo", "map" or "mask".
        title: of the view.
        layers: none for the photograph itself.
        score: mean IoU of this image, if it has one.
    """

    kind: str
    title: str
    layers: tuple[Layer, ...] = ()
    score: float | None = None


@dataclass(frozen=True)
class Card:
    """One image of the contact sheet.

    Attributes:
        image_id: its id.
        photo: number of the photograph, see `Photos`.
        ratio: width over height.
        labels: foreground classes from 0.
        split: the list that it is on.
        tiles: by title, in the order of the chain.
        shown: the titles of those on the sheet; the others are seen when it is enlarged.
        coverage: of the mask on the sheet.
        doubt: in [0, 1], which it is sorted by if there are no scores: of a review, or else of the coverage.
        score: of what is on the sheet, which it is sorted by.
        reason: a line on why it stands where it does.
    """

    image_id: str
    photo: int
    ratio: float
    labels: tuple[int, ...]
    split: str
    tiles: Mapping[str, Tile]
    shown: tuple[str, ...]
    coverage: Coverage | None = None
    doubt: float | None = None
    score: float | None = None
    reason: str = ""


@dataclass
class Photos:
    """The photographs of the page, each of them once, numbered as they come."""

    images: Catalogue
    pictures: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, image_id: str) -> int:
        """The number of a photograph, which is read at first use.

        Raises:
            DataError: it cannot be read.
        """
        if image_id not in self.numbers:
            self.pictures.append(figures.photo(self.images.read_image(image_id)))
            self.numbers[image_id] = len(self.pictures) - 1
        return self.numbers[image_id]


def choose(
    run: Run, images: Catalogue, scores: Mapping[Kind, Scores], count: int, reviewed: Mapping[str, Reviewed]
) -> list[str]:
    """The ids of the images to show: of maps and masks, and of what the network was scored on.

    A third of each are the worst, a third the best by their scores, or without scores by a review, or by the share of
    the smallest class in their masks. The others are spread over the rest.
    """
    ranked = {image_id: 1 - one.score for image_id, one in reviewed.items()}
    pools: list[tuple[Sequence[str], Mapping[str, float]]] = []
    pools_of: tuple[tuple[Kind, ...], ...] = (("pseudo masks", "walked maps", "maps"), ("network",))
    for subjects in pools_of:
        known = [scores[subject] for subject in subjects if subject in scores]
        made = [run.made[subject] for subject in subjects if subject in run.made and subject != "network"]
        holding = [*made, *(one.artifact for one in known)]
        if holding:
            there = [image_id for image_id in holding[0].ids if image_id in images]
            pools.append((there, known[0].images if known else ranked or _shares(run, images, there, count)))
    chosen: list[str] = []
    for number, (ids, ranks) in enumerate(pools):
        wanted = (count - len(chosen)) // (len(pools) - number)
        chosen += _spread([image_id for image_id in ids if image_id not in chosen], ranks, wanted)
    return chosen


def _shares(run: Run, images: Catalogue, ids: Sequence[str], count: int) -> Mapping[str, float]:
    """The share of the smallest class in each pseudo mask; none if there are none, or all are shown anyway."""
    masks = run.made.get("pseudo masks")
    if masks is None or len(ids) <= count:
        return {}
    held = [image_id for image_id in ids if image_id in masks]
    return {one: coverage_of(read_record(masks, one)["mask"], images[one].labels).share for one in held}


def _spread(ids: Sequence[str], ranks: Mapping[str, float], count: int) -> list[str]:
    ranked = sorted((image_id for image_id in ids if image_id in ranks), key=lambda one: (ranks[one], one))
    third = min(count // 3, len(ranked) // 3)
    chosen = dict.fromkeys([*ranked[:third], *ranked[len(ranked) - third :]])
    rest = [image_id for image_id in ids if image_id not in chosen]
    wanted = min(count - len(chosen), len(rest))
    return [*chosen, *(rest[place * len(rest) // wanted] for place in range(wanted))]


def cards(
    run: Run,
    images: Catalogue,
    photos: Photos,
    chosen: Iterable[str],
    predictions: Masks,
    scores: Mapping[Kind, Scores],
    reviewed: Mapping[str, Reviewed],
) -> Iterator[Card | DataError]:
    """The images of the sheet; the fault of each that cannot be shown.

    Args:
        run: the artifacts.
        images: the data set.
        photos: collects the photographs.
        chosen: ids.
        predictions: masks of the network by id.
        scores: by subject; other images are scored here by ground truth.
        reviewed: the review of masks by id, which explains why they are doubtful.
    """
    for image_id in chosen:
        try:
            card = _card(run, images, photos, image_id, predictions.get(image_id), scores)
            found = reviewed.get(image_id)
            yield card if found is None else replace(card, doubt=found.score, reason="; ".join(found.reasons))
        except DataError as fault:
            yield fault


def _card(
    run: Run,
    images: Catalogue,
    photos: Photos,
    image_id: str,
    prediction: NDArray[np.uint8] | None,
    scores: Mapping[Kind, Scores],
) -> Card:
    entry = images[image_id]
    number = photos.number(image_id)
    tiles = {"photograph": Tile("photo", "photograph")}
    of_image = {name: one.images[image_id] for name, one in scores.items() if image_id in one.images}
    kinds_of_maps: tuple[Kind, ...] = ("maps", "walked maps")
    for kind in kinds_of_maps:
        if (maps := _holding(run, kind, image_id)) is not None:
            title = stages()[maps.stage].content.shown_as
            found = tuple(map_layers(read_record(maps, image_id), entry.height, entry.width))
            tiles[title] = Tile("map", title, found, of_image.get(kind))
    masks: dict[str, NDArray[np.uint8]] = {}
    if (pseudo := _holding(run, "pseudo masks", image_id)) is not None:
        masks["pseudo mask"] = read_record(pseudo, image_id)["mask"]
    if prediction is not None:
        masks["prediction"] = prediction
    if entry.mask is not None:
        masks["ground truth"] = images.read_mask(image_id)
    tiles |= {
        title: _mask_tile(title, mask, entry, masks.get("ground truth"), of_image) for title, mask in masks.items()
    }
    main = next((title for title in MAIN if title in tiles), None)
    coverage = coverage_of(masks[main], entry.labels) if main in masks else None
    return Card(
        image_id=image_id,
        photo=number,
        ratio=entry.width / entry.height,
        labels=entry.labels,
        split=split_of(run, images, image_id),
        tiles=tiles,
        shown=("photograph",) if main is None else ("photograph", main),
        coverage=coverage,
        doubt=None if coverage is None else 1 - coverage.share,
        score=None if main is None else tiles[main].score,
        reason="" if coverage is None else coverage.in_words(images.class_names),
    )


def _mask_tile(
    title: str,
    mask: NDArray[np.uint8],
    entry: ImageEntry,
    target: NDArray[np.uint8] | None,
    of_image: Mapping[Kind, float],
) -> Tile:
    """A mask with its score; where no artifact has one, scored with ground truth here."""
    if mask.shape != (entry.height, entry.width):
        raise DataError(f"{entry.id}: the {title} is of another size than the photograph, which has changed")
    subject = _SUBJECTS.get(title)
    score = of_image.get(subject) if subject else None
    if subject and score is None and target is not None:
        score = image_score(count_pixels(mask, target))
    return Tile("mask", title, (Layer(figures.mask_layer(mask, voc_palette())),), score)


def map_layers(fields: Mapping[str, NDArray[np.generic]], height: int, width: int) -> Iterator[Layer]:
    """The maps of an image, each class between its own minimum and maximum."""
    maps = np.asarray(fields["maps"], dtype=np.float32)
    side = figures.HEAT_SIDE / max(height, width)
    small = enlarge(maps, max(1, round(height * side)), max(1, round(width * side)))
    for plane, class_index in zip(normalise(small, "minmax"), fields["classes"].tolist(), strict=True):
        yield Layer(figures.heat_layer(plane), int(class_index))


def _holding(run: Run, kind: Kind, image_id: str) -> Artifact | None:
    artifact = run.made.get(kind)
    return artifact if artifact is not None and image_id in artifact else None
