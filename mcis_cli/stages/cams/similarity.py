"""References by similarity, not drawn: the images with or without a class whose mean features are most similar.

Each image passes the backbone alone, so the nearest images depend only on the images of the set, on every machine.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64

from mcis_cli.config import RunOptions
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.references import nearest_references
from mcis_cli.stages.cams.features import FeatureCache, View

QUERIES, OTHERS = 256, 4096  # compared at a time, to bound the memory
_DECIMALS = 12  # of a cosine, so that equal features have equal similarity wherever they are in a matrix product

Units = Float32[np.ndarray, "image channel"]


class Nearest:
    """For each image to map and each of its classes, other images by similarity, the nearest first.

    Similarity is the cosine between the spatial means of features, of the plain view of both images.
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
    ) -> None:
        """Prepare, without computing.

        Args:
            features: of all images.
            mapped: the images that get maps.
            carriers: the images that references are of.
            num_references: of images of the class, the maximum number that will be needed.
            num_without: of images without the class, the maximum number that will be needed.
            options: how to run here. Every shard needs all images: each begins at another part, and reads the rest from
                the shared features.
        """
        self._features, self._mapped, self._carriers = features, mapped, carriers
        self._num_references, self._num_without, self._options = num_references, num_without, options

    def prepare(self) -> None:
        """Compute the means of all images, once."""
        _ = self._found

    def __call__(self, image_id: str, class_index: int) -> tuple[str, ...]:
        """The nearest images of a class: `num_references`, or as many as there are."""
        return self._found[image_id, class_index, True]

    def without(self, image_id: str, class_index: int) -> tuple[str, ...]:
        """The nearest labelled images without a class: `num_without`, or as many as there are."""
        return self._found[image_id, class_index, False]

    @cached_property
    def _found(self) -> Mapping[tuple[str, int, bool], tuple[str, ...]]:
        """The nearest images by image, class, and whether they have the class."""
        pools = {
            (k, has_class): self._pool(k, has_class)
            for k in range(len(self._carriers.class_names))
            if self._mapped.carriers(k)
            for has_class in ((True, False) if self._num_without else (True,))
        }
        ids = sorted({one for (k, _), pool in pools.items() if pool for one in (*self._mapped.carriers(k), *pool)})
        units, rows = self._mean_features(ids), {image_id: row for row, image_id in enumerate(ids)}
        found: dict[tuple[str, int, bool], tuple[str, ...]] = {}
        for (k, has_class), pool in pools.items():
            queries = self._mapped.carriers(k)
            if not pool:
                found |= dict.fromkeys(((image_id, k, has_class) for image_id in queries), ())
                continue
            count = self._num_references if has_class else self._num_without
            of_queries, of_pool = ([rows[image_id] for image_id in some] for some in (queries, pool))
            for image_id, similarity in zip(queries, cosines(units, of_queries, of_pool), strict=True):
                found[image_id, k, has_class] = nearest_references(pool, image_id, similarity, count)
        return found

    def _pool(self, class_index: int, has_class: bool) -> tuple[str, ...]:
        """The ids of the labelled images with or without a class, sorted."""
        carriers = self._carriers.carriers(class_index)
        if has_class:
            return carriers
        return tuple(sorted(set(self._carriers.labelled().ids).difference(carriers)))

    def _mean_features(self, ids: Sequence[str]) -> Units:
        """The mean of each image's features over its positions, at length 1."""
        number, count = self._options.shard or (1, 1)
        first = (number - 1) * len(ids) // count
        order = [*range(first, len(ids)), *range(first)]
        units: Units = np.empty((0, 0), np.float32)
        self._options.reporter.start("mean features", len(ids), images=1)
        with self._features.reading_ahead(((ids[row], View()) for row in order), self._options.workers):
            for row in order:
                mean = self._features(ids[row], View()).features.cpu().double().mean((1, 2)).numpy()
                if not units.size:
                    units = np.empty((len(ids), len(mean)), np.float32)
                units[row] = mean / max(np.linalg.norm(mean), np.finfo(np.float64).tiny)
                self._options.reporter.advance()
        return units


def cosines(units: Units, queries: Sequence[int], others: Sequence[int]) -> Iterator[Float64[np.ndarray, " other"]]:
    """The cosines of each of some vectors of length 1 with all of others, one row of `units` each."""
    for start in range(0, len(queries), QUERIES):
        left = units[queries[start : start + QUERIES]].astype(np.float64)
        blocks = (others[begin : begin + OTHERS] for begin in range(0, len(others), OTHERS))
        parts = [left @ units[block].astype(np.float64).T for block in blocks]
        yield from np.concatenate(parts, axis=1).round(_DECIMALS)
