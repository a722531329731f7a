import io

import numpy as np
import pytest
from PIL import Image

from mcis_cli.errors import DataError
from mcis_cli.interop.imports.saliency import decode_foreign_saliency

GREY = (np.arange(12).reshape(3, 4) * 20).astype(np.uint8)


def image(array, format="PNG", mode=None, **options) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(buffer, format, **options)
    return buffer.getvalue()


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (image(GREY), "a.png"),
        (image(GREY, mode="RGB"), "a.png"),
        (image(GREY, mode="RGBA"), "a.png"),
        (image(GREY, mode="LA"), "a.png"),
        (image(GREY, mode="P"), "a.png"),
        (image(GREY.astype(np.uint16) * 257), "a.png"),
        (image(GREY, "JPEG", quality=100), "a.jpg"),
        (image(GREY, "JPEG", "RGB", quality=100), "a.jpg"),
        (npy(GREY), "a.npy"),
        (npy(GREY.astype(np.uint16) * 257), "a.npy"),
        (npy(GREY / 255), "a.npy"),
    ],
)
def test_grey_of_8_and_16_bits_and_arrays_are_read_alike(content, name):
    np.testing.assert_allclose(decode_foreign_saliency(content, name), GREY / 255, atol=0.02)


@pytest.mark.parametrize(
    ("content", "name", "found"),
    [
        (image(np.dstack([GREY, GREY, GREY[::-1]])), "a.png", "colours; expected grey values"),
        (image(np.dstack([GREY] * 3 + [GREY])), "a.png", "transparent pixels"),
        (image(GREY / np.float32(255), "TIFF"), "a.tif", "floating-point pixels"),
        (b"", "a.png", "an empty file"),
        (b"text", "a.png", "not a readable image"),
        (npy(GREY[None]), "a.npy", r"an array of the shape \(1, 3, 4\)"),
        (npy(np.zeros((0, 3))), "a.npy", "an array of the shape"),
        (npy(np.full((2, 2), 1.5)), "a.npy", r"values out of \[0, 1\]"),
        (npy(np.full((2, 2), np.nan)), "a.npy", r"values out of \[0, 1\]"),
        (npy(GREY.astype(np.int64)), "a.npy", "values of int64"),
        (npy(np.array({})), "a.npy", r"values of dtype \|O"),
    ],
)
def test_anything_else_is_refused(content, name, found):
    with pytest.raises(DataError, match=rf"^{name}: .*{found}"):
        decode_foreign_saliency(content, name)
