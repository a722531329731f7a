from pathlib import Path

import pytest
from image_sets import encode, photo, write, write_voc

from mcis_cli.config import DataConfig
from mcis_cli.data.check import check, survey
from mcis_cli.data.layouts.listing import Finding


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "set")


def findings(root: Path, num_references: int = 0, **settings: object) -> dict[str, Finding]:
    """Findings by code, of a check without references where nothing else is said."""
    config = DataConfig(root=str(root), **settings)  # type: ignore[arg-type]
    return {finding.code: finding for finding in check(config, num_references=num_references, workers=0)}


def faults(root: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(f.severity, f.code, f.ids) for f in findings(root).values() if f.severity != "note"]


def test_a_good_set_has_notes_only(root: Path) -> None:
    found = findings(root)
    assert {finding.severity for finding in found.values()} == {"note"}
    assert found["layout"].message == f"layout voc, 6 images, tags from {root}/image_tags.txt"
    assert found["classes"].message == "3 classes: bird, cat, dog"
    assert found["splits"].message == "splits: train 4, val 2"
    assert found["companions"].message == "6 masks, 6 saliency maps"


def test_no_image_set_is_a_finding(tmp_path: Path) -> None:
    catalogue, (finding,) = survey(DataConfig(root=str(tmp_path)))
    assert catalogue is None
    assert (finding.severity, finding.code) == ("error", "no-image-set")


def test_errors_come_first(root: Path) -> None:
    write(root / "JPEGImages/a1.png", b"")
    (root / "saliency/a2.png").unlink()
    severities = [finding.severity for finding in check(DataConfig(root=str(root)))]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert severities[0] == "error"


def test_every_unreadable_image_is_told(root: Path) -> None:
    for name in ("a1", "b1"):
        write(root / f"JPEGImages/{name}.png", b"")
    told = [finding for finding in check(DataConfig(root=str(root))) if finding.code == "unreadable-image"]
    assert [finding.ids for finding in told] == [("a1",), ("b1",)]
    assert f"{root}/JPEGImages/a1.png: an empty file" in told[0].message


def test_ids_that_differ_by_case_only(root: Path) -> None:
    write(root / "JPEGImages/A1.png", encode(photo(50)))
    assert ("warning", "ids-alike", ("A1", "a1")) in faults(root)


def test_ids_that_differ_by_composition_only(root: Path) -> None:
    for seed, name in enumerate(("\u00e9", "e\u0301")):
        write(root / f"JPEGImages/{name}.png", encode(photo(50 + seed)))
    assert ("warning", "ids-alike", ("e\u0301", "\u00e9")) in faults(root)


@pytest.mark.parametrize(("name", "severity"), [("train", "error"), ("val", "error"), ("other", "warning")])
def test_lists_of_images_that_are_not_there(root: Path, name: str, severity: str) -> None:
    with (root / f"ImageSets/Segmentation/{name}.txt").open("a") as stream:
        stream.write("gone\n")
    assert (severity, "split-without-image", ("gone",)) in faults(root)


def test_images_in_both_splits(root: Path) -> None:
    write(root / "ImageSets/Segmentation/val.txt", "a1\nb1\n")
    assert ("error", "train-val-overlap", ("a1",)) in faults(root)
    assert "train-val-overlap" not in findings(root, val="train")


def test_the_same_content_in_both_splits(root: Path) -> None:
    write(root / "JPEGImages/b1.png", encode(photo(0)))  # a1's
    assert ("error", "train-val-same-content", ("a1", "b1")) in faults(root)
    assert ("warning", "same-content", ("a1", "b1")) in faults(root)


def test_the_same_content_in_one_split_is_no_leak(root: Path) -> None:
    write(root / "JPEGImages/a2.png", encode(photo(0)))
    assert faults(root) == [("warning", "same-content", ("a1", "a2"))]


def test_splits_that_are_not_there(root: Path) -> None:
    found = findings(root, train="learn", val="test")
    assert found["no-train"].severity == "error"
    assert found["no-train"].message == "no images in the split 'learn' (data.train); found train, val"
    assert found["no-val"].severity == "note"


def test_images_without_a_tag(root: Path) -> None:
    write(root / "classes.txt", "bird\ncat\ndog\n")
    write(root / "image_tags.txt", "a1 cat\na2 dog\nc1 bird\n")
    assert faults(root) == [("warning", "untagged", ("a3",))]
    write(root / "image_tags.txt", "")
    assert ("error", "untagged", ("a1", "a2", "a3", "c1")) in faults(root)


def test_unknown_tags(root: Path) -> None:
    write(root / "classes.txt", "cat\ndog\n")
    assert findings(root)["unknown-tag"].ids == ("c1",)


def test_classes_without_images_and_with_too_few_for_references(root: Path) -> None:
    write(root / "classes.txt", "bird\ncat\ndog\nfox\n")
    found = findings(root, num_references=1)
    assert found["class-without-image"].ids == ("fox",)
    # in train, bird has one image and no other to refer to; cat and dog have two
    assert found["few-references"].ids == ("bird",)
    assert findings(root, num_references=2)["few-references"].ids == ("bird", "cat", "dog")


def test_one_folder_of_all_photographs_is_no_class(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"images/{number}.png", encode(photo(number)))
    write(tmp_path / "tags.xlsx", b"")
    found = findings(tmp_path)["one-folder"]
    assert found.severity == "warning"
    assert found.message.startswith(
        "the folder 'images' is used as the tag of all 2 images; expected a folder for each"
    )
    write(tmp_path / "masts/2.png", encode(photo(2)))
    assert "one-folder" not in findings(tmp_path)


def test_a_rare_class_that_is_spelled_nearly_as_a_usual_one_is_told(tmp_path: Path) -> None:
    tags = ["horse", "horse;cat", "horse", "Cat", "cat", "hores", "car"]
    for number in range(len(tags)):
        write(tmp_path / f"{number}.png", encode(photo(number)))
    write(tmp_path / "tags.csv", "image,tags\n" + "".join(f"{n}.png,{tag}\n" for n, tag in enumerate(tags)))
    told = [f for f in check(DataConfig(root=str(tmp_path)), num_references=1, workers=0) if f.code == "class-alike"]
    assert [finding.ids for finding in told] == [("Cat", "cat"), ("hores", "horse")]  # a car is no cat
    assert told[1].message == (
        "class 'hores' (1 image) is spelled nearly as 'horse' (3); if both mean one thing, correct the tags"
    )


def test_missing_saliency_is_counted_and_named(root: Path) -> None:
    (root / "saliency/a2.png").unlink()
    found = findings(root)["no-saliency"]
    assert (found.severity, found.ids) == ("warning", ("a2",))
    assert found.message == "saliency missing for 1 image (the first is 'a2')"
    for file in (root / "saliency").iterdir():
        file.unlink()
    assert findings(root)["no-saliency"].severity == "note"


def test_missing_ground_truth_counts_in_val_only(root: Path) -> None:
    for name in ("a1", "b1"):
        (root / f"SegmentationClass/{name}.png").unlink()
    assert faults(root) == [("warning", "no-mask", ("b1",))]


def test_progress_is_told_to_the_end(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    check(DataConfig(root=str(root)), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 6) for done in range(1, 7)]
