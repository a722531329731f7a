"""Features of a frozen backbone for each view, computed once and kept for later epochs.

Each view passes the published layers by itself, so keeping, dropping or recomputing features cannot change a bit.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mcis_cli.config import TrainClsConfig
from mcis_cli.errors import UsageError
from mcis_cli.models.backbones import Backbone
from mcis_cli.stages.engine.kept import Kept
from mcis_cli.stages.engine.scratch import Scratch
from mcis_cli.training.precision import Precision, autocast


class View(NamedTuple):
    """A view: SHA-256 of the photograph, the side that it is warped to, and whether it is mirrored."""

    digest: str
    image_size: int
    mirrored: bool


class PublishedFeatures:
    """Features of views before the new layers, in memory up to `budget` bytes, others in a scratch folder."""

    def __init__(
        self, backbone: Backbone, *, device: torch.device, precision: Precision, budget: int, scratch: Scratch
    ) -> None:
        self._backbone, self._device, self._precision = backbone, device, precision
        self._left, self._scratch = budget, scratch
        self._kept: dict[View, Kept] = {}
        self.num_forwards = 0

    def has(self, views: Sequence[View]) -> bool:
        """Whether the features of all these views are kept."""
        return all(view in self._kept or view in self._scratch for view in views)

    def __call__(
        self, views: Sequence[View], read: Callable[[], list[Float[Tensor, "3 _h _w"]]]
    ) -> list[Float[Tensor, "_channel _h _w"]]:
        """The features of views, on the CPU.

        Args:
            views: The views.
            read: Returns their normalised pixels; called if features are not kept.
        """
        found, pixels = [], None
        for place, view in enumerate(views):
            if kept := self._kept.get(view) or self._scratch.get(view):
                found.append(kept.distinct()[0])
            else:
                pixels = pixels or read()
                found.append(self._keep(view, self._compute(pixels[place])))
        return found

    def _keep(self, view: View, features: Tensor) -> Tensor:
        if features.nbytes <= self._left:
            self._kept[view] = Kept.of([features])
            self._left -= features.nbytes
        else:
            self._scratch.put(view, [features])
        return features

    def _compute(self, pixels: Tensor) -> Tensor:
        self.num_forwards += 1
        self._backbone.trunk.eval()  # also in a training, because dropout would change the features each time
        image = pixels[None].to(self._device, memory_format=torch.channels_last)
        with torch.no_grad(), autocast(self._device, self._precision):
            features = self._backbone.trunk(image)
        return features.contiguous(memory_format=torch.channels_last)[0].cpu()  # type: ignore[no-any-return]


def refuse_changing_features(backbone: Backbone, config: TrainClsConfig) -> None:
    """Check that every epoch shows a frozen backbone the same views.

    Raises:
        UsageError: its features change.
    """
    checks = (
        (not any(one.requires_grad for one in backbone.trunk.parameters()), f"frozen_stages={backbone.num_stages}"),
        (not any(config.color_jitter), "color_jitter=[0,0,0,0]"),
        (config.long_side is None, "long_side unset"),
        (not config.equivariant, "equivariant=false"),
    )
    if wrong := [expected for holds, expected in checks if not holds]:
        raise UsageError(
            f"train-cls.keep_features needs features that no epoch changes, with {backbone.name}: expected "
            f"{', '.join(wrong)}; set it in [train-cls], or give --set train-cls.keep_features=false"
        )
