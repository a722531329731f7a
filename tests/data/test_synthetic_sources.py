"""The shift of the drawn sources: single-label images in another style, wrong tags of the web as often as said."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcis_cli.config import DataConfig, SourceConfig
from mcis_cli.data.reading import read_catalogue
from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.data.synthetic.sources import write_single_label, write_web
from mcis_cli.errors import UsageError

SIZE = (48, 64)
CLASSES = ("disc", "star", "square")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_synthetic(folder / "set", num_train=12, num_val=2, num_classes=3, size=SIZE)
    write_single_label(folder / "single", num_images=12, num_classes=3, size=SIZE)
    write_web(folder / "web", num_images=20, num_classes=3, size=SIZE)
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("HSV"), dtype=np.float32) / 255


def test_they_are_read_as_sources_of_the_set(drawn: Path) -> None:
    sources = (
        SourceConfig(root=str(drawn / "single"), domain="single-label"),
        SourceConfig(root=str(drawn / "web/found.txt"), domain="web"),
    )
    catalogue = read_catalogue(DataConfig(root=str(drawn / "set"), sources=sources))
    assert catalogue.class_names == CLASSES
    assert Counter(entry.domain for entry in catalogue.entries) == {"target": 14, "single-label": 12, "web": 20}
    alone = [entry for entry in catalogue.entries if entry.domain == "single-label"]
    assert Counter(entry.labels for entry in alone) == {(0,): 4, (1,): 4, (2,): 4}
    assert all(entry.saliency is not None for entry in alone)
    assert catalogue.read_saliency(alone[0].id).mean() > 0.1


def test_single_label_images_have_another_style(drawn: Path) -> None:
    """A pale ground around, and a bold object in the middle, where the set has neither."""
    middle: dict[str, list[float]] = {"single": [], "set": []}
    border: dict[str, list[float]] = {"single": [], "set": []}
    for name, files in (("single", "*/*.jpg"), ("set", "JPEGImages/*.jpg")):
        for path in (drawn / name).glob(files):
            _, saturation, value = np.moveaxis(pixels(path), -1, 0)
            height, width = value.shape
            border[name].append(float(value[:4].mean()))
            middle[name].append(float(saturation[height // 3 : -height // 3, width // 3 : -width // 3].mean()))
    assert np.mean(border["single"]) > 0.75 > np.mean(border["set"]) + 0.1
    assert np.mean(middle["single"]) > np.mean(middle["set"]) + 0.15


@pytest.mark.parametrize("wrong", [0.0, 0.25, 0.5])
def test_a_share_of_the_tags_of_the_web_is_wrong(drawn: Path, tmp_path: Path, wrong: float) -> None:
    folder = drawn / "web" if wrong == 0.25 else tmp_path / "web"
    if wrong != 0.25:
        write_web(folder, num_images=20, num_classes=3, size=SIZE, wrong=wrong)
    found, right = ((folder / name).read_text().splitlines() for name in ("found.txt", "right.txt"))
    assert [line.split()[0] for line in found] == [line.split()[0] for line in right]
    assert sum(given != shown for given, shown in zip(found, right, strict=True)) == round(20 * wrong)


def test_the_same_seed_draws_the_same_files(drawn: Path, tmp_path: Path) -> None:
    write_web(tmp_path / "web", num_images=3, num_classes=3, size=SIZE, wrong=0, workers=2)
    write_single_label(tmp_path / "single", num_images=3, num_classes=3, size=SIZE, workers=2)
    for path in (tmp_path / "single").rglob("*.jpg"):
        assert path.read_bytes() == (drawn / "single" / path.relative_to(tmp_path / "single")).read_bytes()
    assert len(list((tmp_path / "web").rglob("*.jpg"))) == 3


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for write in (write_single_label, write_web):
        with pytest.raises(UsageError, match="found something there"):
            write(tmp_path, num_images=1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
