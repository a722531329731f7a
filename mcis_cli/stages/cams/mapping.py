"""From features to the localization maps of one image: single-round, co-attentive, contrastive (paper §3.2)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mcis_cli.config import CamsConfig
from mcis_cli.data.catalogue import Catalogue, ImageEntry
from mcis_cli.data.references import draw_references
from mcis_cli.maps.localization import aggregate, released_combination
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.co_attention import attended_activations, contrastive_attention, query, weigh_activations
from mcis_cli.models.equivariance import cues_of, refine
from mcis_cli.stages.cams.features import FeatureCache, Features, Key, View
from mcis_cli.stages.cams.similarity import Nearest
from mcis_cli.store import Record

RELEASED_SCALES = (0.75, 2.0)

References = Mapping[int, tuple[str, ...]]


@dataclass(frozen=True)
class Mapper:
    """Makes the record of one image: a pure function of the image, the seed, and the images of its classes.

    Attributes:
        model: the classifier.
        features: of all images.
        config: settings.
        carriers: the images that references are of.
        nearest: chooses references, if the settings use the nearest.
    """

    model: CoAttentionClassifier
    features: FeatureCache
    config: CamsConfig
    carriers: Catalogue
    nearest: Nearest | None = None

    def records(self, entries: Sequence[ImageEntry], workers: int) -> Iterator[Record]:
        """The records of images, while `workers` threads read ahead the images and references that will be needed."""
        if self.nearest is not None:
            self.nearest.compare([entry.id for entry in entries])
        with self.features.reading_ahead(self._order(entries), workers):
            yield from map(self.record, entries)

    def record(self, entry: ImageEntry) -> Record:
        """The maps of one image at the resolution of the network, with their references."""
        references = self.references(entry)
        named = {self.carriers.class_names[k]: list(ids) for k, ids in references.items()}
        return entry.id, {
            "maps": self.maps(entry, references).astype(np.float16),
            "classes": np.array(entry.labels, dtype=np.int32),
            "references": np.frombuffer(json.dumps(named, ensure_ascii=False).encode(), dtype=np.uint8),
        }

    def references(self, entry: ImageEntry) -> References:
        """The references of each class of an image."""
        if self.config.reference_choice == "nearest" and self.config.refs:
            assert self.nearest is not None, "given with these settings"
            return {k: self.nearest(entry.id, k)[: self.config.refs] for k in entry.labels}
        return {
            k: draw_references(
                self.carriers.carriers(k),
                entry.id,
                self.carriers.class_names[k],
                self.config.refs,
                self.config.seed,
                replacement=self.config.reference_replacement,
                allow_self=self.config.reference_self,
            )
            for k in entry.labels
        }

    def without(self, entry: ImageEntry) -> References:
        """The references without each class of an image, whose evidence for it is subtracted."""
        config = self.config
        if self.nearest is None or not config.refs_without:
            return {}
        return {k: self.nearest.without(entry.id, k)[: config.refs_without] for k in entry.labels}

    def maps(self, entry: ImageEntry, references: References) -> Float[np.ndarray, "cls h w"]:
        """The maps of the classes of an image: mean over the views of scales and mirror, on the first scale's grid."""
        if self.config.localization == "released" and entry.labels:
            return self._released(entry, references)
        views = self._views()
        maps = [self._refined(entry, self._view_maps(entry, references, view), view).cpu().numpy() for view in views]
        height, width = maps[0].shape[1:]
        return aggregate(maps, [view.mirrored for view in views], height=height, width=width)

    def _views(self) -> list[View]:
        mirrors = (False, True) if self.config.flip else (False,)
        return [View(scale, mirrored) for scale in self.config.scales for mirrored in mirrors]

    def _order(self, entries: Sequence[ImageEntry]) -> Iterator[Key]:
        """The views that the maps of images need, in this order; see `maps`."""
        for entry in entries:
            references = _distinct(self.references(entry), self.without(entry))
            for view in [View()] if self.config.localization == "released" else self._views():
                yield entry.id, view
                yield from ((reference, _of_reference(view)) for reference in references)
            if self.config.localization == "released":
                yield from ((entry.id, view) for view in (View(mirrored=True), *map(View, RELEASED_SCALES)))

    @torch.inference_mode()
    def _view_maps(self, entry: ImageEntry, references: References, view: View) -> Float[Tensor, "cls h w"]:
        """L_{n,k} for the labels of one view: over references, or single-round without any."""
        own = self.features(entry.id, view)
        maps = own.activations[list(entry.labels)]
        if not any(references.values()):
            return maps
        without = self.without(entry)
        queries = self._queries(entry, own, _distinct(references, without))
        found: dict[int, list[Tensor]] = {k: [] for k in entry.labels}
        for reference in _distinct(references):
            other = self.features(reference, _of_reference(view))
            transformed = queries[self._is_single(reference)]
            for k, activation in self._pair_maps(own, transformed, reference, other, references).items():
                # With replacement, a reference may be drawn, and count, more than once.
                found[k] += [activation] * max(1, references[k].count(reference))
        subtracted = self._evidence_without(without, queries, view)
        return torch.stack(
            [
                torch.stack(found[k]).mean(0) - subtracted.get(k, 0) if found[k] else maps[place]
                for place, k in enumerate(entry.labels)
            ]
        )

    def _evidence_without(
        self, without: References, queries: Mapping[bool, Tensor], view: View
    ) -> dict[int, Float[Tensor, "h w"]]:
        """What is subtracted from the map of each class: the weighted mean of its maps from images without it."""
        found: dict[int, list[Tensor]] = {k: [] for k, ids in without.items() if ids}
        for reference in _distinct(without):
            other, transformed = self.features(reference, _of_reference(view)), queries[self._is_single(reference)]
            absent = [k for k, ids in without.items() if reference in ids]
            compared = self.model.co_attention.compared(other.features)
            mixed = attended_activations(transformed, compared, other.co_activations[absent])
            for k, activation in zip(absent, mixed, strict=True):
                found[k].append(activation)
        return {k: self.config.weight_without * torch.stack(maps).mean(0) for k, maps in found.items()}

    @torch.inference_mode()
    def _refined(self, entry: ImageEntry, maps: Float[Tensor, "cls h w"], view: View) -> Float[Tensor, "cls h w"]:
        """Maps in which similar positions share their scores (SEAM; paper §4.4), if `refine` is set."""
        embedding = self.features(entry.id, view).embedding if self.config.refine and len(maps) else None
        return maps if embedding is None else refine(cues_of(maps[None]), embedding[None])[0, 1:]

    def _queries(self, entry: ImageEntry, own: Features, references: Sequence[str]) -> dict[bool, Tensor]:
        """G of `query` for references of single-label sources and for others, if there are any."""
        single = entry.domain == "single-label"
        co = self.model.co_attention
        compared = co.compared(own.features)
        return {kind: query(compared, co.weight_of(single, kind)) for kind in {*map(self._is_single, references)}}

    def _is_single(self, image_id: str) -> bool:
        return self.carriers[image_id].domain == "single-label"

    def _pair_maps(
        self, own: Features, transformed: Tensor, reference: str, other: Features, references: References
    ) -> dict[int, Float[Tensor, "h w"]]:
        """The maps from one reference: co-attentive for the classes that it was drawn for, contrastive for others."""
        common = [k for k, ids in references.items() if reference in ids]
        labels = self.carriers[reference].labels
        unshared = [k for k in references if k not in labels] if self.config.with_contrastive else []
        wanted = other.co_activations[common]
        if unshared:
            wanted = torch.cat([wanted, self.model.co_attention.mask_conv(other.features[None].float())[0]])
        mixed = attended_activations(transformed, self.model.co_attention.compared(other.features), wanted)
        maps = dict(zip(common, mixed, strict=False))
        if unshared:
            faded = contrastive_attention(mixed[-1:].sigmoid())
            bias = (self.model.co_class_head or self.model.class_head).bias
            weighed = weigh_activations(own.co_activations[unshared], faded, None if bias is None else bias[unshared])
            maps |= dict(zip(unshared, weighed, strict=True))
        return maps

    @torch.inference_mode()
    def _released(self, entry: ImageEntry, references: References) -> Float[np.ndarray, "cls h w"]:
        """The five maps of the released code, in its order: I with its mirror (both sides), what the 0.75× and the 2×
        view find in I, brought to I's grid, and the mean over the references (difference 2)."""
        plain, mirror = View(), View(mirrored=True)
        pairings = [self._self_maps(entry, plain, mirror), self._self_maps(entry, mirror, plain).flip(-1)]
        size = pairings[0].shape[1:]
        for scale in RELEASED_SCALES:
            found = self._self_maps(entry, View(scale), plain)[None]
            pairings.append(functional.interpolate(found, size=size, mode="bicubic", align_corners=False)[0])
        pairings.append(self._view_maps(entry, references, plain))
        return released_combination([maps.cpu().numpy() for maps in pairings])

    def _self_maps(self, entry: ImageEntry, shown: View, other: View) -> Float[Tensor, "cls h w"]:
        """Maps on the grid of one view of an image, made of another view; W_P has the plain image on its left."""
        own, reference = self.features(entry.id, shown), self.features(entry.id, other)
        single = entry.domain == "single-label"
        co = self.model.co_attention
        weight = co.weight_of(single, single)
        transformed = query(co.compared(own.features), weight if shown == View() else weight.mT)
        wanted = reference.co_activations[list(entry.labels)]
        return attended_activations(transformed, co.compared(reference.features), wanted)


def _distinct(*several: References) -> list[str]:
    """All references, each once, in a fixed order."""
    return sorted({reference for references in several for ids in references.values() for reference in ids})


def _of_reference(view: View) -> View:
    """How references of a view are shown: not mirrored, for they are evidence, not views of the image."""
    return replace(view, mirrored=False)
