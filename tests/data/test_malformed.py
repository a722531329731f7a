"""Malformed input, a case each: refused in one line that names the file, quickly, in little memory, and nothing made.

What looks strange and is valid (16 bits, CMYK, a byte order mark) is accepted, and that is tested here, too.
"""

import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from image_sets import HEIGHT, WIDTH, encode, mask_of, photo, write, write_voc
from PIL import Image
from run_commands import environment
from tiny_chain import sealed

from mcis_cli.store import open_store

pytestmark = pytest.mark.promise

TRAIN = ("train-cls", "set", "--backbone", "lite0")
CHECK = ("check", "set", "--refs", "0", "-q")
MAX_BYTES = 2**30
MAX_SECONDS = 20.0
MAX_LINE = 2_000

Break = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """What is broken in the folder `work`, which holds a valid `set`, and how that is answered.

    Attributes:
        name: of the case.
        breaks: what does it; given the folder `work/set`.
        named: what the line has to name.
        arguments: of the command.
        code: that it leaves with.
    """

    name: str
    breaks: Break
    named: str
    arguments: tuple[str, ...] = TRAIN
    code: int = 2


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that claims a size, and has these chunks."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"".join(chunk(*one) for one in (*chunks, (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body


def bmp(width: int, height: int) -> bytes:
    """A BMP that claims a size."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + info + b"\0" * 100


def tiff(array: np.ndarray) -> bytes:
    return encode(array, "TIFF")


def puts(place: str, content: bytes | str) -> Break:
    """Replace an existing file."""
    return lambda root: write(root / place, content)


def instead(place: str, make: Callable[[Path], object]) -> Break:
    """Put something in the place of a file that is no file."""

    def breaks(root: Path) -> None:
        (root / place).unlink(missing_ok=True)
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        make(root / place)

    return breaks


def links(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


PHOTO = "JPEGImages/a1.png"
MASK = "SegmentationClass/a1.png"
SALIENCY = "saliency/a1.png"
LIST = "ImageSets/Segmentation/train.txt"
WHOLE = encode(photo(0))

IMAGES = [
    Case("an empty image", puts(PHOTO, b""), "a1.png: an empty file"),
    Case("a text", puts(PHOTO, "no image"), "a1.png: not a readable image"),
    Case("an HTML page", puts(PHOTO, "<html><body>404</body></html>"), "a1.png: not a readable image"),
    Case("an SVG", puts(PHOTO, "<svg xmlns='http://www.w3.org/2000/svg'/>"), "a1.png: not a readable image"),
    Case("a PPM", puts(PHOTO, b"P6 2 2 255 " + bytes(12)), "a1.png: not a readable image"),
    Case("an EPS", puts(PHOTO, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "a1.png: not a readable image"),
    Case("a folder called x.png", instead(PHOTO, Path.mkdir), "'a1'"),
    Case("a pipe called x.png", instead(PHOTO, os.mkfifo), "'a1'"),
    Case("a link to a device", instead(PHOTO, links("/dev/zero")), "'a1'"),
    Case("a link to nothing", instead(PHOTO, links("nowhere.png")), "'a1'"),
    Case("a link to itself", instead(PHOTO, links("a1.png")), "'a1'"),
    Case("a cut header", puts(PHOTO, WHOLE[:20]), "a1.png: not a readable image"),
    Case("a cut PNG", puts(PHOTO, WHOLE[: len(WHOLE) // 2]), "a1.png: cannot be decoded", CHECK, 7),
    Case(
        "a cut JPEG",
        lambda root: write(root / PHOTO, encode(photo(0), "JPEG")[:-60]),
        "a1.png: cannot be decoded",
        CHECK,
        7,
    ),
    Case("a cut WEBP", puts(PHOTO, encode(photo(0), "WEBP")[:40]), "a1.png: not a readable image"),
    Case("the head of a GIF", puts(PHOTO, b"GIF89a"), "a1.png: not a readable image"),
    Case("a TIFF whose directory is outside", puts(PHOTO, b"II*\0\xff\xff\xff\x7f"), "a1.png: not a readable image"),
    Case("a TIFF whose directory is itself", puts(PHOTO, b"II*\0\x08\0\0\0" + bytes(2) + b"\x08\0\0\0"), "a1.png: "),
    Case("a bomb of 2.5 thousand million pixels", puts(PHOTO, png(50_000, 50_000)), "a1.png: too many pixels"),
    Case("a bomb just over the limit", puts(PHOTO, png(9_000, 9_000)), "a1.png: 9000 x 9000 pixels"),
    Case("a BMP of the largest size", puts(PHOTO, bmp(2**31 - 1, 2**31 - 1)), "a1.png: too many pixels"),
    Case(
        "a bomb of text",
        puts(PHOTO, png(4, 4, (b"zTXt", b"a\0\0" + zlib.compress(b"x" * 2**27)))),
        "a1.png: ",
    ),
    Case("a PNG without a width", puts(PHOTO, png(0, 4)), "a1.png: "),
    Case("a BMP without a height", puts(PHOTO, bmp(4, 0)), "a1.png: "),
    Case("floating-point pixels", puts(PHOTO, tiff(np.zeros((6, 9), np.float32))), "floating-point pixels", CHECK, 7),
    Case("32-bit pixels", puts(PHOTO, tiff(np.full((6, 9), 2**20, np.int32))), "32-bit pixels", CHECK, 7),
]


def annotated(content: str | bytes) -> Break:
    """A set with annotations instead of a tag file, that of a1 being this."""

    def breaks(root: Path) -> None:
        (root / "image_tags.txt").unlink()
        (root / "classes.txt").unlink()
        for image_id in ("a2", "a3", "c1"):
            write(root / f"Annotations/{image_id}.xml", "<annotation><object><name>cat</name></object></annotation>")
        write(root / "Annotations/a1.xml", content)

    return breaks


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
XML = [
    Case("XML with a DTD", annotated('<!DOCTYPE a SYSTEM "x.dtd"><annotation/>'), "a1.xml: XML with a DOCTYPE"),
    Case(
        "XML that expands",
        annotated(f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><annotation>&l9;</annotation>'),
        "a1.xml: XML with a DOCTYPE",
    ),
    Case(
        "XML that reads a file",
        annotated('<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation>&f;</annotation>'),
        "a1.xml: XML with a DOCTYPE",
    ),
    Case("XML that ends early", annotated("<annotation><object>"), "a1.xml: not well-formed XML"),
    Case("an empty XML", annotated(""), "a1.xml: not well-formed XML"),
    Case("an image called x.xml", annotated(WHOLE), "a1.xml: not well-formed XML"),
    Case("XML with an unknown entity", annotated("<annotation>&what;</annotation>"), "a1.xml: not well-formed XML"),
    Case("XML in an unknown code", annotated('<?xml version="1.0" encoding="ebcdic-7"?><a/>'), "a1.xml: "),
    Case("XML with a NUL", annotated("<annotation>\0</annotation>"), "a1.xml: not well-formed XML"),
    Case("a huge XML", annotated("<annotation>" + " " * (5 << 20) + "</annotation>"), "a1.xml: 5,242,"),
    Case(
        "XML with a class of two lines",
        annotated("<annotation><object><name>a&#10;b</name></object></annotation>"),
        "'a\\nb'",
    ),
    Case(
        "XML without a name anywhere",
        lambda root: [
            annotated("<annotation/>")(root),
            *(write(root / f"Annotations/{i}.xml", "<annotation><object/></annotation>") for i in ("a2", "a3", "c1")),
        ],
        "set/Annotations",
    ),
]


def table(content: str | bytes, *others: tuple[str, str | bytes]) -> Break:
    """A set that is a table beside two photographs."""

    def breaks(root: Path) -> None:
        import shutil

        shutil.rmtree(root)
        for name in ("a", "b"):
            write(root / f"{name}.png", WHOLE)
        for name, text in (("tags.csv", content), *others):
            write(root / name, text)

    return breaks


TABLES = [
    Case("an empty table", table(""), "tags.csv: an empty table"),
    Case("a table of blank lines", table("\n\n , \n"), "tags.csv: "),
    Case("a table with a header alone", table("image,tags\n"), "set"),
    Case("a table without images", table("picture,tags\na.png,cat\n"), "tags.csv: no column of images"),
    Case("a table without tags", table("image\na.png\n"), "tags.csv: no column of tags"),
    Case(
        "a table with a column twice", table("image,tags,tags\na.png,cat,dog\n"), "tags.csv: two columns named 'tags'"
    ),
    Case("a quote that does not end", table('image,tags\n"a.png,cat\n'), "tags.csv line "),
    Case("a quote amidst", table('image,tags\n"a"b.png,cat\n'), "tags.csv line "),
    Case("a row too short", table("image,tags\na.png,cat\nb.png\n"), "tags.csv line 3: 1 cell"),
    Case("a row too long", table("image,tags\na.png,cat,dog\n"), "tags.csv line 2: 3 cells"),
    Case("an image that is not there", table("image,tags\nc.png,cat\n"), "tags.csv line 2: no image 'c.png'"),
    Case("a path upwards", table("image,tags\n../a.png,cat\n"), "tags.csv line 2: the image id '../a' leaves"),
    Case("a path upwards within", table("image,tags\nx/../a.png,cat\n"), "leaves its folder"),
    Case("a path upwards of Windows", table("image,tags\n..\\a.png,cat\n"), "leaves its folder"),
    Case("an absolute path", table("image,tags\n/etc/passwd,cat\n"), "the image id '/etc/passwd' leaves"),
    Case("a path of this folder", table("image,tags\na/./b.png,cat\n"), "leaves its folder"),
    Case("an empty path", table('image,tags\n"",cat\n'), "line 2: an empty image id"),
    Case("an extension alone", table("image,tags\n.png,cat\n"), "tags.csv line 2: "),
    Case("a NUL in an id", table("image,tags\na\0.png,cat\n"), "tags.csv line "),
    Case("a line break in an id", table('image,tags\n"a\nb.png",cat\n'), "characters that are no text"),
    Case("an escape in an id", table("image,tags\na\x1b[31m.png,cat\n"), "characters that are no text"),
    Case("an id of 300 characters", table(f"image,tags\n{'x' * 300}.png,cat\n"), "an image id of 300 characters"),
    Case("an id of a million characters", table(f"image,tags\n{'x' * 10**6}.png,cat\n"), "tags.csv line "),
    Case("a tag that is no class", table("image,tags\na.png,fox\n", ("classes.txt", "cat\n")), "unknown tag 'fox'"),
    Case("a cell that is not 0 or 1", table("image,cat,dog\na.png,1,maybe\n"), "'maybe' in column 'dog'"),
    Case(
        "a table in Latin-1", table("image,tags\na.png,Löwe\n".encode("latin-1")), "tags.csv: not UTF-8 text (byte 18)"
    ),
    Case("a table in UTF-16", table("image,tags\na.png,cat\n".encode("utf-16")), "tags.csv: not UTF-8 text (byte 0)"),
    Case("an image called tags.csv", table(WHOLE), "tags.csv: not UTF-8 text"),
    Case("two tables", table("image,tags\na.png,cat\n", ("other.csv", "image,tags\n")), "2 tables in "),
    Case("one id for two files", table("image,tags\na.png,cat\na.jpg,cat\n", ("a.jpg", WHOLE)), "two files for 'a'"),
    Case("a folder called tags.csv", lambda root: [table("")(root), instead("tags.csv", Path.mkdir)(root)], "set"),
    Case(
        "a pipe for tags",
        lambda root: [table("")(root), instead("tags.csv", os.mkfifo)(root)],
        "tags.csv: a folder, a pipe or a device",
        (*TRAIN, "--tags", "tags.csv"),
    ),
]


def coco(content: str | bytes) -> Break:
    """A set in the layout of COCO with this file of annotations."""

    def breaks(root: Path) -> None:
        import shutil

        shutil.rmtree(root)
        write(root / "images/a.png", WHOLE)
        write(root / "annotations/instances_train.json", content)

    return breaks


def sparse(root: Path) -> None:
    coco("{}")(root)
    os.truncate(root / "annotations/instances_train.json", 2**40)


COCO_IMAGES = '"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 3, "name": "cat"}]'
NO_OBJECTS = f'{{{COCO_IMAGES}, "annotations": []}}'
COCO = [
    Case("an empty JSON", coco(""), "instances_train.json: not JSON"),
    Case("an image called x.json", coco(WHOLE), "instances_train.json: not JSON"),
    Case("JSON that ends early", coco('{"images": [{'), "instances_train.json: not JSON"),
    Case("JSON of nothing but a list", coco("[]"), "instances_train.json: no list 'images'"),
    Case("JSON nested a million deep", coco("[" * 10**6), "instances_train.json: nested too deeply"),
    Case("JSON of very many lists", coco("[" + "[]," * (3 * 10**7) + "0]"), "30,000,001 lists and objects"),
    Case("JSON of a terabyte", sparse, "instances_train.json: 1,099,511,627,776 bytes"),
    Case("JSON of a long number", coco('{"images": [' + "9" * 10**6 + "]}"), "instances_train.json: not JSON"),
    Case(
        "an object of no category",
        coco(f'{{{COCO_IMAGES}, "annotations": [{{"image_id": 1, "category_id": 4}}]}}'),
        "annotations[0] has category_id 4, which no category has",
    ),
    Case("an image upwards", coco(f'{{{COCO_IMAGES}, "annotations": []}}'.replace("a.png", "../a.png")), "leaves its"),
    Case(
        "an image elsewhere", coco(f'{{{COCO_IMAGES}, "annotations": []}}'.replace("a.png", "z.png")), "no image 'z.p"
    ),
]


def tagged(content: str) -> Break:
    """A set with this tag file and no list of classes."""
    return lambda root: [(root / "classes.txt").unlink(), write(root / "image_tags.txt", content)]


TAGS = [
    Case("a tag file in Latin-1", puts("image_tags.txt", "a1 Löwe\n".encode("latin-1")), "image_tags.txt: not UTF-8"),
    Case("a tag file that is not there", lambda root: None, "none.txt", (*TRAIN, "--tags", "none.txt")),
    Case("a folder for a tag file", lambda root: None, "JPEGImages", (*TRAIN, "--tags", "JPEGImages")),
    Case("a tag file without tags", tagged("a1\na2\n"), "image_tags.txt"),
    Case("a tag file with an escape", tagged("a1 c\x1bat\n"), "no plain text"),
]

MASKS = [
    Case("an RGB mask", puts(MASK, WHOLE), f"{MASK}: a mask with mode RGB", CHECK, 7),
    Case("a mask with alpha", puts(MASK, encode(np.zeros((6, 9, 4), np.uint8))), "mode RGBA", CHECK, 7),
    Case(
        "a mask of 16 bits", puts(MASK, encode(np.zeros((6, 9), np.uint16))), f"{MASK}: a mask with mode I;16", CHECK, 7
    ),
    Case("a mask of 1 bit", puts(MASK, encode(np.zeros((6, 9), bool))), f"{MASK}: a mask with mode 1", CHECK, 7),
    Case("a mask out of range", puts(MASK, encode(np.full((6, 9), 4, np.uint8))), f"{MASK}: mask value 4", CHECK, 7),
    Case(
        "a mask of another size",
        puts(MASK, encode(np.zeros((9, 6), np.uint8))),
        "6 x 9 pixels for an image of 9 x 6",
        CHECK,
        7,
    ),
    Case("an empty mask", puts(MASK, b""), f"{MASK}: an empty file", CHECK, 7),
    Case("a cut mask", puts(MASK, encode(mask_of("cat"))[:45]), MASK, CHECK, 7),
    Case("a mask of many pixels", puts(MASK, png(50_000, 50_000)), f"{MASK}: too many pixels", CHECK, 7),
    Case("no folder of masks", lambda root: None, "nowhere", (*TRAIN, "--set", "data.masks=nowhere")),
    Case("a file for the folder of masks", lambda root: None, "classes", (*TRAIN, "--set", "data.masks=classes.txt")),
]
SALIENCIES = [
    Case(
        "floating-point saliency", puts(SALIENCY, tiff(np.zeros((6, 9), np.float32))), "floating-point pixels", CHECK, 7
    ),
    Case("32-bit saliency", puts(SALIENCY, tiff(np.full((6, 9), 2**20, np.int32))), f"{SALIENCY}: 32-bit", CHECK, 7),
    Case("empty saliency", puts(SALIENCY, b""), f"{SALIENCY}: an empty file", CHECK, 7),
    Case("saliency that is a text", puts(SALIENCY, "none"), f"{SALIENCY}: not a readable image", CHECK, 7),
    Case("cut saliency", puts(SALIENCY, WHOLE[: len(WHOLE) // 2]), f"{SALIENCY}: cannot be decoded", CHECK, 7),
    Case("no folder of saliency", lambda root: None, "nowhere", (*TRAIN, "--saliency", "nowhere")),
]


def toml(content: str | bytes) -> Break:
    return lambda root: write(root.parent / "mcis.toml", content)


SETTINGS = [
    Case(
        "an unknown setting",
        toml("[train-cls]\nepoch = 3\n"),
        "mcis.toml: setting train-cls.epoch is not known; did you mean epochs?",
    ),
    Case("an unknown section", toml("[training]\n"), "mcis.toml: setting training is not known"),
    Case(
        "a text for a number", toml('[train-cls]\nepochs = "3"\n'), "mcis.toml: train-cls.epochs = '3' is not accepted"
    ),
    Case(
        "a switch for a number",
        toml("[train-cls]\nepochs = true\n"),
        "mcis.toml: train-cls.epochs = True is not accepted",
    ),
    Case("a number for a switch", toml("[eval]\ncrf = 1\n"), "mcis.toml: eval.crf = 1 is not accepted"),
    Case("a fraction for a count", toml("[cams]\nrefs = 2.5\n"), "mcis.toml: cams.refs = 2.5 is not accepted"),
    Case("a number that is none", toml("[train-cls]\nlr = nan\n"), "mcis.toml: train-cls.lr = nan is not accepted"),
    Case("a section that is a number", toml("cams = 3\n"), "mcis.toml: cams = 3 is not accepted"),
    Case("a list of sections", toml("[[cams]]\nrefs = 1\n"), "mcis.toml: cams = [{'refs': 1}] is not accepted"),
    Case("a preset that is none", toml('preset = "fast"\n'), "mcis.toml: preset 'fast' is not known"),
    Case("a setting twice", toml("[cams]\nrefs = 1\nrefs = 2\n"), "mcis.toml is not valid TOML"),
    Case("a section twice", toml("[cams]\n[cams]\n"), "mcis.toml is not valid TOML"),
    Case("no value", toml("[cams]\nrefs =\n"), "mcis.toml is not valid TOML"),
    Case("no TOML at all", toml("{'refs': 1}"), "mcis.toml is not valid TOML"),
    Case("settings in Latin-1", toml('[data]\ntrain = "für"\n'.encode("latin-1")), "mcis.toml is not valid TOML"),
    Case("a NUL in the settings", toml('[data]\ntrain = "a\0b"\n'), "mcis.toml is not valid TOML"),
    Case("settings nested deeply", toml("x = " + "[" * 10**5 + "]" * 10**5), "mcis.toml nests tables too deeply"),
    Case("a folder for the settings", lambda root: None, "set cannot be read", (*TRAIN, "--config", "set")),
    Case("settings that are not there", lambda root: None, "none.toml", (*TRAIN, "--config", "none.toml")),
]

NAMES = [
    Case("a list with an image that is not there", puts(LIST, "a1\na2\ngone\n"), "'train' of "),
    Case("a list that climbs", puts(LIST, "a1\n../../secret\n"), "'train' of "),
    Case("a list in Latin-1", puts(LIST, "für\n".encode("latin-1")), f"{LIST}: not UTF-8"),
    Case("an empty list", puts(LIST, "\n\n"), "the split 'train' of "),
    Case("a folder for a list", instead(LIST, Path.mkdir), f"{LIST}: a folder, a pipe or a device"),
    Case("a pipe for a list", instead(LIST, os.mkfifo), f"{LIST}: a folder, a pipe or a device"),
    Case("a split that is none", lambda root: None, "no split 'test'", (*TRAIN, "--split", "test")),
    Case("a file name with a line break", puts("JPEGImages/a\nb.png", WHOLE), "characters that are no text"),
    Case("a file name with an escape", puts("JPEGImages/a\x1b[31m.png", WHOLE), "characters that are no text"),
    Case(
        "a file name that is no UTF-8", puts(os.fsdecode(b"JPEGImages/a\xff.png"), WHOLE), "characters that are no text"
    ),
    Case("a file name of 210 characters", puts(f"JPEGImages/{'x' * 210}.png", WHOLE), "an image id of 210 characters"),
    Case("one id with two extensions", puts("JPEGImages/a1.jpg", WHOLE), "two files for 'a1'"),
    Case("a class twice", puts("classes.txt", "bird\ncat\ndog\ncat\n"), "the class 'cat' is named twice in "),
    Case("an empty list of classes", puts("classes.txt", "\n"), "no class names in "),
    Case("the background alone", puts("classes.txt", "background\n"), "no class names in "),
    Case(
        "the background amidst",
        puts("classes.txt", "bird\nbackground\ncat\ndog\n"),
        "'background' is among the classes",
    ),
    Case("255 classes", puts("classes.txt", "".join(f"c{n}\n" for n in range(255))), "255 classes in "),
    Case("a class with an escape", puts("classes.txt", "bird\ncat\ndog\n\x1b[31mred\n"), "is no plain text"),
    Case("classes in Latin-1", puts("classes.txt", "Löwe\n".encode("latin-1")), "classes.txt: not UTF-8"),
    Case("a folder that is not there", lambda root: None, "nowhere does not exist", ("train-cls", "nowhere")),
    Case("a photograph for a folder", lambda root: None, "a1.png is a file", ("train-cls", f"set/{PHOTO}")),
    Case("a device for a folder", lambda root: None, "/dev/null is a pipe or a device", ("train-cls", "/dev/null")),
    Case(
        "a folder without images",
        lambda root: (root.parent / "empty").mkdir(),
        "no image set in ",
        ("train-cls", "empty"),
    ),
    Case(
        "no JPEGImages but an empty one",
        lambda root: [p.unlink() for p in (root / "JPEGImages").iterdir()],
        "no images in ",
    ),
]


def weights(content: bytes | str) -> Break:
    return lambda root: write(root.parent / "w.pth", content)


WITH_WEIGHTS = (*TRAIN, "--weights", "w.pth")
WEIGHTS = [
    Case("weights that are not there", lambda root: None, "w.pth", WITH_WEIGHTS),
    Case("a folder for weights", lambda root: (root.parent / "w.pth").mkdir(), "w.pth", WITH_WEIGHTS),
    Case("a pipe for weights", lambda root: os.mkfifo(root.parent / "w.pth"), "w.pth", WITH_WEIGHTS),
    Case("empty weights", weights(b""), "w.pth", WITH_WEIGHTS),
    Case("weights that are a text", weights("none"), "w.pth", WITH_WEIGHTS),
    Case("weights that are an image", weights(WHOLE), "w.pth", WITH_WEIGHTS),
]
ARTIFACTS = [
    Case("a folder for an artifact", lambda root: None, "set", ("cams", "set"), 3),
    Case("a pipe for an artifact", lambda root: os.mkfifo(root.parent / "p.h5"), "p.h5", ("cams", "p.h5"), 3),
    Case("an image for an artifact", lambda root: None, "a1.png is no artifact", ("cams", f"set/{PHOTO}"), 4),
    Case(
        "an empty artifact", lambda root: write(root.parent / "e.h5", b""), "e.h5 is no artifact", ("pseudo", "e.h5"), 4
    ),
    Case("nothing for an artifact", lambda root: None, "the name of the artifact is empty", ("cams", ""), 3),
    Case("a name that climbs for an artifact", lambda root: None, "../../x", ("train-seg", "../../x"), 3),
    Case("a NUL for an artifact", lambda root: None, "no artifact", ("eval", "a\0b"), 3),
]
CASES = [
    *IMAGES, *XML, *TABLES, *COCO, *TAGS, *MASKS, *SALIENCIES, *SETTINGS, *NAMES, *WEIGHTS, *ARTIFACTS
]  # fmt: skip
DANGEROUS = [
    case
    for case in CASES
    if any(word in case.name for word in ("bomb", "largest", "expands", "huge", "million", "deeply", "many pixels"))
]


@pytest.fixture(autouse=True)
def no_blocking() -> Iterator[None]:
    """What waits for a pipe that nobody writes to fails instead."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError("blocked")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    write_voc(folder / "set")
    write(folder / "set/classes.txt", "bird\ncat\ndog\n")
    return folder


def leftovers(store: Path) -> set[str]:
    return {path.name for part in ("tmp", "partial") for path in (store / part).glob("*")} if store.exists() else set()


def assert_refused(case: Case, code: int, out: str, err: str, store: Path) -> None:
    assert code == case.code, err
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("mcis: error: ")
    assert case.named in err
    assert len(err) <= MAX_LINE
    assert err.rstrip("\n").isprintable()
    assert not leftovers(store)
    assert not sealed(store)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 80
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(DANGEROUS) >= 8


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_malformed_input_is_one_line_that_names_it(call, work: Path, case: Case) -> None:
    case.breaks(work / "set")
    answer = call(*case.arguments, cwd=work)
    assert_refused(case, answer.code, answer.out, answer.err, work / ".mcis")


# The peak of the process itself: the result of `wait4` includes that of the parent process.
MEASURED = """
import atexit, re, sys, time
def note(path=sys.argv[1]):
    peak = re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())
    open(path, "w").write(f"{int(peak[1]) * 1024} {time.process_time()}")
atexit.register(note)
del sys.argv[1]
from mcis_cli.cli.start import main
main()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system tells of a process's peak elsewhere")
@pytest.mark.parametrize("case", DANGEROUS, ids=lambda case: case.name)
def test_what_is_dangerous_takes_little_time_and_memory(work: Path, case: Case) -> None:
    """In a process of its own, with `check`, which has no torch in it: peak and seconds are those of the case."""
    case.breaks(work / "set")
    answer = subprocess.run(
        [sys.executable, "-c", MEASURED, work / "used.txt", *CHECK],
        cwd=work,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    peak, seconds = map(float, (work / "used.txt").read_text().split())
    assert answer.returncode in (2, 7), answer.stderr
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    assert len(answer.stderr) <= MAX_LINE
    assert 0 < peak < MAX_BYTES
    assert seconds < MAX_SECONDS  # of the processor: nothing that a busy machine changes much


def sixteen_bits(root: Path) -> None:
    write(root / PHOTO, encode(np.full((HEIGHT, WIDTH), 40_000, np.uint16)))
    write(root / SALIENCY, encode(np.full((HEIGHT, WIDTH), 40_000, np.uint16)))


def cmyk(root: Path) -> None:
    with (root / PHOTO).open("wb") as file:
        Image.fromarray(photo(0)).convert("CMYK").save(file, "JPEG")


def animated(root: Path) -> None:
    frames = [Image.fromarray(photo(seed)) for seed in range(3)]
    (root / PHOTO).unlink()
    frames[0].save(root / "JPEGImages/a1.gif", save_all=True, append_images=frames[1:])


def nonsense_exif(root: Path) -> None:
    (root / PHOTO).unlink()
    noise = b"Exif\0\0" + bytes(np.random.default_rng(0).integers(0, 256, 300, dtype=np.uint8))
    write(root / "JPEGImages/a1.jpg", encode(photo(0), "JPEG", exif=noise))


def transparent(root: Path) -> None:
    write(root / PHOTO, encode(np.zeros((HEIGHT, WIDTH, 4), np.uint8)))


def jpeg_called_png(root: Path) -> None:
    write(root / PHOTO, encode(photo(0), "JPEG"))


def grey(root: Path) -> None:
    write(root / PHOTO, encode(photo(0)[:, :, 0]))


def one_pixel(root: Path) -> None:
    for place in (PHOTO, MASK, SALIENCY):
        write(root / place, encode(np.zeros((1, 1, 3) if place == PHOTO else (1, 1), np.uint8)))


def crlf_and_marks(root: Path) -> None:
    write(root / LIST, "\ufeffa1\r\na2\r\n\r\na3\rc1")
    write(root / "image_tags.txt", "\ufeff" + (root / "image_tags.txt").read_text().replace("\n", "\r\n"))
    write(root / "classes.txt", "\ufeffbackground\r\nbird\r\ncat\r\ndog")


def upper_case_extension(root: Path) -> None:
    (root / PHOTO).rename(root / "JPEGImages/a1.PNG")


SOUND = [
    *(sixteen_bits, cmyk, animated, nonsense_exif, transparent, jpeg_called_png, grey, one_pixel),
    *(crlf_and_marks, upper_case_extension),
]


@pytest.mark.parametrize("change", SOUND, ids=lambda change: change.__name__)
def test_what_is_strange_and_sound_is_accepted(call, work: Path, change: Break) -> None:
    change(work / "set")
    answer = call("check", "set", "--refs", "0", "-q", cwd=work)
    assert (answer.code, answer.out, answer.err) == (0, "", "")


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffimage,tags\r\na.png,cat\r\nb.png,dog\r\n",
        'image,tags\n"a.png","cat;dog"\n"b.png", "dog"\n',
        "image;tags\na.png;cat\nb.png;dog\n",
        "IMAGE,Tags\n./a.png,cat\n.\\b.png,dog\n",
        "image,tags\na,cat\nb,dog\n\n",
        "image,tags\ra.png,cat\rb.png,dog\r",
        "image,cat,dog\na.png,1,0\nb.png,,true\n",
        "image,tags\na.png,cat\na.png,dog\nb.png,cat|dog\n",
        "image,tags\na.png,Löwe 🦁\nb.png,(red)\n",
    ],
)
def test_tables_of_every_spelling_are_accepted(call, work: Path, content: str) -> None:
    table(content)(work / "set")
    answer = call("check", "set", "--refs", "0", "-q", cwd=work)
    assert (answer.code, answer.out) == (0, "")
    assert "error" not in answer.err


def test_case_twins_are_told_and_kept(call, work: Path) -> None:
    """They are two images here; on another file system they would be one."""
    write(work / "set/JPEGImages/A1.png", encode(photo(99)))
    if len(list((work / "set/JPEGImages").iterdir())) < 7:
        pytest.skip("this file system does not tell case apart")
    answer = call("check", "set", "--refs", "0", "-q", cwd=work)
    assert answer.code == 0
    assert "1 group of image ids that differ only in case" in answer.err
    assert "'A1', 'a1'" in answer.err


def test_a_store_of_another_program_is_left_alone(call, work: Path) -> None:
    write(work / ".mcis/precious.txt", "mine")
    answer = call(*TRAIN, cwd=work)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert ".mcis is not a store: it contains 'precious.txt'" in answer.err
    assert [path.name for path in (work / ".mcis").iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("content", [b"", b"mcis store 2\n", b"\xff" * 100])
def test_a_store_of_another_format_is_refused(call, work: Path, content: bytes) -> None:
    open_store(work / ".mcis")
    (work / ".mcis/format").chmod(0o644)
    (work / ".mcis/format").write_bytes(content)
    answer = call(*TRAIN, cwd=work)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert "has format" in answer.err
