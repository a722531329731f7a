"""What the values of masks mean: the class that they are, or an error that names the likely reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_sets import encode, photo, write
from PIL import Image

from mcis_cli.config import DataConfig
from mcis_cli.data.check import survey
from mcis_cli.data.evidence import classes_in_no_mask, sampled_masks
from mcis_cli.data.layouts.listing import Finding
from mcis_cli.data.palette import voc_palette, write_mask_png
from mcis_cli.data.reading import read_catalogue
from mcis_cli.errors import DataError
from mcis_cli.interop.exports.voc import label_map

CLASSES = ("cat", "dog", "horse")


def shown(k: int) -> str:
    return CLASSES[k % 3]


def mask(value: int) -> np.ndarray:
    values = np.zeros((6, 9), np.uint8)
    values[1:4, 2:6] = value
    return values


def look(root: Path) -> dict[str, Finding]:
    findings = survey(DataConfig(root=str(root)), num_references=0, workers=0)[1]
    return {finding.code: finding for finding in findings}


def write_set(root: Path, contents, tag=shown, count: int = 12) -> Path:
    """A table with a mask of each image, given as a file's bytes."""
    for k in range(count):
        write(root / f"images/{k}.png", encode(photo(k)))
        write(root / f"masks/images/{k}.png", contents(k))
    write(root / "tags.csv", "image,tags\n" + "".join(f"images/{k}.png,{tag(k)}\n" for k in range(count)))
    return root


def agrees(root: Path) -> bool:
    catalogue = read_catalogue(DataConfig(root=str(root)))
    return all(
        set(np.unique(catalogue.read_mask(entry.id))) - {0, 255} == {k + 1 for k in entry.labels}
        for entry in catalogue.entries
    )


@pytest.mark.parametrize(
    "background", ["_background_", "__background__", "Background", "BACKGROUND", "background", "BG"]
)
@pytest.mark.parametrize("name", ["classes.txt", "class_names.txt"])
@pytest.mark.parametrize("first", ["", "__ignore__\n"])
def test_the_background_has_many_names(tmp_path, background, name, first):
    write_set(tmp_path, lambda k: write_mask_png(mask(k % 3 + 1)))
    write(tmp_path / name, f"{first}{background}\n" + "\n".join(CLASSES))
    assert agrees(tmp_path)
    assert "tags-against-masks" not in look(tmp_path)


@pytest.mark.parametrize("names", [range(1, 13), range(5, 17), range(8, 12)])
def test_names_that_are_numbers_are_in_the_order_of_numbers(tmp_path, names):
    write_set(tmp_path, lambda k: write_mask_png(mask(k + 1)), lambda k: names[k], len(names))
    assert agrees(tmp_path)


@pytest.mark.parametrize("order", [("horse", "cat", "dog"), ("dog", "horse", "cat"), ("cat", "horse", "dog")])
@pytest.mark.parametrize("as_colours", [False, True])
@pytest.mark.parametrize("end", ["", "void:224,224,192::\n"])
def test_labelmap_orders_the_classes(tmp_path, order, as_colours, end):
    colours = voc_palette()
    lines = (f"{name}:{','.join(map(str, colours[k + 1].tolist()))}::\n" for k, name in enumerate(order))
    write(
        tmp_path / "labelmap.txt", "".join(["# label:color_rgb:parts:actions\n", "background:0,0,0::\n", *lines, end])
    )

    def content(k: int) -> bytes:
        values = mask(order.index(shown(k)) + 1)
        values[0] = 255 if end else 0
        return encode(colours[values]) if as_colours else write_mask_png(values)

    write_set(tmp_path, content)
    assert read_catalogue(DataConfig(root=str(tmp_path))).class_names == order
    assert agrees(tmp_path)


def test_our_own_label_map_is_read(tmp_path):
    write_set(tmp_path, lambda k: write_mask_png(mask(("horse", "cat", "dog").index(shown(k)) + 1)))
    write(tmp_path / "labelmap.txt", label_map(("horse", "cat", "dog")))
    assert read_catalogue(DataConfig(root=str(tmp_path))).class_names == ("horse", "cat", "dog")
    assert agrees(tmp_path)


def repacked(k: int) -> bytes:
    """Index 1 in every file, in the colour of the class."""
    image = Image.fromarray(mask(1))
    image.putpalette([0, 0, 0, *voc_palette()[k % 3 + 1].tolist()])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_palettes_that_were_packed_anew_are_read_by_their_colours_where_these_are_listed(tmp_path):
    write_set(tmp_path, repacked)
    assert "different colours in different files" in look(tmp_path)["tags-against-masks"].message
    write(tmp_path / "labelmap.txt", label_map(CLASSES))
    assert agrees(tmp_path)


def test_colours_that_are_not_listed_are_an_error(tmp_path):
    write_set(tmp_path, lambda k: encode(np.full((6, 9, 3), 7, np.uint8)))
    write(tmp_path / "labelmap.txt", label_map(CLASSES))
    assert "the colour 7,7,7 is not in labelmap.txt" in look(tmp_path)["bad-mask"].message


@pytest.mark.parametrize("line", ["cat", "cat:1,2::", "cat:1,2,300::", "cat:a,b,c::"])
def test_a_broken_label_map_is_named(tmp_path, line):
    write_set(tmp_path, lambda k: write_mask_png(mask(1)))
    write(tmp_path / "labelmap.txt", f"background:0,0,0::\n{line}\n")
    with pytest.raises(DataError, match=r"labelmap\.txt: the line .*; expected name:red,green,blue::"):
        read_catalogue(DataConfig(root=str(tmp_path)))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (lambda k: 255, "hold 0 and 255 alone, and 255 is ignored"),
        (lambda k: 0, "hold background alone"),
        (lambda k: (2, 3, 1)[k % 3], "in another order, probably horse, cat, dog"),
        (lambda k: (3, 2, 1)[k % 3], "in another order, probably horse, dog, cat"),
        (lambda k: (k // 4 + 1) % 3 + 1, "expected each tag in the mask of its image"),
    ],
)
def test_masks_against_tags_are_an_error_with_the_likely_reason(tmp_path, values, reason):
    write_set(tmp_path, lambda k: write_mask_png(mask(values(k))))
    found = look(tmp_path)["tags-against-masks"]
    assert found.severity == "error"
    assert reason in found.message
    assert [one.severity for one in sampled_masks(read_catalogue(DataConfig(root=str(tmp_path))))] == ["error"]


def test_a_class_in_no_mask_is_told(tmp_path):
    write_set(tmp_path, lambda k: write_mask_png(mask(k % 3 + 1 if k % 3 < 2 else 0)))
    assert "'horse'" in look(tmp_path)["class-in-no-mask"].message
    assert classes_in_no_mask(read_catalogue(DataConfig(root=str(tmp_path)))) == ["horse"]


@pytest.mark.parametrize("wrong", [0, 1, 3, 5])
def test_a_few_masks_against_tags_are_notes(tmp_path, wrong):
    write_set(tmp_path, lambda k: write_mask_png(mask((k + (k < wrong)) % 3 + 1)))
    assert "tags-against-masks" not in look(tmp_path)


@pytest.mark.parametrize(("bits", "factor"), [(12, 16), (10, 64), (14, 4), (8, 256)])
def test_16_bit_photographs_of_few_bits_are_told(tmp_path, bits, factor):
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 2**bits, (6, 9)).astype(np.uint16)
        pixels[0, 0] = 2**bits - 1
        write(tmp_path / f"{shown(k)}/{k}.png", encode(pixels))
    message = look(tmp_path)["few-bits"].message
    assert f"values of at most {bits} bits" in message
    assert message.endswith(f"multiply them by {factor}")


def test_16_bit_photographs_that_are_dark_now_and_then_are_fine(tmp_path):
    for k, highest in enumerate((65535, 1000, 200)):
        write(tmp_path / f"{shown(k)}/{k}.png", encode(np.full((6, 9), highest, np.uint16)))
    assert "few-bits" not in look(tmp_path)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_16_bit_photographs_in_colour_of_few_bits_are_told(tmp_path, bits):
    def content(k: int) -> bytes:
        pixels = (np.random.default_rng(k).integers(0, 2**bits, (6, 9, 3)) | 2 ** (bits - 1)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in pixels)
        parts = (
            (b"IHDR", struct.pack(">IIBBBBB", 9, 6, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
        chunks = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts)
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    for k in range(6):
        write(tmp_path / f"images/{k}.png", content(k))
    write(tmp_path / "tags.csv", "image,tags\n" + "".join(f"images/{k}.png,{shown(k)}\n" for k in range(6)))
    message = look(tmp_path)["few-bits"].message
    assert f"values of at most {bits} bits" in message


@pytest.mark.parametrize("name", ["{}.jpg", "{}.npy", "{}.webp"])
def test_masks_of_a_format_that_is_not_read_are_told(tmp_path, name):
    write_set(tmp_path, lambda k: write_mask_png(mask(k % 3 + 1)))
    for file in sorted((tmp_path / "masks/images").iterdir()):
        file.rename(file.with_name(name.format(file.stem)))
    message = look(tmp_path)["masks-not-read"].message
    assert message.startswith("not read: 12 files in the folder of masks")


def test_a_label_map_with_one_colour_for_two_classes_is_an_error(tmp_path):
    write_set(tmp_path, lambda k: write_mask_png(mask(k % 3 + 1)))
    write(tmp_path / "labelmap.txt", "background:0,0,0::\ncat:1,2,3::\ndog:1,2,3::\nhorse:4,5,6::\n")
    assert "two names with the colour 1,2,3, the second 'dog'" in look(tmp_path)["no-image-set"].message


def test_masks_in_colours_may_have_an_opaque_fourth_channel(tmp_path):
    palette = voc_palette()
    lines = [f"{name}:{','.join(map(str, palette[k + 1]))}::\n" for k, name in enumerate(CLASSES)]

    def content(k: int, alpha: int = 255) -> bytes:
        colours = palette[mask(k % 3 + 1)]
        return encode(np.concatenate([colours, np.full((6, 9, 1), alpha, np.uint8)], axis=2))

    write_set(tmp_path, content)
    write(tmp_path / "labelmap.txt", "background:0,0,0::\n" + "".join(lines))
    assert agrees(tmp_path)
    write(tmp_path / "masks/images/0.png", content(0, alpha=9))
    assert "a mask with mode RGBA" in look(tmp_path)["bad-mask"].message


@pytest.mark.parametrize("name", ["Classes.txt", "CLASSES.TXT", "Class_Names.txt"])
def test_capitals_in_the_name_of_the_list_of_classes_do_not_matter(tmp_path, name):
    write_set(tmp_path, lambda k: write_mask_png(mask(3 - k % 3)))
    write(tmp_path / name, "horse\ndog\ncat\n")
    assert agrees(tmp_path)
