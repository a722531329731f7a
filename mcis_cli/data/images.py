"""From the bytes of a file to pixels: photographs, masks of class indices, saliency maps.

All input is untrusted: formats come from an allow-list, the number of pixels is limited before anything is decoded, and
every failure of the decoder becomes one `DataError` that names the file. Nothing here opens a path.
"""

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16, Int32, UInt8
from numpy import ndarray
from PIL import ExifTags, Image

from mcis_cli.data.regular_files import other_file
from mcis_cli.errors import DataError

PHOTO_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
MASK_FORMATS = ("PNG", "BMP", "TIFF", "GIF")  # lossless only: a class index must not change by one
MAX_PIXELS = 80_000_000
MASK_COLOURS = 64  # largest part of an image that may be masked
GREY_TOLERANCE = 2  # by which the channels of a grey JPEG may differ

# Pillow warns of a bomb on opening. The filter is process-wide because warnings.catch_warnings is not safe in threads.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_STRIP_PIXELS = 2**22  # converted at a time: Pillow needs several times the memory of its input
_UPRIGHT: Mapping[int, Callable[[UInt8[ndarray, "height width 3"]], UInt8[ndarray, "height_up width_up 3"]]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


@dataclass(frozen=True, slots=True)
class Header:
    """Size (upright, in pixels), Pillow mode and format of an image that was not decoded."""

    height: int
    width: int
    mode: str
    format: str


def inspect(content: bytes, name: str) -> Header:
    """Read the header of a photograph.

    Args:
        content: The bytes of the file.
        name: How messages call the file.

    Returns:
        Its size after the EXIF orientation is applied, mode and format.

    Raises:
        DataError: The bytes are not an image of an allowed format, or it has too many pixels.
    """
    image = _open(content, name, PHOTO_FORMATS)
    width, height = image.size
    if _orientation(image) >= 5:
        width, height = height, width
    return Header(height, width, image.mode, image.format or "")


def decode_image(content: bytes, name: str) -> UInt8[ndarray, "height width 3"]:
    """Decode a photograph to RGB, upright.

    Grey, palette, CMYK and 16-bit files are converted; transparent pixels become white; of an animation the first frame
    is used.

    Args:
        content: The bytes of the file.
        name: How messages call the file.

    Returns:
        Values in 0..255.

    Raises:
        DataError: The bytes are not an image of an allowed format, are truncated, or have too many pixels.
    """
    image = _open(content, name, PHOTO_FORMATS)
    turn = _UPRIGHT.get(_orientation(image))
    _load(image, name)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image if bottom - top == image.height else image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = np.asarray(_in_colours(strip, name))
    del image
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _in_colours(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(image, name))
    elif image.mode == "F":
        raise DataError(
            f"{name}: floating-point pixels; expected 8 or 16 bits a channel; save the photo as JPEG or PNG"
        )
    return _convert(image, "RGB", name)


def upright(content: bytes, name: str) -> bytes:
    """A photograph as a file that needs no turning: the same bytes, or encoded again if EXIF data turns it.

    Raises:
        DataError: as `decode_image`.
    """
    image = _open(content, name, PHOTO_FORMATS)
    if _orientation(image) not in _UPRIGHT:
        return content
    stream = io.BytesIO()
    Image.fromarray(decode_image(content, name)).save(stream, format=image.format, quality=95)
    return stream.getvalue()


def highest_of_16_bits(content: bytes, name: str) -> int | None:
    """The highest value of a photograph with 16 bits a channel (for colours, as 8 bits give it); None for others.

    Raises:
        DataError: as `decode_image`.
    """
    image = _open(content, name, PHOTO_FORMATS)
    if image.mode.startswith("I"):
        _load(image, name)
        return int(np.array(image).max())
    if image.format != "PNG" or image.mode not in ("RGB", "RGBA") or content[24:25] != b"\x10":  # the depth in IHDR
        return None
    _load(image, name)
    return int(np.array(image)[:, :, :3].max()) * 256 + 255


def has_few_colours(content: bytes) -> bool:
    """Whether an image has the few colours of a mask, unlike a photograph with thousands; False for other files."""
    try:
        image = _open(content, "", PHOTO_FORMATS)
        _load(image, "")
    except DataError:
        return False
    most = min(MASK_COLOURS, image.width * image.height // 4)
    return most > 0 and image.getcolors(most) is not None


def decode_mask(
    content: bytes, name: str, colours: Mapping[tuple[int, int, int], int] | None = None
) -> UInt8[ndarray, "height width"]:
    """Decode a mask to its class indices: the stored indices of a palette image, the values of a grey one.

    Args:
        content: The bytes of the file.
        name: How messages call the file.
        colours: The value of each colour (RGB), if the data set lists them. They apply to a mask in colours, and to a
            palette image that has these colours at other indices.

    Returns:
        0 background, then the classes, 255 to be ignored.

    Raises:
        DataError: The bytes are not a lossless image with one 8-bit channel, or have a colour that is not listed.
    """
    image = _open(content, name, MASK_FORMATS)
    if image.mode in ("RGB", "RGBA") and colours:
        _load(image, name)
        pixels = np.array(image, dtype=np.uint8)
        if (pixels[:, :, 3:] == 255).all():
            return _from_colours(np.ascontiguousarray(pixels[:, :, :3]), colours, name)
    if image.mode not in ("P", "L"):
        raise DataError(
            f"{name}: a mask with mode {image.mode}; expected class indices in one 8-bit channel (mode P or L; "
            "colours only with a labelmap.txt); save it as a palette or grey PNG"
        )
    _load(image, name)
    values = np.array(image, dtype=np.uint8)
    if image.mode == "P" and colours:
        table = _palette_values(image, colours)
        present = np.unique(values)
        if (table[present] >= 0).all():  # all its colours are listed
            return table[values].astype(np.uint8)
    return values


def decode_labels(content: bytes, name: str) -> Int32[ndarray, "height width"]:
    """Decode an image of labels, in 8 or 16 bits: the stored indices of a palette image, the values of a grey one.

    Args:
        content: The bytes of the file.
        name: How messages call the file.

    Raises:
        DataError: The bytes are not a lossless image with one channel of 8 or 16 bits.
    """
    image = _open(content, name, MASK_FORMATS)
    if image.mode not in ("P", "L") and not image.mode.startswith("I"):
        raise DataError(
            f"{name}: a label image with mode {image.mode}; expected one label for each pixel, in one channel of 8 or "
            "16 bits; save it as a grey PNG"
        )
    _load(image, name)
    return np.array(image).astype(np.int32)


def palette_of(content: bytes, name: str) -> dict[int, tuple[int, int, int]]:
    """The colour (RGB) of each index that a palette mask uses; empty for masks of other kinds."""
    image = _open(content, name, MASK_FORMATS)
    if image.mode != "P":
        return {}
    _load(image, name)
    palette = image.getpalette("RGB") or []
    used = np.unique(np.array(image, dtype=np.uint8)).tolist()
    return {k: (palette[3 * k], palette[3 * k + 1], palette[3 * k + 2]) for k in used if 3 * k + 2 < len(palette)}


def _palette_values(image: Image.Image, colours: Mapping[tuple[int, int, int], int]) -> Int16[ndarray, "256"]:
    """The value of each index by its colour; -1 if the colour is not listed."""
    palette = image.getpalette("RGB") or []
    table = np.full(256, -1, np.int16)
    for k in range(len(palette) // 3):
        red, green, blue = palette[3 * k : 3 * k + 3]
        table[k] = colours.get((red, green, blue), -1)
    return table


def _from_colours(
    pixels: UInt8[ndarray, "height width 3"], colours: Mapping[tuple[int, int, int], int], name: str
) -> UInt8[ndarray, "height width"]:
    packed = pixels.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    mask = np.zeros(packed.shape, np.uint8)
    listed = np.zeros(packed.shape, bool)
    for (red, green, blue), value in colours.items():
        here = packed == 65536 * red + 256 * green + blue
        mask[here] = value
        listed |= here
    if not listed.all():
        row, column = np.argwhere(~listed)[0]
        red, green, blue = pixels[row, column].tolist()
        raise DataError(
            f"{name}: the colour {red},{green},{blue} is not in labelmap.txt; expected only colours that it lists; "
            "add it, or save the mask without smoothing"
        )
    return mask


def decode_grey(content: bytes, name: str) -> Float32[ndarray, "height width"]:
    """Decode a map of one value a pixel, in 8 or 16 bits; an image of three equal channels is one, too.

    Args:
        content: The bytes of the file.
        name: How messages call the file.

    Returns:
        Values in [0, 1].

    Raises:
        DataError: The bytes are not an image of an allowed format, or it has colours or transparent pixels.
    """
    image = _open(content, name, PHOTO_FORMATS)
    _load(image, name)
    if image.mode == "F":
        raise DataError(f"{name}: floating-point pixels; expected 8 or 16 bits; save the map as a grey PNG")
    if image.mode.startswith("I"):
        return (_sixteen_bits(image, name) / np.float32(65535)).astype(np.float32)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise DataError(
            f"{name}: transparent pixels; expected a grey value for each pixel; save the map without transparency"
        )
    if image.mode not in ("L", "1"):
        channels = np.array(_convert(image, "RGB", name), dtype=np.int16)
        if int(np.ptp(channels, axis=2).max()) > GREY_TOLERANCE:
            raise DataError(
                f"{name}: colours; expected grey values, not a coloured drawing of the map; save the map itself"
            )
    return np.array(_convert(image, "L", name), dtype=np.float32) / np.float32(255)


def resize_saliency(
    saliency: Float32[ndarray, "height_in width_in"], height: int, width: int
) -> Float32[ndarray, "height width"]:
    """Bring a map to another size, bilinearly; values stay in [0, 1]."""
    if saliency.shape == (height, width):
        return saliency
    resized = Image.fromarray(saliency).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.array(resized, dtype=np.float32), 0, 1)


def _open(content: bytes, name: str, formats: tuple[str, ...]) -> Image.Image:
    expected = f"expected {', '.join(formats)}"
    if not content:
        raise DataError(f"{name}: an empty file; {expected}; replace or remove it")
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name}: too many pixels; expected at most {MAX_PIXELS:,}; shrink or remove it") from error
    except Exception as error:  # each of Pillow's formats raises other errors
        if found := other_file(content):
            raise DataError(f"{name}: not a readable image, but {found}") from None
        raise DataError(f"{name}: not a readable image; {expected}; replace or remove it") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{name}: {width} x {height} pixels; expected at most {MAX_PIXELS:,}; shrink or remove it")
    return image


def _load(image: Image.Image, name: str) -> None:
    try:
        image.load()
    except Exception as error:  # as above
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name}: cannot be decoded ({reason}); expected a whole image; replace or remove it"
        ) from error


def _convert(image: Image.Image, mode: str, name: str) -> Image.Image:
    try:
        if image.has_transparency_data:
            with_alpha = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", with_alpha.size, "white"), with_alpha)
        return image if image.mode == mode else image.convert(mode)
    except ValueError as error:
        raise DataError(f"{name}: pixels of mode {image.mode}; expected grey or colour; save it as PNG") from error


def _sixteen_bits(image: Image.Image, name: str) -> Float32[ndarray, "height width"]:
    values = np.array(image).astype(np.float32)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise DataError(f"{name}: 32-bit pixels; expected 8 or 16 bits a channel; save it as JPEG or PNG")
    return values


def _eight_bits(image: Image.Image, name: str) -> UInt8[ndarray, "height width"]:
    return np.rint(_sixteen_bits(image, name) / 257).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    # TIFF is turned by Pillow itself; asking a PNG without the chunk would decode it.
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF must not lose the photograph
        return 1
