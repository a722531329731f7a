"""The synthetic set: the VOC layout on disk, tags that agree with masks, everything fixed by the seed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcis_cli.data.synthetic import image_set
from mcis_cli.data.synthetic.image_set import IGNORE_INDEX, Placement, draw_scene, gap, hsv, write_synthetic
from mcis_cli.data.synthetic.shapes import kinds
from mcis_cli.errors import UsageError

SIZE = (48, 64)


def write(root: Path, num_train: int = 5, num_val: int = 2, seed: int = 0, workers: int = 0) -> Path:
    write_synthetic(root, num_train=num_train, num_val=num_val, num_classes=4, size=SIZE, seed=seed, workers=workers)
    return root


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("synthetic") / "shapes")


def test_files_are_those_of_the_voc_layout(dataset: Path) -> None:
    ids = [f"train-{number:04d}" for number in range(5)] + ["val-0000", "val-0001"]
    lists = [f"ImageSets/Segmentation/{split}.txt" for split in ("train", "val", "trainval")]
    expected = {"classes.txt", "image_tags.txt", *lists}
    expected |= {f"JPEGImages/{i}.jpg" for i in ids}
    expected |= {f"{folder}/{i}.png" for i in ids for folder in ("SegmentationClass", "saliency")}
    assert set(files_of(dataset)) == expected
    assert [(dataset / path).read_text().split() for path in lists] == [ids[:5], ids[5:], ids]
    assert (dataset / "classes.txt").read_text().split() == ["background", "disc", "star", "square", "ring"]


def test_sizes_agree_and_masks_keep_indices(dataset: Path) -> None:
    sizes = set()
    for path in (dataset / "JPEGImages").iterdir():
        companions = [dataset / folder / f"{path.stem}.png" for folder in ("SegmentationClass", "saliency")]
        with Image.open(path) as image, Image.open(companions[0]) as mask, Image.open(companions[1]) as saliency:
            assert (image.mode, mask.mode, saliency.mode) == ("RGB", "P", "L")
            assert image.size == mask.size == saliency.size
            assert set(np.unique(np.asarray(mask))) <= {0, 1, 2, 3, 4, IGNORE_INDEX}
            sizes.add(image.size)
    assert len(sizes) > 3
    assert all(SIZE[0] <= side <= SIZE[1] for size in sizes for side in size)


def test_tags_are_the_classes_of_the_mask(dataset: Path) -> None:
    names = (dataset / "classes.txt").read_text().split()
    for line in (dataset / "image_tags.txt").read_text().splitlines():
        image_id, *tags = line.split()
        with Image.open(dataset / "SegmentationClass" / f"{image_id}.png") as mask:
            values = set(np.unique(np.asarray(mask)))
        assert tags == [names[value] for value in sorted(values - {0, IGNORE_INDEX})]
        assert 1 <= len(tags) <= 3


def test_larger_set_begins_with_the_smaller_and_workers_change_nothing(dataset: Path, tmp_path: Path) -> None:
    smaller, larger = files_of(dataset), files_of(write(tmp_path / "larger", num_train=7, num_val=3, workers=2))
    pictures = {path for path in smaller if not path.endswith(".txt")}
    assert len(pictures) == 21
    assert all(larger[path] == smaller[path] for path in pictures)


def test_other_seed_gives_other_images(dataset: Path, tmp_path: Path) -> None:
    other = files_of(write(tmp_path / "other", num_train=1, num_val=0, seed=1))
    assert other["JPEGImages/train-0000.jpg"] != files_of(dataset)["JPEGImages/train-0000.jpg"]


def test_every_class_is_seen_whole_and_about_equally_often() -> None:
    scenes = [draw_scene(3, kinds(6), SIZE, f"x-{number}") for number in range(80)]
    counts = np.bincount([k for scene in scenes for k in scene.labels], minlength=6)
    assert counts.min() > 12  # 80 images of 1.95 classes in the mean: 26 for each class, deviation about 4
    for scene in scenes:
        for k in scene.labels:
            assert (scene.mask == k + 1).sum() > 20


def test_saliency_tells_things_from_ground_but_not_without_fault() -> None:
    scenes = [draw_scene(3, kinds(6), (96, 128), f"x-{number}") for number in range(30)]
    on_objects = np.concatenate([scene.saliency[(scene.mask > 0) & (scene.mask < IGNORE_INDEX)] for scene in scenes])
    on_ground = np.concatenate([scene.saliency[scene.mask == 0] for scene in scenes])
    assert on_ground.mean() < 40 < 150 < on_objects.mean()
    assert 0.02 < (on_objects < 100).mean() < 0.3
    assert (on_ground > 60).mean() > 0.005


@pytest.mark.slow
def test_colors_of_the_body_do_not_tell_the_class() -> None:
    scenes = [draw_scene(3, kinds(3), (64, 80), f"x-{number}") for number in range(120)]
    means = [[scene.image[scene.mask == k + 1].mean(axis=0) for scene in scenes if k in scene.labels] for k in range(3)]
    centers, spread = [np.mean(colors, axis=0) for colors in means], np.std(np.concatenate(means), axis=0)
    assert (np.ptp(centers, axis=0) < spread).all()


def test_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="found something there, expected nothing or an empty folder; give another"):
        write(tmp_path)
    with pytest.raises(UsageError, match="cannot write the synthetic set"):
        write(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_interrupted_writing_leaves_no_set_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_set, "write_scene", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "shapes")
    assert not (tmp_path / "shapes").exists()
    (tmp_path / "shapes").mkdir()
    write(tmp_path / "shapes", num_train=1, num_val=0)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_colors_of_the_wheel() -> None:
    np.testing.assert_allclose(hsv(0, 1, 1), [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(hsv(1 / 3, 1, 0.5), [0, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(hsv(0.7, 0, 0.4), [0.4, 0.4, 0.4], atol=1e-12)


def test_gap_is_negative_where_things_overlap() -> None:
    here, near, far = (Placement(10, column, 5, 0, 1) for column in (10.0, 14.0, 30.0))
    assert gap(here, near) < 0 < gap(here, far)
