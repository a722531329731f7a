"""The reference gallery: an image, its references, its attention over each, and the map from each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray
from PIL import Image

from mcis_cli.data.catalogue import Catalogue
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.report import figures
from mcis_cli.report.cards import Card, Photos
from mcis_cli.stages import read_record
from mcis_cli.stages.cams.attention import Evidence, Looked
from mcis_cli.store import Artifact

SHOWN_SIDE = 96


@dataclass(frozen=True)
class Reference:
    """One reference of an image.

    Attributes:
        image_id: of the reference.
        photo: its number.
        ratio: width over height.
        light: attention of the strongest part of the image's map.
        sprite: attention of each cell of the image, as one image of `rows` × `columns` tiles.
        heat: the map from the reference.
        inside: share of that light that is on the class by the reference's ground truth, if there is any.
        area: share of the reference that the class covers.
    """

    image_id: str
    photo: int
    ratio: float
    light: str
    sprite: str
    heat: str
    inside: float | None = None
    area: float | None = None


@dataclass(frozen=True)
class Attended:
    """One class of one image, with its references; `rows` × `columns` cells of it can be selected."""

    image_id: str
    class_index: int
    photo: int
    ratio: float
    alone: str
    result: str
    references: tuple[Reference, ...]
    rows: int
    columns: int


def choose_asked(shown: Sequence[Card], maps: Artifact, count: int) -> list[tuple[str, int]]:
    """Images and classes to show: from each class in turn one more image of the gallery."""
    by_class: dict[int, list[str]] = {}
    for card in sorted(
        shown, key=lambda card: (-(card.score or 0.0), -(card.coverage.share if card.coverage else 0.0))
    ):
        if card.image_id in maps:
            for label in card.labels:
                by_class.setdefault(label, []).append(card.image_id)
    asked: list[tuple[str, int]] = []
    seen: set[str] = set()
    while len(asked) < count and any(by_class.values()):
        for label in sorted(by_class):
            fresh = [one for one in by_class[label] if one not in seen]
            by_class[label] = fresh[1:]
            if fresh and len(asked) < count:
                asked.append((fresh[0], label))
                seen.add(fresh[0])
    return asked


def attended(found: Iterable[Looked], maps: Artifact, images: Catalogue, photos: Photos) -> Iterator[Attended]:
    """The evidence, as images."""
    for one in found:
        entry = images[one.image_id]
        fields = read_record(maps, one.image_id)
        place = fields["classes"].tolist().index(one.class_index)
        result = normalise(np.asarray(fields["maps"][place : place + 1], dtype=np.float32), "minmax")[0]
        rows, columns = one.evidence[0].attention.shape[:2]
        yield Attended(
            image_id=one.image_id,
            class_index=one.class_index,
            photo=photos.number(one.image_id),
            ratio=entry.width / entry.height,
            alone=_heat(one.alone, entry.height / entry.width),
            result=_heat(result, entry.height / entry.width),
            references=tuple(
                _reference(evidence, result, one.class_index, images, photos, entry.height / entry.width)
                for evidence in one.evidence
            ),
            rows=rows,
            columns=columns,
        )


def _reference(
    evidence: Evidence,
    result: Float32[np.ndarray, "h w"],
    class_index: int,
    images: Catalogue,
    photos: Photos,
    ratio: float,
) -> Reference:
    entry = images[evidence.reference]
    weights = _strongest(result, evidence.attention.shape[:2])
    looked = np.einsum("ij,ijkl->kl", weights, evidence.attention)
    inside, area = _on_class(looked, images, evidence.reference, class_index)
    return Reference(
        image_id=evidence.reference,
        photo=photos.number(evidence.reference),
        ratio=entry.width / entry.height,
        light=figures.light_layer(_lit(looked)),
        sprite=figures.light_layer(_tiled(evidence.attention)),
        heat=_heat(evidence.localization_map, ratio),
        inside=inside,
        area=area,
    )


def _heat(localization_map: Float32[np.ndarray, "h w"], ratio: float) -> str:
    """A map of the square that images are warped to, with the height over width of the image."""
    width = round(SHOWN_SIDE / max(1.0, ratio))
    grown = enlarge(localization_map[None], max(1, round(width * ratio)), max(1, width))
    return figures.heat_layer(normalise(grown, "minmax")[0])


def _strongest(result: Float32[np.ndarray, "h w"], cells: tuple[int, ...]) -> Float32[np.ndarray, "h_q w_q"]:
    """Weights of the cells of an image whose map is over half of its maximum; they sum to one."""
    small = enlarge(result[None], cells[0], cells[1])[0]
    weights = np.where(small >= 0.5 * small.max(), small, 0).astype(np.float32)
    total = weights.sum()
    return np.asarray(weights / total if total > 0 else np.full_like(weights, 1 / weights.size))


def _lit(attention: Float32[np.ndarray, "*query h_r w_r"]) -> Float32[np.ndarray, "*query h_r w_r"]:
    """Attention as light in [0, 1]: the maximum of each is 1; square roots make faint parts visible."""
    maximum = attention.max(axis=(-2, -1), keepdims=True)
    return np.asarray(np.sqrt(attention / np.maximum(maximum, 1e-12)), dtype=np.float32)


def _tiled(attention: Float32[np.ndarray, "h_q w_q h_r w_r"]) -> Float32[np.ndarray, "rows columns"]:
    """One image with a tile for each cell of the image; 32 shades are enough, and small."""
    lit = np.round(_lit(attention) * 31) / 31
    h_q, w_q, h_r, w_r = lit.shape
    return lit.transpose(0, 2, 1, 3).reshape(h_q * h_r, w_q * w_r)


def _on_class(
    looked: Float32[np.ndarray, "h_r w_r"], images: Catalogue, reference: str, class_index: int
) -> tuple[float | None, float | None]:
    """The shares of attention and of area that are on the class by the reference's ground truth."""
    if images[reference].mask is None:
        return None, None
    on_class: NDArray[np.float32] = (images.read_mask(reference) == class_index + 1).astype(np.float32)
    size = looked.shape[1], looked.shape[0]
    small = np.asarray(Image.fromarray(on_class).resize(size, Image.Resampling.BOX))
    return float((looked * small).sum()), float(on_class.mean())
