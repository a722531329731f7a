"""Views of photographs and masks for training: warp, colour jitter, mirror, random scale and crop (paper §3.3).

Photographs are uint8 (height, width, 3), masks uint8 (height, width); what goes into a network is a normalised float32
tensor. Other modules read them and collect views into batches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageStat
from torch import Tensor

Photograph = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601, the grey of JPEG, Pillow and torchvision
YIQ = np.array([GREY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


def classification_view(
    image: Photograph,
    *,
    image_size: int,
    color_jitter: tuple[float, float, float, float],
    mirror: bool,
    generator: np.random.Generator,
    mean: Sequence[float],
    std: Sequence[float],
    long_side: tuple[int, int] | None = None,
) -> Float[Tensor, "3 h w"]:
    """Make a training view for the classifier: warped to a square or cut out, colours jittered, perhaps mirrored.

    Args:
        image: the photograph, any size.
        image_size: height and width of the view, in pixels.
        color_jitter: strengths of brightness, contrast, saturation, hue; see `jitter_colors`.
        mirror: mirror half of the views.
        generator: source of the random choices.
        mean: mean of each channel on the scale 0..1, as the backbone requires it.
        std: deviation of each channel on the scale 0..1.
        long_side: range of the photograph's long side before a square is cut out of it, as SEAM does; None warps. The
            area of the square beyond the photograph is the mean colour.

    Returns:
        The normalised view.
    """
    place = (0, 0)
    if long_side is None:
        image = warp(image, image_size)
    else:
        image, place = _cut_out(image, image_size, long_side, generator)
    view = jitter_colors(image, color_jitter, generator)
    if mirror and draws_mirror(generator):
        view = view[:, ::-1]
    pixels = normalise(view, mean, std)
    if long_side is None:
        return pixels
    square = torch.zeros(3, image_size, image_size)
    square[:, place[0] : place[0] + view.shape[0], place[1] : place[1] + view.shape[1]] = pixels
    return square


def draws_mirror(generator: np.random.Generator) -> bool:
    """Whether a view is mirrored, as half of the views are; the first random choice of a warped view without jitter."""
    return bool(generator.random() < 0.5)


def _cut_out(
    image: Photograph, image_size: int, long_side: tuple[int, int], generator: np.random.Generator
) -> tuple[Photograph, tuple[int, int]]:
    """Draw the part of a photograph that a square shows, and its place in the square."""
    height, width = image.shape[:2]
    factor = int(generator.integers(long_side[0], long_side[1] + 1)) / max(height, width)
    box, kept, place = [], [], []
    for side in (height, width):
        scaled = max(1, round(side * factor))
        start = int(generator.integers(max(scaled - image_size, 0) + 1))
        kept.append(min(image_size, scaled))
        place.append(int(generator.integers(image_size - kept[-1] + 1)))
        box.append((start * side / scaled, (start + kept[-1]) * side / scaled))
    (top, bottom), (left, right) = box
    cut = Image.fromarray(image).resize((kept[1], kept[0]), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.asarray(cut), (place[0], place[1])


@dataclass(frozen=True)
class Cropping:
    """How a view is cut out of a photograph, for a network that learns from pixels.

    Attributes:
        side: height and width of the view, in pixels.
        scales: the smallest and the largest factor on the photograph's size.
        mirror: mirror half of the views.
        scale_step: if given, the factor is the smallest one plus a multiple of this step.
    """

    side: int
    scales: tuple[float, float]
    mirror: bool
    scale_step: float | None = None

    def factor(self, generator: np.random.Generator) -> float:
        """Draw a factor on the photograph's size."""
        smallest, largest = self.scales
        if self.scale_step is None:
            return generator.uniform(smallest, largest)
        num_factors = 1 + round((largest - smallest) / self.scale_step - 0.49)
        return smallest + self.scale_step * int(generator.integers(num_factors))


def segmentation_view(
    image: Photograph,
    mask: Mask,
    cropping: Cropping,
    *,
    generator: np.random.Generator,
    mean: Sequence[float],
    std: Sequence[float],
    ignore_index: int = 255,
) -> tuple[Float[Tensor, "3 crop crop"], UInt8[Tensor, "crop crop"]]:
    """Make a training view for the segmentation network: random scale, random crop, perhaps mirrored.

    The area of the crop beyond the photograph, at its bottom and right, is the mean colour (0 when normalised) and
    `ignore_index`, as in the released code.

    Args:
        image: the photograph, any size.
        mask: its mask, of the same size.
        cropping: size of the view, scales, mirror.
        generator: source of the random choices.
        mean: mean of each channel on the scale 0..1, as the backbone requires it.
        std: deviation of each channel on the scale 0..1.
        ignore_index: the mask value that losses ignore.

    Returns:
        The normalised view and its mask.
    """
    size, side, factor = mask.shape, cropping.side, cropping.factor(generator)
    assert image.shape[:2] == size, "the caller pairs a photograph with its own mask"
    scaled = [max(1, round(length * factor)) for length in size]
    top, left = (int(generator.integers(max(length - side, 0) + 1)) for length in scaled)
    height, width = (min(side, length) for length in scaled)
    step = -1 if cropping.mirror and draws_mirror(generator) else 1

    # Only the crop is resized: its edges, in pixels of the original photograph.
    box = (
        left * size[1] / scaled[1],
        top * size[0] / scaled[0],
        (left + width) * size[1] / scaled[1],
        (top + height) * size[0] / scaled[0],
    )
    kept_image = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box)
    kept_mask = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST, box=box)

    view = torch.zeros(3, side, side)
    target = torch.full((side, side), ignore_index, dtype=torch.uint8)
    view[:, :height, :width] = normalise(np.asarray(kept_image)[:, ::step], mean, std)
    target[:height, :width] = torch.from_numpy(np.array(kept_mask)[:, ::step].copy())
    return view, target


def normalise(image: Photograph, mean: Sequence[float], std: Sequence[float]) -> Float[Tensor, "3 h w"]:
    """Bring a photograph to the scale of a backbone: (image / 255 - mean) / std, channels first.

    Args:
        image: the photograph.
        mean: mean of each channel on the scale 0..1.
        std: deviation of each channel on the scale 0..1.

    Returns:
        A new float32 tensor.
    """
    planes = np.empty((3, *image.shape[:2]), dtype=np.float32)
    for channel, plane in enumerate(planes):
        np.multiply(image[..., channel], np.float32(1 / (255 * std[channel])), out=plane)
        plane -= np.float32(mean[channel] / std[channel])
    return torch.from_numpy(planes)


def warp(image: Photograph, image_size: int) -> Photograph:
    """Resize a photograph to a square, bilinear and antialiased; its proportions are not kept."""
    return np.asarray(Image.fromarray(image).resize((image_size, image_size), Image.Resampling.BILINEAR))


def jitter_colors(
    image: Photograph, strengths: tuple[float, float, float, float], generator: np.random.Generator
) -> Photograph:
    """Change brightness, contrast, saturation and hue at random, in random order.

    The ranges and meanings are those of torchvision's ColorJitter, with two differences that make the four steps one
    affine map of RGB (ten times quicker): hue turns around the grey axis of YIQ, not in HSV, and values are cut to
    0..255 once, at the end.

    Args:
        image: the photograph.
        strengths: brightness, contrast and saturation are multiplied by a factor from 1 - strength to 1 + strength; hue
            turns by up to plus or minus strength of a full circle.
        generator: source of the random choices.

    Returns:
        A new photograph of the same size.
    """
    if not any(strengths):
        return image
    factors = [generator.uniform(max(0.0, 1 - strength), 1 + strength) for strength in strengths[:3]]
    turn = generator.uniform(-strengths[3], strengths[3])
    photograph = Image.fromarray(image)
    color = color_map(
        np.array(ImageStat.Stat(photograph).mean),
        (factors[0], factors[1], factors[2], turn),
        order=generator.permutation(4).tolist(),
    )
    color[:, 3] += 0.5  # Pillow truncates the fraction
    return np.asarray(photograph.convert("RGB", matrix=tuple(color.ravel().tolist())))


def color_map(
    mean_color: npt.NDArray[np.floating], factors: tuple[float, float, float, float], order: Iterable[int]
) -> Matrix:
    """Compose the steps of colour jitter to one affine map.

    Args:
        mean_color: mean red, green and blue of the image: contrast keeps its grey.
        factors: of brightness, contrast and saturation (1 leaves as is), and the turn of hue (0 leaves as is).
        order: 0 brightness, 1 contrast, 2 saturation, 3 hue: a permutation.

    Returns:
        (3, 4): new color = map[:, :3] @ color + map[:, 3].
    """
    brightness, contrast, saturation, turn = factors
    result = np.eye(3, 4)
    for step in order:
        if step == 0:
            result = brightness * result
        elif step == 1:
            grey = GREY @ (result[:, :3] @ mean_color + result[:, 3])
            result = contrast * result
            result[:, 3] += (1 - contrast) * grey
        elif step == 2:
            result = (saturation * np.eye(3) + (1 - saturation) * GREY) @ result
        else:
            result = hue_rotation(turn) @ result
    return result


def hue_rotation(turn: float) -> Matrix:
    """Return the (3, 3) map of RGB that turns hue by a part of the full circle and keeps the grey value."""
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.asarray(np.linalg.inv(YIQ) @ rotation @ YIQ)
