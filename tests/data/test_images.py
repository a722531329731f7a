import io
import struct
import zlib

import numpy as np
import pytest
from image_sets import encode, photo
from PIL import Image

from mcis_cli.data import images
from mcis_cli.data.images import decode_grey, decode_image, decode_mask, inspect, resize_saliency
from mcis_cli.errors import DataError


def save(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=format, **options)
    return stream.getvalue()


def with_orientation(image: Image.Image, orientation: int, format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(image, format, exif=exif)


def test_an_rgb_photo_is_decoded_unchanged() -> None:
    assert np.array_equal(decode_image(encode(photo(0)), "x"), photo(0))


@pytest.mark.parametrize(
    ("mode", "format"),
    [(mode, format) for mode in ("L", "1", "P", "RGBA", "LA", "I;16") for format in ("PNG", "TIFF")]
    + [("CMYK", "JPEG"), ("CMYK", "TIFF")],
)
def test_every_mode_becomes_rgb_of_eight_bits(mode: str, format: str) -> None:
    image = Image.new("RGB", (9, 6), (255, 255, 255))
    image = Image.fromarray(np.full((6, 9), 65535, np.uint16)) if mode == "I;16" else image.convert(mode)
    decoded = decode_image(save(image, format), "x")
    assert decoded.dtype == np.uint8
    assert decoded.shape == (6, 9, 3)
    assert (decoded == 255).all()


def test_sixteen_bits_are_scaled_to_eight() -> None:
    # 257 x 100 is grey level 100
    assert (decode_image(encode(np.full((2, 3), 25700, np.uint16)), "x") == 100).all()


def test_transparent_pixels_become_white() -> None:
    rgba = np.zeros((2, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = 255
    decoded = decode_image(encode(rgba), "x")
    assert (decoded[0] == 0).all()
    assert (decoded[1] == 255).all()


def test_a_palette_with_transparency_becomes_white_where_transparent() -> None:
    image = Image.fromarray(np.array([[0, 1, 1]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    decoded = decode_image(save(image, transparency=b"\xff\x00"), "x")
    assert decoded[0].tolist() == [[10, 20, 30], [255, 255, 255], [255, 255, 255]]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(format: str, orientation: int) -> None:
    upright = photo(1, 6, 9)
    turn = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1]}
    turn |= {5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1)}
    turn |= {8: lambda a: np.rot90(a, -1)}
    stored = Image.fromarray(np.ascontiguousarray(turn[orientation](upright)))
    options = {"lossless": True} if format == "WEBP" else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = save(stored, format, exif=exif, **options)
    assert np.array_equal(decode_image(content, "x"), upright)
    header = inspect(content, "x")
    assert (header.height, header.width) == (6, 9)


def test_broken_exif_does_not_lose_the_photo() -> None:
    content = save(Image.fromarray(photo(2)), "JPEG", exif=b"Exif\x00\x00nonsense")
    assert decode_image(content, "x").shape == (6, 9, 3)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("red", "blue")]
    stream = io.BytesIO()
    frames[0].save(stream, format="GIF", save_all=True, append_images=frames[1:])
    assert decode_image(stream.getvalue(), "x")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"photo\.jpg: an empty file"),
        (b"not an image", r"photo\.jpg: not a readable image; expected JPEG, PNG"),
        (encode(photo(0), "JPEG")[:-60], r"photo\.jpg: cannot be decoded \(.*truncated"),
        (encode(photo(0))[:60], r"photo\.jpg: cannot be decoded"),
        (encode(photo(0)[:, :, 0], "PPM"), "not a readable image"),
        (encode(np.zeros((2, 3), np.float32), "TIFF"), "floating-point pixels"),
        (encode(np.full((2, 3), 70000, np.int32), "TIFF"), "32-bit pixels"),
    ],
)
def test_what_is_no_photo_is_refused(content: bytes, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        decode_image(content, "photo.jpg")
    assert "\n" not in str(caught.value)


def test_pixels_that_pillow_cannot_convert_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("conversion from LAB to RGB not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)  # as where Pillow was built without colour management
    with pytest.raises(DataError, match=r"x\.tif: pixels of mode LAB; expected grey or colour"):
        decode_image(save(Image.new("LAB", (3, 2)), "TIFF"), "x.tif")


def bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_is_converted_in_strips_to_the_same_pixels(monkeypatch, mode: str, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (11, 7, 4), dtype=np.uint16)
    deep = Image.fromarray(values[..., 0])
    content = with_orientation(
        deep if mode == "I;16" else Image.fromarray(values.astype(np.uint8)).convert(mode), orientation, "PNG"
    )
    whole = decode_image(content, "x")
    monkeypatch.setattr(images, "_STRIP_PIXELS", 20)
    assert np.array_equal(decode_image(content, "x"), whole)


@pytest.mark.parametrize("side", [9_000, 10_000, 50_000])
@pytest.mark.parametrize("decode", [inspect, decode_image, decode_mask, decode_grey])
def test_too_many_pixels_are_refused_before_decoding(side: int, decode: object) -> None:
    assert side * side > images.MAX_PIXELS
    with pytest.raises(DataError, match=r"x\.png: .*pixels; expected at most 80,000,000"):
        decode(bomb(side, side), "x.png")  # type: ignore[operator]


@pytest.mark.parametrize("mode", ["P", "L"])
@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_a_mask_keeps_its_indices(mode: str, format: str) -> None:
    indices = np.array([[0, 1, 20], [254, 255, 7]], dtype=np.uint8)
    image = Image.fromarray(indices)
    if mode == "P":
        image.putpalette([7] * 768)
    assert np.array_equal(decode_mask(save(image, format), "m"), indices)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "LA", "I;16"])
def test_a_mask_of_another_mode_is_refused(mode: str) -> None:
    image = Image.new(mode, (3, 2))
    with pytest.raises(DataError, match=rf"mask\.png: a mask with mode {mode}; expected class indices"):
        decode_mask(save(image), "mask.png")


def test_a_lossy_mask_is_refused() -> None:
    with pytest.raises(DataError, match="not a readable image; expected PNG, BMP, TIFF, GIF"):
        decode_mask(encode(photo(0)[:, :, 0], "JPEG"), "mask.jpg")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0, 51, 255]], np.uint8), [0, 0.2, 1]),
        (np.array([[0, 13107, 65535]], np.uint16), [0, 0.2, 1]),
        (np.repeat(np.array([[0, 51, 255]], np.uint8)[:, :, None], 3, axis=2), [0, 0.2, 1]),
    ],
)
def test_saliency_is_a_fraction(array: np.ndarray, expected: list[float]) -> None:
    saliency = decode_grey(encode(array), "s")
    assert saliency.dtype == np.float32
    assert saliency[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_floating_saliency_is_refused() -> None:
    with pytest.raises(DataError, match=r"s\.tif: floating-point pixels"):
        decode_grey(encode(np.zeros((2, 3), np.float32), "TIFF"), "s.tif")


def test_saliency_in_colours_is_refused() -> None:
    colours = np.zeros((2, 3, 3), np.uint8)
    assert not decode_grey(encode(colours), "s.png").any()
    colours[0, 1, 2] = 200
    with pytest.raises(DataError, match=r"s\.png: colours; expected grey values, not a coloured drawing of the map"):
        decode_grey(encode(colours), "s.png")


def test_saliency_is_resized_within_its_range() -> None:
    saliency = np.zeros((4, 6), dtype=np.float32)
    saliency[:, 3:] = 1
    resized = resize_saliency(saliency, 7, 11)
    assert resized.shape == (7, 11)
    assert (resized[:, 0] == 0).all()
    assert (resized[:, -1] == 1).all()
    assert resize_saliency(saliency, 4, 6) is saliency
