from pathlib import Path

import numpy as np
import pytest
from image_sets import HEIGHT, WIDTH, encode, mask_of, photo, write, write_voc

from mcis_cli.config import DataConfig
from mcis_cli.data.check_pixels import check_pixels
from mcis_cli.data.layouts.listing import Finding
from mcis_cli.data.palette import write_mask_png
from mcis_cli.data.reading import read_catalogue


def findings(root: Path) -> list[Finding]:
    return list(check_pixels(read_catalogue(DataConfig(root=str(root)))))


def test_a_good_set_has_no_findings(tmp_path: Path) -> None:
    assert findings(write_voc(tmp_path)) == []


def test_an_image_that_is_cut_off_is_told(tmp_path: Path) -> None:
    write(write_voc(tmp_path) / "JPEGImages/a1.png", encode(photo(0))[:-40])
    (finding,) = findings(tmp_path)
    assert (finding.severity, finding.code, finding.ids) == ("error", "unreadable-image", ("a1",))
    assert "JPEGImages/a1.png: cannot be decoded" in finding.message


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (encode(photo(0)), "a mask with mode RGB"),
        (write_mask_png(np.full((HEIGHT, WIDTH), 4, np.uint8)), "mask value 4"),
        (write_mask_png(np.zeros((HEIGHT, WIDTH + 1), np.uint8)), "a mask of 10 x 6 pixels for an image of 9 x 6"),
        (b"no", "not a readable image"),
    ],
)
def test_masks_that_cannot_be_used_are_told(tmp_path: Path, content: bytes, match: str) -> None:
    write(write_voc(tmp_path) / "SegmentationClass/a1.png", content)
    (finding,) = findings(tmp_path)
    assert (finding.severity, finding.code, finding.ids) == ("error", "bad-mask", ("a1",))
    assert f"SegmentationClass/a1.png: {match}" in finding.message


def test_masks_that_disagree_with_the_tags_are_gathered(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    write(root / "SegmentationClass/a1.png", write_mask_png(mask_of("dog")))  # tagged cat
    write(root / "SegmentationClass/b2.png", write_mask_png(mask_of("")))  # tagged dog
    (finding,) = findings(root)
    assert (finding.severity, finding.code, finding.ids) == ("note", "tags-and-mask-differ", ("a1", "b2"))
    assert finding.message == (
        "tags and mask of 'a1' differ: in the mask only: dog; in the tags only: cat (and of 1 more)"
    )


def test_saliency_that_cannot_be_decoded_is_told(tmp_path: Path) -> None:
    write(write_voc(tmp_path) / "saliency/a1.png", b"no")
    (finding,) = findings(tmp_path)
    assert (finding.severity, finding.code) == ("error", "unreadable-saliency")


def test_saliency_of_other_proportions_is_a_warning_and_of_another_size_is_none(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    write(root / "saliency/a1.png", encode(np.zeros((HEIGHT * 2, WIDTH * 2), np.uint8)))
    assert findings(root) == []
    write(root / "saliency/a1.png", encode(np.zeros((WIDTH, HEIGHT), np.uint8)))
    (finding,) = findings(root)
    assert (finding.severity, finding.code, finding.ids) == ("warning", "saliency-size", ("a1",))
    assert "'saliency/a1.png' is 6 x 9 pixels for an image of 9 x 6" in finding.message
