"""References by similarity, not drawn: the images with or without a class whose mean features are most similar.

Each image passes the backbone alone, so the nearest images depend only on the images of the set, on every machine.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from itertools import chain

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from mcis_cli.config import RunOptions
from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.data.references import nearest_references
from mcis_cli.errors import DamagedError
from mcis_cli.stages.cams.features import FeatureCache, View
from mcis_cli.store import Partial, Record, Schema, segments_of

OTHERS = 4096  # images that are compared with those of a segment at a time, to bound the memory
_DECIMALS = 12  # of a cosine, so that equal features have equal similarity wherever they are in a matrix product

SCHEMA: Schema = {"mean": ("float32", 1)}
Units = Float32[np.ndarray, "image channel"]
Rows = Int[np.ndarray, " row"]
Sharing = Callable[[Sequence[str]], AbstractContextManager[Partial]]


class Nearest:
    """For images to map and each of their classes, other images by similarity, the nearest first.

    Similarity is the cosine between the spatial means of features, of the plain view of both images. The means of all
    images are computed once, in segments, each by the process that comes first; all processes read them. Only images
    that are mapped here are compared with the others.
    """

    def __init__(
        self,
        features: FeatureCache,
        mapped: Catalogue,
        carriers: Catalogue,
        *,
        num_references: int,
        num_without: int = 0,
        options: RunOptions,
        sharing: Sharing | None = None,
    ) -> None:
        """Prepare, without computing.

        Args:
            features: of all images.
            mapped: the images that get maps.
            carriers: the images that references are of.
            num_references: of images of the class, the maximum number that will be needed.
            num_without: of images without the class, the maximum number that will be needed.
            options: how to run here.
            sharing: opens the segments of the means of some images; None to share them with no other process.
        """
        self._features, self._mapped, self._carriers = features, mapped, carriers
        self._num_references, self._num_without, self._options = num_references, num_without, options
        self._sharing = sharing
        self._found: dict[tuple[str, int, bool], tuple[str, ...]] = {}

    def prepare(self) -> None:
        """Compute the means of all images, or read those that other processes have computed."""
        _ = self._units

    def __call__(self, image_id: str, class_index: int) -> tuple[str, ...]:
        """The nearest images of a class: `num_references`, or as many as there are."""
        return self._of(image_id)[image_id, class_index, True]

    def without(self, image_id: str, class_index: int) -> tuple[str, ...]:
        """The nearest labelled images without a class: `num_without`, or as many as there are."""
        return self._of(image_id)[image_id, class_index, False]

    def _of(self, image_id: str) -> Mapping[tuple[str, int, bool], tuple[str, ...]]:
        self.compare([image_id])
        return self._found

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The images whose means are compared: those that are mapped, and all that may be their references."""
        queries = [entry for entry in self._mapped.entries if entry.labels]
        classes = {k for entry in queries for k in entry.labels}
        near = [one for one in self._labelled if self._num_without or not classes.isdisjoint(one.labels)]
        return tuple(sorted({entry.id for entry in (*queries, *near)}))

    @property
    def _labelled(self) -> Iterator[ImageEntry]:
        return (entry for entry in self._carriers.entries if entry.is_labelled)

    def compare(self, ids: Sequence[str]) -> None:
        """Find the nearest images of some images, in one pass over all others; those found before are forgotten."""
        if all((one, k, True) in self._found for one in ids for k in self._mapped[one].labels):
            return
        count = {True: self._num_references, **({False: self._num_without} if self._num_without else {})}
        tagged = [one for one in ids if self._mapped[one].labels]
        # The image itself may be among its best.
        best = [
            {(k, has): Best(number + 1) for k in self._mapped[one].labels for has, number in count.items()}
            for one in tagged
        ]
        units, rows = self._units, [self._rows[one] for one in tagged]
        for start, products, margin in products_with(units, rows):
            kinds = {kind for of_image in best for kind in of_image}
            pools = {kind: self._pool(*kind, start, products.shape[1]) for kind in kinds}
            floor = np.array([[min(one.worst for one in of_image.values()) - margin] for of_image in best])
            hits = products > floor.astype(np.float32)
            for query in np.flatnonzero(hits.any(axis=1)):
                columns = np.flatnonzero(hits[query])
                for kind, of_kind in best[query].items():
                    near = columns[pools[kind][columns]]
                    near = near[of_kind.candidates(products[query, near], margin)]
                    of_kind.add(cosines(units, rows[query], start + near), start + near)
        self._found = {
            (one, *kind): nearest_references([self.ids[row] for row in of.rows], one, of.similarity, count[kind[1]])
            for one, of_image in zip(tagged, best, strict=True)
            for kind, of in of_image.items()
        }

    def _pool(self, class_index: int, has_class: bool, start: int, size: int) -> Bool[np.ndarray, " row"]:
        """Which of some rows are labelled images with or without a class."""
        carriers = _marked(self._carriers_of[class_index], start, size)
        return carriers if has_class else _marked(self._labelled_rows, start, size) & ~carriers

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {image_id: row for row, image_id in enumerate(self.ids)}

    @cached_property
    def _carriers_of(self) -> Sequence[Rows]:
        """The rows of the images with each class."""
        classes = range(len(self._carriers.class_names))
        return [self._rows_of(one for one in self._carriers.carriers(k) if one in self._rows) for k in classes]

    @cached_property
    def _labelled_rows(self) -> Rows:
        return self._rows_of(entry.id for entry in self._labelled)

    def _rows_of(self, ids: Iterable[str]) -> Rows:
        return np.array([self._rows[one] for one in ids], dtype=np.intp)

    @cached_property
    def _units(self) -> Units:
        """The mean of each image's features over its positions, at length 1."""
        segments = segments_of(self.ids)
        if self._sharing is None:
            self._options.reporter.start("mean features", len(self.ids), images=1)
            return _stacked(len(self.ids), chain.from_iterable(map(self._means, segments)))
        with self._sharing(self.ids) as partial:
            with suppress(DamagedError):
                self._fill(partial, segments, partial.written(), partial.is_written)
                return _stacked(len(self.ids), partial.records(len(segments), SCHEMA))
            self._fill(partial, segments, set(filter(partial.segment, range(len(segments)))), partial.segment)
            return _stacked(len(self.ids), partial.records(len(segments), SCHEMA))

    def _fill(
        self, partial: Partial, segments: Sequence[Sequence[str]], found: Set[int], exists: Callable[[int], bool]
    ) -> None:
        """Compute the segments that are not found, and wait for those that other processes compute."""
        number, count = self._options.shard or (1, 1)
        first = (number - 1) * len(segments) // count  # processes begin at different places
        missing = [one for one in (*range(first, len(segments)), *range(first)) if one not in found]
        total, left = len(self.ids), sum(len(segments[one]) for one in missing)
        if missing:
            self._options.reporter.start("mean features", total, total - left, images=1)
        for wait in (False, True):  # those of a process that is killed meanwhile are computed at the second turn
            for one in list(missing):
                with partial.claim(one, wait=wait) as is_mine:
                    if not is_mine:
                        continue
                    if exists(one):
                        self._options.reporter.advance(len(segments[one]))
                    else:
                        partial.write_segment(one, SCHEMA, self._means(segments[one]))
                    missing.remove(one)

    def _means(self, ids: Sequence[str]) -> Iterator[Record]:
        with self._features.reading_ahead(((one, View()) for one in ids), self._options.workers):
            for image_id in ids:
                mean = self._features(image_id, View()).features.cpu().double().mean((1, 2)).numpy()
                unit = mean / max(np.linalg.norm(mean), np.finfo(np.float64).tiny)
                yield image_id, {"mean": unit.astype(np.float32)}
                self._options.reporter.advance()


class Best:
    """The most similar of the images that are added, in the order of their rows; of equal ones, the first.

    Attributes:
        rows: of the images, in order.
        similarity: of each.
        worst: what another one must exceed.
    """

    def __init__(self, count: int) -> None:
        """Keep `count` of them, at least one."""
        self._count, self.worst = count, -np.inf
        self.rows, self.similarity = np.empty(0, np.intp), np.empty(0, np.float64)

    def candidates(self, approximate: Float32[np.ndarray, " row"], margin: float) -> Rows:
        """Which of some images may be among the best, if their similarity is known within a margin."""
        bar = self.worst - margin
        if len(approximate) > self._count:
            bar = max(bar, float(np.partition(approximate, -self._count)[-self._count]) - 2 * margin)
        return np.flatnonzero(approximate >= bar)

    def add(self, similarity: Float64[np.ndarray, " row"], rows: Rows) -> None:
        """Add images whose rows come after those of all earlier ones."""
        if not len(rows):
            return
        rows, similarity = np.concatenate([self.rows, rows]), np.concatenate([self.similarity, similarity])
        kept = np.sort(np.argsort(-similarity, kind="stable")[: self._count])
        self.rows, self.similarity = rows[kept], similarity[kept]
        if len(kept) == self._count:
            self.worst = self.similarity.min()


def products_with(
    units: Units, queries: Sequence[int]
) -> Iterator[tuple[int, Float32[np.ndarray, "query row"], float]]:
    """The products of some rows with all, in float32: the first row of a block, the block, and its maximum error.

    A sum of n products of float32 numbers is wrong by at most n · 2⁻²⁴ times the sum of their sizes, which is at most 1
    for vectors of length 1, up to rounding; see Higham, Accuracy and Stability of Numerical Algorithms, §3.1.
    """
    left, margin = units[queries], 1.1 * units.shape[1] * 2.0**-24
    for start in range(0, len(units), OTHERS):
        yield start, left @ units[start : start + OTHERS].T, margin


def cosines(units: Units, query: int, rows: Rows) -> Float64[np.ndarray, " row"]:
    """The cosines of a vector of length 1 with some others."""
    similarity: Float64[np.ndarray, " row"] = units[rows].astype(np.float64) @ units[query].astype(np.float64)
    return similarity.round(_DECIMALS)


def _marked(rows: Rows, start: int, size: int) -> Bool[np.ndarray, " row"]:
    """Which of `size` rows from `start` on are among some sorted rows."""
    first, last = np.searchsorted(rows, (start, start + size))
    marked = np.zeros(size, dtype=bool)
    marked[rows[first:last] - start] = True
    return marked


def _stacked(total: int, records: Iterable[Record]) -> Units:
    units: Units = np.empty((0, 0), np.float32)
    for row, (_, fields) in enumerate(records):
        if not row:
            units = np.empty((total, len(fields["mean"])), np.float32)
        units[row] = fields["mean"]
    return units
