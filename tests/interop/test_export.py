"""`mcis export`: what other tools read from it is what the artifact holds."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filled_polygons import fill
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from tiny_chain import CLASSES, NUM_TRAIN, NUM_VAL

from mcis_cli.config import EvalConfig
from mcis_cli.data.palette import voc_palette
from mcis_cli.errors import DataError
from mcis_cli.interop.exports import voc, yolo
from mcis_cli.interop.exports.dictionaries import map_files
from mcis_cli.interop.imports.pickled_arrays import read_dictionary
from mcis_cli.stages import read_record
from mcis_cli.stages.predict import run as predict
from mcis_cli.store import open_store

VOID = 255
# pycocotools' own, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def content(items, class_names, split="train"):
    """What a format is given, of masks or maps that are at hand."""
    return SimpleNamespace(masks=lambda: iter(items), maps=lambda: iter(items), class_names=class_names, split=split)


@pytest.fixture
def export(call, chain, tmp_path):
    """Runs the command in the folder of the chain, with the artifact of a stage; gives the folder that it printed."""

    def run(stage: str, *arguments: str) -> Path:
        answer = call("export", chain.made[stage].id, *arguments, "-o", tmp_path / "out", cwd=chain.folder)
        assert answer.code == 0, answer.err
        assert answer.lines == [str(tmp_path / "out")]
        return tmp_path / "out"

    return run


@pytest.fixture
def masks(chain):
    """The pseudo masks by id; some pixels of them are ignored."""
    pseudo = chain.made["pseudo"]
    found = {image_id: read_record(pseudo, image_id)["mask"] for image_id in pseudo.ids}
    assert any((mask == VOID).any() for mask in found.values())
    assert any(((mask > 0) & (mask != VOID)).any() for mask in found.values())
    return found


def values(mask):
    return set(np.unique(mask).tolist()) - {0, VOID}


def test_voc_folder_has_masks_objects_and_a_list(export, masks):
    out = export("pseudo", "--voc", "--images")
    assert (out / "ImageSets/Segmentation/train.txt").read_text().split() == sorted(masks)
    for image_id, mask in masks.items():
        with Image.open(out / f"SegmentationClass/{image_id}.png") as picture:
            assert picture.mode == "P"
            np.testing.assert_array_equal(np.asarray(picture), mask)
        with Image.open(out / f"SegmentationObject/{image_id}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), np.where(mask == VOID, 0, mask))
        assert (out / f"JPEGImages/{image_id}.jpg").stat().st_size
    labels = json.loads((out / "labels.json").read_text())
    assert [label["name"] for label in labels] == list(CLASSES)
    assert labels[0]["color"] == "#800000"
    assert (out / "labelmap.txt").read_text().splitlines()[-1] == "void:224,224,192::"


def test_datumaro_reads_the_voc_folder_as_shapes_of_classes_alone(export, masks):
    datumaro = pytest.importorskip("datumaro", reason="pip install 'mcis[interchange]'")
    read = datumaro.Dataset.import_from(str(export("pseudo", "--voc", "--images")), "voc_segmentation")
    names = [label.name for label in read.categories()[datumaro.AnnotationType.label]]
    assert names == ["background", *CLASSES, "void"]
    colours = read.categories()[datumaro.AnnotationType.mask].colormap
    assert colours[2] == tuple(voc_palette()[2].tolist())
    assert {item.id for item in read} == set(masks)
    for item in read:
        assert {annotation.label for annotation in item.annotations} == values(masks[item.id])
        for annotation in item.annotations:
            np.testing.assert_array_equal(annotation.image, masks[item.id] == annotation.label)


def test_pycocotools_reads_the_regions_of_coco(export, masks):
    out = export("pseudo", "--coco", "--images")
    read = COCO(out / "annotations/instances_train.json")
    assert [category["name"] for category in read.loadCats(read.getCatIds())] == list(CLASSES)
    assert len(read.imgs) == len(masks)
    for image in read.imgs.values():
        assert (out / "images" / image["file_name"]).is_file()
        mask = masks[image["file_name"].removesuffix(".jpg")]
        assert (image["height"], image["width"]) == mask.shape
        found = np.zeros_like(mask)
        for annotation in read.loadAnns(read.getAnnIds(image["id"])):
            region = read.annToMask(annotation).astype(bool)
            found[region] = annotation["category_id"]
            assert annotation["area"] == region.sum()
            assert annotation["bbox"] == coco_masks.toBbox(annotation["segmentation"]).tolist()
        np.testing.assert_array_equal(found, np.where(mask == VOID, 0, mask))


def test_datumaro_reads_the_regions_of_coco(export, masks):
    datumaro = pytest.importorskip("datumaro", reason="pip install 'mcis[interchange]'")
    read = datumaro.Dataset.import_from(str(export("pseudo", "--coco", "--images")), "coco_instances")
    assert {item.id: {a.label + 1 for a in item.annotations} for item in read} == {
        image_id: values(mask) for image_id, mask in masks.items()
    }


def test_datumaro_reads_the_masks_of_cvat(export, masks):
    datumaro = pytest.importorskip("datumaro", reason="pip install 'mcis[interchange]'")
    read = datumaro.Dataset.import_from(str(export("pseudo", "--cvat", "--images")), "cvat")
    names = [label.name for label in read.categories()[datumaro.AnnotationType.label]]
    assert {item.id for item in read} == set(masks)
    for item in read:
        assert {names[annotation.label] for annotation in item.annotations} == {
            CLASSES[value - 1] for value in values(masks[item.id])
        }
        for annotation in item.annotations:
            np.testing.assert_array_equal(
                annotation.image, masks[item.id] == 1 + CLASSES.index(names[annotation.label])
            )


def test_label_studio_decodes_the_brushes(export, masks):
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="pip install label-studio-sdk")
    tasks = json.loads((export("pseudo", "--label-studio") / "tasks.json").read_text())
    assert len(tasks) == len(masks)
    for task in tasks:
        mask = masks[Path(task["data"]["image"]).stem]
        found = {}
        for region in task["predictions"][0]["result"]:
            pixels = brush.decode_rle(region["value"]["rle"])
            planes = pixels.reshape(region["original_height"], region["original_width"], 4)
            found[1 + CLASSES.index(region["value"]["brushlabels"][0])] = planes[:, :, 3] > 0
        assert set(found) == values(mask)
        for value, region in found.items():
            np.testing.assert_array_equal(region, mask == value)


def test_only_the_images_of_a_list(call, chain, tmp_path, monkeypatch):
    first, second, *_ = chain.made["pseudo"].ids
    lines = f"{second}\t0.93\twhatever\n  " + json.dumps({"id": first, "score": 0.5}) + "\n\n"
    (tmp_path / "ids.txt").write_text("\ufeff" + lines.replace("\n", "\r\n"), newline="")
    named = chain.made["pseudo"].id
    answer = call("export", named, "--voc", "--ids", tmp_path / "ids.txt", "-o", tmp_path / "a", cwd=chain.folder)
    assert answer.code == 0, answer.err
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    listed = call("export", named, "--voc", "--ids", "-", "-o", tmp_path / "b", cwd=chain.folder)
    assert listed.code == 0, listed.err
    for out in (tmp_path / "a", tmp_path / "b"):
        assert sorted(path.stem for path in (out / "SegmentationClass").iterdir()) == [first, second]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nobody\n", "no image 'nobody' among its 16 of train; expected ids of its images"),
        (b"\n", "is empty: expected image ids, one a line"),
        (b'{"name": 3}\n', "line 1 is '{\"name\": 3}': expected an image id, or a JSON object with 'id'"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_list_that_is_none_of_its_images_is_refused(call, chain, tmp_path, content, message):
    (tmp_path / "ids.txt").write_bytes(content)
    answer = call("export", chain.made["pseudo"].id, "--voc", "--ids", tmp_path / "ids.txt", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_one_pipe_cannot_be_both_the_list_and_the_artifact(call, chain):
    answer = call("export", "-", "--voc", "--ids", "-", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "--ids - reads the list from stdin: give the artifact as the argument" in answer.err


def test_panoptic_pictures_are_the_masks_with_nothing_where_they_are_void(export, masks):
    out = export("pseudo", "--panoptic")
    table = json.loads((out / "annotations/panoptic_train.json").read_text())
    assert [category["name"] for category in table["categories"]] == [*CLASSES, "background"]
    for annotation in table["annotations"]:
        with Image.open(out / "annotations/panoptic_train" / annotation["file_name"]) as picture:
            red, green, blue = np.moveaxis(np.asarray(picture).astype(np.int64), 2, 0)
        segments = red + 256 * green + 256**2 * blue
        mask = masks[annotation["file_name"].removesuffix(".png")]
        expected = np.where(mask == 0, len(CLASSES) + 1, np.where(mask == VOID, 0, mask))
        np.testing.assert_array_equal(segments, expected)
        areas = {segment["id"]: segment["area"] for segment in annotation["segments_info"]}
        assert areas == {value: (expected == value).sum() for value in np.unique(expected) if value}


def test_datumaro_reads_the_panoptic_pictures(export, masks):
    datumaro = pytest.importorskip("datumaro", reason="pip install 'mcis[interchange]'")
    read = datumaro.Dataset.import_from(str(export("pseudo", "--panoptic", "--images")), "coco_panoptic")
    for item in read:
        assert {a.label for a in item.annotations if a.label < len(CLASSES)} == {v - 1 for v in values(masks[item.id])}
        for annotation in item.annotations:
            value = (annotation.label + 1) % (len(CLASSES) + 1)
            np.testing.assert_array_equal(annotation.image, masks[item.id] == value)


def read_yolo(file: Path, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    for line in file.read_text().splitlines():
        label, *numbers = line.split()
        corners = np.array(numbers, float).reshape(-1, 2)
        assert ((corners >= 0) & (corners <= 1)).all()
        mask[fill((corners * (width, height)).round(3).tolist(), height, width)] = int(label) + 1
    return mask


def test_polygons_of_yolo_are_the_masks_again(export, masks):
    out = export("pseudo", "--yolo", "--images")
    for image_id, mask in masks.items():
        read = read_yolo(out / f"labels/train/{image_id}.txt", *mask.shape)
        np.testing.assert_array_equal(read, np.where(mask == VOID, 0, mask))
        assert (out / f"images/train/{image_id}.jpg").is_file()
    assert (out / "data.yaml").read_text() == (
        'path: .\ntrain: "images/train"\nval: "images/train"\nnames:\n  0: "disc"\n  1: "star"\n  2: "square"\n'
    )


def test_ids_in_folders_are_flat_for_yolo_and_two_of_one_name_are_refused(tmp_path):
    mask = np.ones((2, 3), np.uint8)
    first, *_ = yolo.yolo_files(content([("images/001", mask)], ["cat"]))
    assert first.path == Path("labels/train/images_001.txt")
    with pytest.raises(DataError, match=r"images 'a/b' and 'a_b' would both be a_b\.txt"):
        list(yolo.yolo_files(content([("a/b", mask), ("a_b", mask)], ["cat"])))


def test_maps_come_back_as_the_same_artifact(export, call, chain):
    out = export("cams", "--maps")
    first = chain.made["cams"].ids[0]
    read = np.load(out / f"{first}.npy", allow_pickle=True).item()
    record = read_record(chain.made["cams"], first)
    assert list(read) == record["classes"].tolist()
    assert all(array.dtype == np.float32 for array in read.values())
    answer = call("import", "--cams", out, "--data", "shapes", "--split", "train", cwd=chain.folder)
    assert answer.code == 0, answer.err
    back = open_store(chain.folder / ".mcis").get(answer.lines[0])
    assert len(back) == NUM_TRAIN
    for image_id in back.ids:
        np.testing.assert_array_equal(back.read(image_id)["maps"], chain.made["cams"].read(image_id)["maps"])


def test_maps_of_full_size_are_in_0_to_1(export, chain):
    out = export("cams", "--maps", "--full-size")
    for entry in chain.images().split("train").entries:
        read = np.load(out / f"{entry.id}.npy", allow_pickle=True).item()
        assert list(read) == list(entry.labels)
        for array in read.values():
            assert array.shape == (entry.height, entry.width)
            assert array.min() >= 0
            assert array.max() <= 1


@pytest.mark.parametrize(
    ("stage", "flag"), [("pseudo", "--overlays"), ("train-seg", "--overlays"), ("cams", "--heatmaps")]
)
def test_pictures_have_the_size_of_the_photographs(export, chain, stage, flag):
    out = export(stage, flag, "--split", "train")
    for entry in chain.images().split("train").entries:
        names = [f"{entry.id}.png"]
        if flag == "--heatmaps":
            names = [f"{entry.id}/{CLASSES[label]}.png" for label in entry.labels]
        for name in names:
            with Image.open(out / name) as picture:
                assert (picture.mode, picture.size) == ("RGB", (entry.width, entry.height))


def test_a_network_predicts_its_split_as_predict_does(export, chain):
    out = export("train-seg", "--voc")
    ids = (out / "ImageSets/Segmentation/val.txt").read_text().split()
    assert len(ids) == NUM_VAL
    images = chain.images()
    paths = [images.root / images[image_id].image for image_id in ids]
    from tiny_chain import options

    config = EvalConfig(precision="fp32")
    for image_id, predicted in zip(ids, predict.run(config, chain.made["train-seg"], paths, options()), strict=True):
        with Image.open(out / f"SegmentationClass/{image_id}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), predicted.mask)


@pytest.mark.slow
def test_predictions_are_made_with_the_scales_mirror_window_and_crf_that_are_asked_for(export, monkeypatch):
    from mcis_cli.maps import crf as maps
    from mcis_cli.stages.engine import predictor as segmenting

    looked, refined = [], []
    load, crf = segmenting.load_segmenter, maps.dense_crf
    monkeypatch.setattr(segmenting, "load_segmenter", lambda *a, **given: looked.append(given) or load(*a, **given))
    monkeypatch.setattr(maps, "dense_crf", lambda *a, **given: refined.append(given) or crf(*a, **given))
    flags = ("--scales", "0.5,1", "--flip", "--window", "64", "--crf", "--workers", "0")
    export("train-seg", "--voc", *flags, "--set", "eval.crf_settings.iterations=2")
    assert (looked[0]["scales"], looked[0]["flip"], looked[0]["window"]) == ((0.5, 1.0), True, 64)
    assert [given["iterations"] for given in refined] == [2] * NUM_VAL


def test_predictions_depend_on_the_network_and_the_flags_not_on_the_folder(call, chain_copy, monkeypatch):
    from mcis_cli.maps import crf as maps

    refined, crf = [], maps.dense_crf
    monkeypatch.setattr(maps, "dense_crf", lambda *a, **given: refined.append(given) or crf(*a, **given))
    toml = chain_copy.folder / "mcis.toml"
    toml.write_text(toml.read_text().replace("[eval]\n", "[eval]\ncrf = true\n"))
    command = ("export", chain_copy.made["train-seg"].id, "--voc", "--workers", "0", "--force")
    assert "[eval]" not in call(*command, cwd=chain_copy.folder).err
    assert refined == []
    named = call(*command, "--config", "mcis.toml", cwd=chain_copy.folder)
    assert 'mcis: export: from [eval] of mcis.toml: crf = true, precision = "fp32"\n' in named.err
    assert len(refined) == NUM_VAL


def test_a_submission_has_a_palette_png_for_each_id_where_the_server_looks(call, chain, tmp_path):
    answer = call(
        *("export", chain.made["train-seg"].id, "--voc-submission", "--split", "val", "-o", tmp_path / "out"),
        cwd=chain.folder,
    )
    assert answer.code == 0
    assert "warning: the classes are not the 20 of PASCAL VOC in their order" in answer.err
    files = sorted(file for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert {file.parent for file in files} == {tmp_path / "out/results/VOC2012/Segmentation/comp6_test_cls"}
    assert [file.stem for file in files] == list(chain.images().split("val").ids)
    with Image.open(files[0]) as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[:12] == voc_palette()[:4].ravel().tolist()
        assert np.asarray(picture).max() <= len(CLASSES)


def test_a_folder_with_something_in_it_is_refused_unless_told(call, chain, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    command = ("export", chain.made["pseudo"].id, "--voc", "-o", tmp_path / "out")
    answer = call(*command, cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "out is not empty, it contains 'mine.txt': choose another folder with --output" in answer.err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert call(*command, "--force", cwd=chain.folder).code == 0
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("stage", "arguments", "code", "message"),
    [
        ("pseudo", (), 2, "choose one format: found none, expected one of --voc, --coco"),
        ("pseudo", ("--voc", "--yolo"), 2, "found --voc and --yolo, expected one of"),
        ("pseudo", ("--voc", "--crf"), 2, "--crf cannot be used with an artifact of pseudo"),
        ("pseudo", ("--overlays", "--images"), 2, "--images cannot be used with --overlays"),
        ("pseudo", ("--voc", "--full-size"), 2, "--full-size cannot be used with --voc"),
        ("pseudo", ("--voc-submission",), 2, "train-seg"),
        ("train-seg", ("--voc-submission", "--competition", "comp7"), 2, "expected comp5 or comp6"),
        ("cams", ("--voc",), 2, "pseudo"),
        ("pseudo", ("--voc", "--split", "val"), 2, "lacks 6 of 6 images of split 'val'"),
        ("pseudo", ("--voc", "-o", "/proc/out"), 6, "/proc/out cannot be written"),
    ],
)
def test_what_cannot_be_exported_is_one_line(call, chain, tmp_path, stage, arguments, code, message):
    given = arguments if "-o" in arguments else (*arguments, "-o", tmp_path / "out")
    answer = call("export", chain.made[stage].id, *given, cwd=chain.folder)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.count("\n") == 1
    assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_without_an_artifact_the_one_of_the_configuration_is_taken(call, chain, tmp_path):
    for flag in ("--voc", "--maps"):
        assert call("export", flag, "-o", tmp_path / flag, cwd=chain.folder).code == 0


def test_part_of_what_was_made_is_no_change_of_images(call, chain_copy, tmp_path):
    some = sorted(chain_copy.made["pseudo"].ids)[:3]
    lists = chain_copy.folder / "shapes/ImageSets/Segmentation"
    (lists / "some.txt").write_text("\n".join(some) + "\n")
    arguments = ["export", chain_copy.made["pseudo"].id, "--split", "some", "--voc", "-o", tmp_path / "out"]
    answer = call(*arguments, cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert "have changed" not in answer.err
    assert sorted(path.stem for path in (tmp_path / "out/SegmentationClass").iterdir()) == some


def test_a_name_that_labelmap_has_no_letter_for_is_refused():
    with pytest.raises(DataError, match=r"'a:b' cannot be written to labelmap\.txt"):
        list(voc.voc_files(content([], ["a:b"])))
    with pytest.raises(DataError, match=r"the split '\.\./x' cannot be part of a file's name"):
        list(voc.voc_files(content([], ["a"], "../x")))
    assert b"void_:224,224,192::\n" in voc.label_map(["void"])


def test_masks_need_no_photographs(call, chain_copy, tmp_path):
    """Masks of an artifact are exported where nobody knows its images."""
    import shutil

    shutil.rmtree(chain_copy.folder / "shapes")
    (chain_copy.folder / "mcis.toml").unlink()
    made = chain_copy.made["pseudo"].path
    assert call("export", made, "--voc", "-o", tmp_path / "out", cwd=tmp_path).code == 0
    assert len(list((tmp_path / "out/SegmentationClass").iterdir())) == NUM_TRAIN


def test_exported_maps_are_read_again_as_they_were():
    (file,) = map_files(content([("a", {0: np.ones((2, 3), np.float16), 2: np.zeros((2, 3))})], []))
    assert list(read_dictionary(file.content, "a.npy")) == [0, 2]
    assert np.load(io.BytesIO(file.content), allow_pickle=True).shape == ()
