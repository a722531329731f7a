"""What `mcis export` writes is read back as it was: names, splits, tags and masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from image_sets import encode, photo, write
from PIL import Image
from tiny_chain import CLASSES

from mcis_cli.config import DataConfig
from mcis_cli.data.images import decode_image, upright
from mcis_cli.data.reading import read_catalogue
from mcis_cli.interop.imports.corrected_files import read_corrected
from mcis_cli.stages import read_record

VOID = 255
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def exported(call, chain, tmp_path):
    """Exports the pseudo masks of the chain, with photographs; gives the folder."""

    def run(flag: str) -> Path:
        answer = call("export", chain.made["pseudo"].id, flag, "--images", "-o", tmp_path / "out", cwd=chain.folder)
        assert answer.code == 0, answer.err
        return tmp_path / "out"

    return run


@pytest.fixture
def masks(chain):
    pseudo = chain.made["pseudo"]
    return {image_id: read_record(pseudo, image_id)["mask"] for image_id in pseudo.ids}


def shown(mask):
    return {int(value) - 1 for value in np.unique(mask) if value not in (0, VOID)}


def test_masks_in_the_layout_of_voc(exported, masks):
    back = read_catalogue(DataConfig(root=str(exported("--voc")), tags_from_masks=True))
    assert back.layout == "voc"
    assert back.class_names == CLASSES  # of labelmap.txt: the alphabet orders them otherwise
    assert tuple(sorted(CLASSES)) != CLASSES
    assert back.split("train").ids == tuple(sorted(masks))
    for entry in back.entries:
        np.testing.assert_array_equal(back.read_mask(entry.id), masks[entry.id])
        assert set(entry.labels) == shown(masks[entry.id])


def test_masks_as_coco(exported, masks, call):
    out = exported("--coco")
    answer = call("coco-masks", out, "--split", "all", cwd=out.parent)
    assert answer.code == 0, answer.err
    back = read_catalogue(DataConfig(root=str(out)))
    assert back.layout == "coco"
    assert back.class_names == CLASSES
    assert {entry.id for entry in back.split("train").entries} == {f"images/{image_id}" for image_id in masks}
    for entry in back.entries:
        mask = masks[entry.id.removeprefix("images/")]
        np.testing.assert_array_equal(back.read_mask(entry.id), np.where(mask == VOID, 0, mask))
        assert set(entry.labels) == shown(mask)
    assert call("check", out, cwd=out.parent).code == 0


def submitted(tasks: Path) -> Path:
    """The tasks as Label Studio exports them after somebody submitted each prediction unchanged."""
    found = json.loads(tasks.read_text())
    for task in found:
        task["annotations"] = task.pop("predictions")
    tasks.write_text(json.dumps(found))
    return tasks


@pytest.mark.parametrize("flag", ["--cvat", "--label-studio"])
def test_masks_for_annotators_come_back_by_import_of_corrected_masks(exported, chain, masks, call, flag):
    out = exported(flag)
    images = chain.images()
    file = out / "annotations.xml" if flag == "--cvat" else submitted(out / "tasks.json")
    back = dict(read_corrected(file, images, "these masks"))
    assert set(back) == {image_id for image_id, mask in masks.items() if shown(mask) or flag == "--label-studio"}
    for image_id, mask in back.items():
        np.testing.assert_array_equal(mask, np.where(masks[image_id] == VOID, 0, masks[image_id]))
    answer = call("import", "--corrected", file, chain.made["pseudo"].id, cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "every mask is as in" in answer.err  # also those whose ignored pixels the format made background


@pytest.mark.parametrize("flag", ["--yolo", "--panoptic"])
def test_formats_that_are_not_read_are_named(exported, call, flag):
    out = exported(flag)
    answer = call("check", out, cwd=out.parent)
    assert answer.code == (7 if flag == "--yolo" else 0)
    assert "; export COCO" in answer.err  # for the second, beside the warning that one folder is no class


def turned(folder: Path) -> None:
    """Photographs that EXIF data turns, 36 x 24 as they are stored, with maps of their upright halves."""
    exif = Image.Exif()
    exif[0x112] = 6
    for k in range(4):
        content = encode(np.repeat(np.repeat(photo(k, 6, 9), 4, 0), 4, 1), "JPEG", exif=exif.tobytes())
        write(folder / f"set/images/{k}.jpg", content)
        half = np.zeros((36, 24), np.float32)
        half[: 18 if k % 2 else 12] = 1
        (folder / "maps/images").mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"maps/images/{k}.npz", **{("cat", "dog")[k % 2]: half})
    write(
        folder / "set/tags.csv", "image,tags\n" + "".join(f"images/{k}.jpg,{('cat', 'dog')[k % 2]}\n" for k in range(4))
    )


@pytest.mark.parametrize("flag", ["--voc", "--coco"])
def test_photographs_that_are_turned_are_written_upright(call, tmp_path, flag):
    turned(tmp_path)
    made = call("import", "--cams", "maps", "--data", "set", cwd=tmp_path).lines[0]
    answer = call("pseudo", made, "--background", "constant", "--no-crf", cwd=tmp_path)
    assert answer.code == 0, answer.err
    answer = call("export", answer.lines[0], flag, "--images", "-o", "out", cwd=tmp_path)
    assert answer.code == 0, answer.err
    (image,) = tmp_path.glob("out/**/0.jpg") if flag == "--voc" else tmp_path.glob("out/images/**/0.jpg")
    with Image.open(image) as photograph:
        assert photograph.size == (24, 36)
        assert photograph.getexif().get(0x112, 1) == 1
    if flag == "--coco":
        assert call("coco-masks", "out", "--split", "all", cwd=tmp_path).code == 0
    tags = ("--tags-from-masks",) if flag == "--voc" else ()
    answer = call("check", "out", *tags, cwd=tmp_path)
    assert answer.code == 0, answer.err
    back = read_catalogue(DataConfig(root=str(tmp_path / "out"), tags_from_masks=bool(tags)))
    for entry in back.entries:
        mask = back.read_mask(entry.id)
        assert mask.shape == (36, 24)
        assert mask[:10].any()
        assert not mask[20:].any()


def test_only_photographs_that_are_turned_are_written_anew():
    plain = encode(photo(0), "JPEG")
    assert upright(plain, "x") is plain
    exif = Image.Exif()
    exif[0x112] = 8
    turned = encode(photo(0), "JPEG", exif=exif.tobytes())
    again = upright(turned, "x")
    assert again != turned
    assert decode_image(again, "x").shape == decode_image(turned, "x").shape == (9, 6, 3)
    assert upright(again, "x") is again


def test_labels_of_the_export_name_the_classes(exported):
    assert [one["name"] for one in json.loads((exported("--voc") / "labels.json").read_text())] == list(CLASSES)
