from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_sets import HEIGHT, TAGS, WIDTH, encode, mask_of, photo, write, write_voc

from mcis_cli.config import DataConfig
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.palette import write_mask_png
from mcis_cli.data.reading import read_catalogue
from mcis_cli.data.records import SCHEMA, as_records, meta
from mcis_cli.errors import DataError


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return read_catalogue(DataConfig(root=str(write_voc(tmp_path / "set"))))


def test_entries_are_sorted_and_found_by_id(catalogue: Catalogue) -> None:
    assert catalogue.ids == tuple(sorted(TAGS))
    assert len(catalogue) == 6
    assert "a2" in catalogue
    assert "zz" not in catalogue
    assert catalogue["a2"].labels == (1, 2)
    assert (catalogue["a2"].height, catalogue["a2"].width) == (HEIGHT, WIDTH)


def test_counts_of_classes_with_and_without_background(catalogue: Catalogue) -> None:
    assert catalogue.class_names == ("bird", "cat", "dog")
    assert (catalogue.num_foreground, catalogue.num_classes) == (3, 4)


def test_carriers_are_the_images_with_a_class(catalogue: Catalogue) -> None:
    assert catalogue.carriers(1) == ("a1", "a2", "b1")
    assert catalogue.split("train").carriers(1) == ("a1", "a2")


def test_an_unknown_id_is_an_error(catalogue: Catalogue) -> None:
    with pytest.raises(DataError, match=r"no image 'zz' in .*set; found 6 others"):
        catalogue["zz"]


def test_a_split_holds_its_images_only(catalogue: Catalogue) -> None:
    val = catalogue.split("val")
    assert val.ids == ("b1", "b2")
    assert val.class_names == catalogue.class_names
    assert catalogue.split("all").entries is catalogue.entries
    assert (val.split_name, catalogue.split("all").split_name, catalogue.split_name) == ("val", "all", None)


def test_an_unknown_split_names_those_there_are(catalogue: Catalogue) -> None:
    with pytest.raises(DataError, match=r"no split 'test' in .*; found train, val, all"):
        catalogue.split("test")


def test_a_split_with_ids_without_image_is_refused_when_used(catalogue: Catalogue) -> None:
    torn = replace(catalogue, missing={"train": (), "val": ("gone",)})
    assert len(torn.split("train")) == 4
    with pytest.raises(DataError, match=r"'val' of .* lists images that do not exist: 1, the first is 'gone'"):
        torn.split("val")


def test_an_empty_split_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(DataError, match=r"the split 'test' of .* is empty"):
        replace(catalogue, missing={"test": ()}).split("test")


def test_only_keeps_the_ids_that_are_named(catalogue: Catalogue) -> None:
    assert catalogue.only(["c1", "a1", "c1"]).ids == ("a1", "c1")
    with pytest.raises(DataError, match="no image 'zz'"):
        catalogue.only(["zz"])


def test_pixels_are_read_on_demand(catalogue: Catalogue) -> None:
    assert np.array_equal(catalogue.read_image("a1"), photo(0))
    assert np.array_equal(catalogue.read_mask("a2"), mask_of("cat dog"))
    assert catalogue.read_saliency("a3") == pytest.approx(photo(2)[:, :, 0] / 255)


def test_saliency_comes_at_the_size_of_the_image(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    write(root / "saliency/a1.png", encode(np.full((3, 4), 255, np.uint8)))
    catalogue = read_catalogue(DataConfig(root=str(root)))
    assert catalogue.read_saliency("a1").shape == (HEIGHT, WIDTH)
    assert catalogue.read_saliency("a1", resize=False).shape == (3, 4)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("JPEGImages/a1.png", Catalogue.read_image),
        ("SegmentationClass/a1.png", Catalogue.read_mask),
        ("saliency/a1.png", Catalogue.read_saliency),
    ],
)
def test_a_file_that_changed_or_went_is_noticed(catalogue: Catalogue, path: str, read: object) -> None:
    write(catalogue.root / path, encode(photo(99)))
    with pytest.raises(DataError, match=rf"{path} has changed since it was listed"):
        read(catalogue, "a1")  # type: ignore[operator]
    (catalogue.root / path).unlink()
    with pytest.raises(DataError, match=rf"cannot read .*{path}: No such file"):
        read(catalogue, "a1")  # type: ignore[operator]


def test_reading_what_is_not_there_names_the_flag(catalogue: Catalogue) -> None:
    bare = replace(catalogue, entries=tuple(replace(e, mask=None, saliency=None) for e in catalogue.entries))
    with pytest.raises(DataError, match=r"no mask for image 'a1' .* --set data\.masks=FOLDER"):
        bare.read_mask("a1")
    with pytest.raises(DataError, match=r"no saliency map for image 'a1' .* --set data\.saliency=FOLDER"):
        bare.read_saliency("a1")


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        (np.full((HEIGHT, WIDTH), 4, np.uint8), r"mask value 4; expected 0 to 3 \(3 classes\) or 255"),
        (np.zeros((WIDTH, HEIGHT), np.uint8), "a mask of 6 x 9 pixels for an image of 9 x 6; expected equal sizes"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path: Path, mask: np.ndarray, match: str) -> None:
    root = write_voc(tmp_path)
    write(root / "SegmentationClass/a1.png", write_mask_png(mask))
    with pytest.raises(DataError, match=rf"SegmentationClass/a1\.png: {match}"):
        read_catalogue(DataConfig(root=str(root))).read_mask("a1")


def test_moving_a_set_does_not_change_its_identity(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.root.rename(tmp_path / "elsewhere")
    assert read_catalogue(DataConfig(root=str(tmp_path / "elsewhere"))).id == catalogue.id


def test_a_digest_depends_on_the_asked_parts_only(catalogue: Catalogue) -> None:
    first, *rest = catalogue.entries
    changes = {
        "images": replace(first, digest="0" * 64),
        "labels": replace(first, labels=(0,)),
        "masks": replace(first, mask_digest="0" * 64),
        "saliency": replace(first, saliency_digest="0" * 64),
        "splits": replace(first, splits=frozenset({"val"})),
    }
    for changed, entry in changes.items():
        other = replace(catalogue, entries=(entry, *rest))
        assert other.id != catalogue.id
        for part in changes:
            assert (other.digest(part) != catalogue.digest(part)) == (part == changed)  # type: ignore[arg-type]


def test_class_names_count_with_labels_and_masks(catalogue: Catalogue) -> None:
    renamed = replace(catalogue, class_names=("bird", "cat", "fox"))
    assert renamed.digest("images", "saliency") == catalogue.digest("images", "saliency")
    assert renamed.digest("labels") != catalogue.digest("labels")
    assert renamed.digest("masks") != catalogue.digest("masks")


def test_a_digest_does_not_depend_on_the_order_of_parts(catalogue: Catalogue) -> None:
    assert catalogue.digest("labels", "images") == catalogue.digest("images", "labels")


def test_records_follow_the_schema(catalogue: Catalogue) -> None:
    bare = replace(catalogue.entries[0], mask_digest=None)
    records = list(as_records(replace(catalogue, entries=(bare, *catalogue.entries[1:]))))
    assert [image_id for image_id, _ in records] == list(catalogue.ids)
    for _, fields in records:
        assert {name: (str(values.dtype), values.ndim) for name, values in fields.items()} == SCHEMA
    fields = records[0][1]
    assert fields["digest"].tobytes().hex() == catalogue["a1"].digest
    assert fields["size"].tolist() == [HEIGHT, WIDTH]
    assert fields["labels"].tolist() == [1]
    assert fields["splits"].tobytes() == b"train"
    assert fields["mask_digest"].size == 0


def test_meta_counts(catalogue: Catalogue) -> None:
    assert meta(catalogue) == {
        "class_names": ["bird", "cat", "dog"],
        "num_images": 6,
        "num_masks": 6,
        "num_saliency": 6,
        "splits": {"train": 4, "val": 2},
    }
