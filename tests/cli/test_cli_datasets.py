"""`mcis check` and `mcis init`: findings, exit codes, and a configuration that reads back."""

import json

import numpy as np
import pytest
from image_sets import encode, mask_of, photo, write, write_voc
from PIL import Image
from tiny_chain import CLASSES, sealed, write_shapes

from mcis_cli.config import PRESETS, read_toml, resolve
from mcis_cli.data.synthetic.sources import write_single_label, write_web


def test_a_set_without_faults_is_0_with_its_facts_on_stderr(call, chain):
    answer = call("check", "shapes", cwd=chain.folder)
    assert answer.code == 0
    assert answer.out == ""
    for part in ("layout voc, 22 images", "3 classes: disc, star, square", "22 masks, 22 saliency maps"):
        assert part in answer.err
    assert call("check", "shapes", "--quiet", cwd=chain.folder).err == ""
    assert call("check", cwd=chain.folder).err == answer.err  # the folder of mcis.toml


def test_findings_are_one_json_object(call, tmp_path):
    write_voc(tmp_path / "set")
    write(tmp_path / "set/SegmentationClass/b1.png", encode(photo(0)))  # RGB
    write(tmp_path / "set/SegmentationClass/b2.png", encode(np.full((6, 9), 77, np.uint8)))  # out of range
    write(tmp_path / "set/JPEGImages/a1.png", b"no picture")
    answer = call("check", "set", "--json", cwd=tmp_path)
    assert answer.code == 7
    found = json.loads(answer.out)
    assert found["images"] == 5
    by_code = {one["code"]: one for one in found["findings"]}
    assert all(set(one) == {"severity", "code", "message", "ids"} for one in found["findings"])
    assert by_code["unreadable-image"]["ids"] == ["a1"]
    ids = {image_id for one in found["findings"] if one["severity"] == "error" for image_id in one["ids"]}
    assert {"a1", "b1", "b2"} <= ids
    assert answer.err.splitlines()[-1].startswith("mcis: error: ")
    assert "errors; the first: " in answer.err


def test_faults_are_lines_on_stderr_and_7(call, tmp_path):
    write_voc(tmp_path / "set")
    write(tmp_path / "set/SegmentationClass/b1.png", encode(mask_of("cat")[:, :5]))
    answer = call("check", "set", "--quiet", cwd=tmp_path)
    assert answer.code == 7
    assert answer.out == ""
    kinds = {line.split(":")[0] for line in answer.err.splitlines()}
    assert kinds <= {"error", "warning", "mcis"}
    assert "b1" in answer.err


def test_too_few_images_for_the_references_are_told(call, chain):
    answer = call("check", "shapes", "--refs", "40", cwd=chain.folder)
    assert answer.code == 0
    assert "too few images in 'train' for 40 references each" in answer.err


def test_a_folder_without_images_is_7_and_a_missing_one_2(call, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = call("check", "empty", cwd=tmp_path)
    assert answer.code == 7
    assert "no image set in " in answer.err
    answer = call("check", "nowhere", cwd=tmp_path)
    assert answer.code == 2
    assert answer.err.startswith("mcis: error: nowhere does not exist")
    answer = call("check", cwd=tmp_path)
    assert answer.code == 2
    assert "no images are named" in answer.err


def test_names_from_data_are_never_markup(call, tmp_path):
    write_voc(tmp_path / "set")
    tags = tmp_path / "set/image_tags.txt"
    tags.write_text(tags.read_text().replace("bird", "[bold]bird[/bold]"))
    answer = call("check", "set", cwd=tmp_path)
    assert "[bold]bird[/bold]" in answer.err
    assert "\x1b" not in answer.err


@pytest.mark.parametrize("preset", PRESETS)
def test_init_writes_a_configuration_that_reads_back(call, tmp_path, preset):
    write_shapes(tmp_path / "shapes")
    answer = call("init", "shapes", "--preset", preset, cwd=tmp_path)
    assert answer.code == 0
    assert answer.lines == ["mcis.toml"]
    assert "layout voc, 22 images, 3 classes; train 16, trainval 22, val 6" in answer.err
    settings = resolve(read_toml(tmp_path / "mcis.toml"))
    assert settings.data.root == "shapes"
    assert (settings.data.train, settings.data.val) == ("train", "val")
    of_preset = resolve({}, preset)
    assert settings.pseudo.background == of_preset.pseudo.background
    for section in ("train_cls", "cams", "affinity", "pseudo", "train_seg"):
        assert getattr(settings, section) == getattr(of_preset, section)
    assert call("check", cwd=tmp_path).code == 0
    assert not sealed(tmp_path / ".mcis")


def test_init_says_what_an_own_folder_is_taken_for(call, tmp_path):
    for name in ("cat", "dog"):
        for number in range(2):
            write(tmp_path / f"photos/{name}/{number}.png", encode(photo(number)))
    answer = call("init", "photos", cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "layout folders, 4 images, 2 classes" in answer.err
    assert answer.err.splitlines() == [
        "photos: layout folders, 4 images, 2 classes; train 4",
        "classes: cat, dog",
        "learns from train, scored on train; ground truth: none, so `mcis run` ends with the network",
        "saliency maps: none, so the background comes from the maps alone (otsu); for better masks, first "
        "`mcis saliency photos -o photos/saliency`",
    ]
    settings = resolve(read_toml(tmp_path / "mcis.toml"))
    assert settings.pseudo.background == "otsu"
    assert settings.data.val == "train"


def test_init_takes_the_largest_list_where_none_is_called_train(call, tmp_path):
    write_voc(tmp_path / "set")
    lists = tmp_path / "set/ImageSets/Segmentation"
    (lists / "train.txt").rename(lists / "mine.txt")
    (lists / "val.txt").rename(lists / "few.txt")
    answer = call("init", "set", cwd=tmp_path)
    assert "learns from mine, scored on mine; ground truth: " in answer.err
    data = resolve(read_toml(tmp_path / "mcis.toml")).data
    assert (data.train, data.val) == ("mine", "mine")


@pytest.mark.parametrize("name", ["plain", 'it\'s "so"', "back\\slash", "ÄÖ 🦊", "tab\there", "del\x7f"])
def test_init_writes_any_folder_name(call, tmp_path, name):
    write_voc(tmp_path / name)
    assert call("init", name, cwd=tmp_path).code == 0
    assert read_toml(tmp_path / "mcis.toml")["data"]["root"] == name
    assert call("check", "-q", cwd=tmp_path).code == 0


def test_init_writes_a_table_for_each_source_of_further_images(call, tmp_path):
    write_shapes(tmp_path / "shapes")
    write_single_label(tmp_path / "goods", num_images=4, num_classes=len(CLASSES), size=(48, 64))
    write_web(tmp_path / "web", num_images=8, num_classes=len(CLASSES), size=(48, 64))
    (tmp_path / "goods/saliency").rename(tmp_path / "elsewhere")
    mistaken = call("init", "shapes", "--web", "nowhere", cwd=tmp_path)
    assert (mistaken.code, mistaken.out) == (2, "")
    assert "nowhere" in mistaken.err
    assert not (tmp_path / "mcis.toml").exists()
    flags = ("--single-label", "goods", "--web", "web/found.txt", "--list-tags", "first")
    answer = call("init", "shapes", *flags, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "layout voc, 22 images, 3 classes" in answer.err
    assert "further images to learn from: single-label 4, web 8\n" in answer.err
    assert "saliency maps: complete\n" in answer.err
    sources = [
        {"root": "goods", "domain": "single-label", "list_tags": "first"},
        {"root": "web/found.txt", "domain": "web", "list_tags": "first"},
    ]
    assert read_toml(tmp_path / "mcis.toml")["data"]["sources"] == sources
    assert "\n[[data.sources]]\nroot = " in (tmp_path / "mcis.toml").read_text()
    (tmp_path / "below").mkdir()
    by_file = call("check", cwd=tmp_path / "below")
    assert "34 images (target 22, single-label 4, web 8)" in by_file.err
    above = ("../shapes", "--single-label", "../goods", "--web", "../web/found.txt", "--list-tags", "first")
    assert by_file == call("check", *above, cwd=tmp_path / "below")


def test_init_takes_what_check_takes_and_writes_it(call, tmp_path):
    write_shapes(tmp_path / "shapes")
    (tmp_path / "shapes/image_tags.txt").rename(tmp_path / "shapes/mine.txt")
    (tmp_path / "shapes/saliency").rename(tmp_path / "elsewhere")
    mistaken = call("init", "shapes", "--tags", "mine.txt", "--saliency", "nowhere", cwd=tmp_path)
    assert (mistaken.code, mistaken.out) == (2, "")
    assert "no folder of saliency at " in mistaken.err
    assert not (tmp_path / "mcis.toml").exists()
    answer = call("init", "shapes", "--tags", "mine.txt", "--saliency", "elsewhere", cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert "saliency maps: complete\n" in answer.err
    found = read_toml(tmp_path / "mcis.toml")
    assert (found["data"]["tags"], found["data"]["saliency"]) == ("mine.txt", "../elsewhere")
    assert found["pseudo"]["background"] == "saliency"
    (tmp_path / "below").mkdir()
    assert "22 saliency maps" in call("check", cwd=tmp_path / "below").err


def test_init_writes_that_tags_are_those_of_the_masks(call, tmp_path):
    write_shapes(tmp_path / "shapes")
    (tmp_path / "shapes/image_tags.txt").unlink()
    (tmp_path / "shapes/classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    answer = call("init", "shapes", "--tags-from-masks", cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert read_toml(tmp_path / "mcis.toml")["data"]["tags_from_masks"] is True
    assert call("check", "-q", cwd=tmp_path).code == 0


def test_init_does_not_write_over_a_file_unless_told(call, tmp_path):
    write_voc(tmp_path / "set")
    (tmp_path / "mcis.toml").write_text("# mine\n")
    answer = call("init", "set", cwd=tmp_path)
    assert answer.code == 2
    assert answer.out == ""
    assert "mcis.toml already exists: give --force to overwrite it" in answer.err
    assert (tmp_path / "mcis.toml").read_text() == "# mine\n"
    assert call("init", "set", "--force", cwd=tmp_path).code == 0
    assert read_toml(tmp_path / "mcis.toml")["data"]["root"] == "set"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["."], "no image set in "),
        ([".", "--preset", "fast"], "preset 'fast' is not known"),
        ([], "Missing argument 'DATA'"),
        ([".", "--list-tags", "all"], "--list-tags is about the lists of --single-label and --web"),
    ],
)
def test_init_refuses_what_it_does_not_understand(call, tmp_path, arguments, part):
    answer = call("init", *arguments, cwd=tmp_path)
    assert answer.code == 2
    assert answer.out == ""
    assert part in answer.err
    assert not (tmp_path / "mcis.toml").exists()


def test_the_classes_of_the_set_are_those_of_its_masks(chain):
    mask = chain.folder / "shapes/SegmentationClass/val-0000.png"
    with Image.open(mask) as opened:
        assert set(np.unique(np.asarray(opened)).tolist()) <= {0, 255, *range(1, len(CLASSES) + 1)}


def test_looking_at_images_makes_no_store(call, tmp_path):
    write_shapes(tmp_path / "shapes")
    assert call("check", "shapes", cwd=tmp_path).code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"shapes"}
