"""A segmentation network applied to photographs of any size: scales, mirror, windows, CRF; results in their order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mcis_cli.config import Config, EvalConfig, RunOptions
from mcis_cli.config.values import Enlarging
from mcis_cli.data.augment import normalise
from mcis_cli.data.loading import Workers
from mcis_cli.maps.crf import Candidates, candidates, crf_on_present, dense_crf
from mcis_cli.maps.windows import average_windows
from mcis_cli.models.deeplab import enlarged
from mcis_cli.stages import check
from mcis_cli.stages.engine.by_image import ByImage
from mcis_cli.stages.engine.finishing import finish
from mcis_cli.stages.engine.networks import DeepLab, backbone_of, place, stored_segmenter
from mcis_cli.store import Artifact
from mcis_cli.training.precision import Precision, autocast, choose_device, choose_precision, describe_machine

Settled = TypeVar("Settled", bound=Config)
Result = TypeVar("Result")
Image3 = UInt8[np.ndarray, "height width 3"]
Mask = UInt8[np.ndarray, "height width"]
Probabilities = Float32[np.ndarray, "label height width"]

WINDOW_OVERLAP = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """A trained network and how to apply it to a photograph.

    Attributes:
        model: the network, in evaluation mode.
        scales: factors on the photograph's size; probabilities are averaged over them.
        flip: average over the mirrored photograph too.
        window: longest side of one forward pass, in pixels of the scaled photograph; None has no bound.
        device: where the network is.
        precision: of its matrix products.
        pad: extend smaller images to the window, at the bottom and at the right, with the mean colour.
        resampling: of the photograph to its scales, and of probabilities back.
    """

    model: DeepLab
    scales: tuple[float, ...]
    flip: bool
    window: int | None
    device: torch.device
    precision: Precision
    pad: bool = False
    resampling: Enlarging = "bilinear"

    def probabilities(self, image: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "label height width"]:
        """Probability of each label at each pixel; sums to one over the labels."""
        views = self._views(image)
        total = next(views)
        for scores in views:  # in place: probabilities of a large photograph take gigabytes
            total += scores
        total /= len(self.scales) * (2 if self.flip else 1)
        return total

    def _views(self, image: UInt8[np.ndarray, "height width 3"]) -> Iterator[Float32[np.ndarray, "label height width"]]:
        """Probabilities at the photograph's size, from each view of it."""
        height, width = image.shape[:2]
        for scale in self.scales:
            view = self._scaled(image, scale)
            scores = self._whole(np.stack([view, view[:, ::-1]]) if self.flip else view[None])
            yield self._resized(scores[0], height, width)
            if self.flip:
                yield self._resized(scores[1][:, :, ::-1], height, width)

    def _scaled(self, image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
        if scale == 1:
            return image
        height, width = image.shape[:2]
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        if self.resampling == "bicubic":
            pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
            resized = _bicubic(pixels, size)[0].permute(1, 2, 0).round().clamp(0, 255)
            return np.asarray(resized.numpy(), dtype=np.uint8)
        return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))

    def _whole(self, images: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        """Probabilities for images of one size: in one forward pass, or in windows."""
        if self.window is None or max(images.shape[1:3]) <= self.window:
            return list(self._forward(images))
        stride = max(1, round(self.window * (1 - WINDOW_OVERLAP)))
        one = lambda image: self._forward(image[None])[0]  # noqa: E731
        return [average_windows(one, image, window=self.window, stride=stride) for image in images]

    @torch.inference_mode()
    def _forward(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        backbone = backbone_of(self.model)
        batch = torch.stack([normalise(image, backbone.mean, backbone.std) for image in images])
        height, width = images.shape[1:3]
        if self.pad and self.window is not None:
            missing = (0, max(0, self.window - width), 0, max(0, self.window - height))
            batch = functional.pad(batch, missing)
        batch = batch.to(self.device, memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            logits = self.model(batch)
        full = enlarged(logits.float(), (batch.shape[2], batch.shape[3]), self.model.align_corners)
        return np.asarray(full.softmax(1)[:, :, :height, :width].cpu().numpy(), dtype=np.float32)

    def _resized(self, scores: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
        if scores.shape[1:] == (height, width):
            return scores
        tensor = torch.from_numpy(scores.copy())[None]  # mirrored ones have negative strides
        if self.resampling == "bicubic":
            resized = _bicubic(tensor, (height, width)).clamp(min=0)
            resized = resized / resized.sum(1, keepdim=True)
        else:
            resized = functional.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False)
        return np.asarray(resized[0].numpy(), dtype=np.float32)


def _bicubic(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize as OpenCV's INTER_CUBIC does: no antialiasing, pixels as areas."""
    return functional.interpolate(maps, size=size, mode="bicubic", align_corners=False)


def load_segmenter(
    artifact: Artifact,
    *,
    scales: tuple[float, ...],
    flip: bool,
    window: int | None,
    device: torch.device,
    precision: Precision,
    pad: bool = False,
    resampling: Enlarging = "bilinear",
) -> Segmenter:
    """The network of a `train-seg` artifact, ready for photographs.

    Raises:
        DamagedError: its content is not what that stage writes.
    """
    check(artifact)
    model = stored_segmenter(artifact)
    place(model, device)
    model.eval()
    return Segmenter(
        model=model,
        scales=scales,
        flip=flip,
        window=window,
        device=device,
        precision=precision,
        pad=pad,
        resampling=resampling,
    )


class Predictor:
    """The network of a `train-seg` artifact on this machine, as settings say, and the CRF after it."""

    def __init__(self, network: Artifact, config: EvalConfig, options: RunOptions) -> None:
        """Load the network.

        Args:
            network: a `train-seg` artifact.
            config: scales, mirror, window, precision and CRF.
            options: how to run on this machine.

        Raises:
            DamagedError: its content is not what that stage writes.
        """
        device = choose_device(options.device, options.local)
        self._config, self._workers = config, options.workers if config.crf else 0
        self._terms: dict[str, Any] = config.crf_settings.model_dump()
        self._on_present = config.crf_labels == "present"
        self._segmenter = load_segmenter(
            network,
            scales=config.scales,
            flip=config.flip,
            window=config.window,
            device=device,
            precision=choose_precision(config.precision, device),
            pad=config.pad,
            resampling=config.resampling,
        )

    def probabilities(self, image: Image3) -> Probabilities:
        """The prediction before any CRF: see `Segmenter.probabilities`."""
        return self._segmenter.probabilities(image)

    def refined(self, image: Image3) -> Probabilities:
        """The prediction, after the CRF if the settings have one, all in this process."""
        probabilities = self.probabilities(image)
        if not self._config.crf:
            return probabilities
        return (crf_on_present if self._on_present else dense_crf)(image, probabilities, **self._terms)

    def masks(self, then: Callable[..., Result], read: Callable[[str], tuple[Any, ...]]) -> ByImage[Result]:
        """Masks of images by id, each passed to a function.

        The network runs in this process. A CRF holds the interpreter's lock, so it runs in separate processes, which
        get predictions as they come.

        Args:
            then: a function of a module, which runs in the same process as the CRF. It gets the id, the mask, the mask
                before the CRF (the same without a CRF), and the other values that `read` returned.
            read: from an id to the image and other arguments of `then`.
        """

        def predicted(ids: Sequence[str]) -> Iterator[tuple[str, Candidates, list[Any]]]:
            present_only = self._config.crf and self._on_present
            for image_id in ids:
                image, *rest = read(image_id)
                yield image_id, candidates(image, self.probabilities(image), present_only=present_only), rest

        work = partial(finish, self._terms if self._config.crf else None, then)
        return ByImage(Workers(work, self._workers, processes=True), predicted)


def settle(config: Settled, options: RunOptions) -> tuple[Settled, Mapping[str, Any]]:
    """Settings with the precision of this machine, and its description for the provenance."""
    device = choose_device(options.device, options.local)
    precision = choose_precision(getattr(config, "precision", "auto"), device)
    return config.model_copy(update={"precision": precision}), describe_machine(device, precision)
