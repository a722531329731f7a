"""An image of the results of the stages: one row for each image, and a legend."""

import io

import numpy as np
import pytest
from PIL import Image

from mcis_cli.report.gallery import panel, stage_gallery


def gallery(chain, ids, **parts):
    given = {"maps": {}, "masks": {}, "predictions": {}, **parts}
    return Image.open(io.BytesIO(stage_gallery(chain.images(), ids, **given)))


@pytest.mark.slow
def test_each_image_has_a_row_with_all_that_was_asked_for(chain):
    ids = chain.made["pseudo"].ids[:2]
    predictions = {i: np.ones((chain.images()[i].height, chain.images()[i].width), np.uint8) for i in ids}
    parts = {
        "maps": {"full": chain.made["cams"]},
        "masks": {"pseudo mask": chain.made["pseudo"]},
        "predictions": {"network": predictions},
    }
    wide = gallery(chain, ids, **parts)
    narrow = gallery(chain, ids)
    assert wide.width > narrow.width  # photograph and ground truth alone
    assert gallery(chain, ids[:1], **parts).height < wide.height


def test_the_pictures_of_the_images_differ(chain):
    first, second = chain.made["pseudo"].ids[:2]
    pixels = [np.asarray(gallery(chain, [image_id]).convert("RGB")) for image_id in (first, second)]
    assert pixels[0].shape != pixels[1].shape or (pixels[0] != pixels[1]).any()


def test_images_without_ground_truth_are_shown_without(chain_copy):
    image_id = chain_copy.made["pseudo"].ids[0]
    with_mask = gallery(chain_copy, [image_id], masks={"pseudo mask": chain_copy.made["pseudo"]})
    (chain_copy.folder / f"shapes/SegmentationClass/{image_id}.png").unlink()
    without = gallery(chain_copy, [image_id], masks={"pseudo mask": chain_copy.made["pseudo"]})
    assert without.width < with_mask.width


def drawn(images, captions, **more):
    return Image.open(io.BytesIO(panel(images, captions, columns=2, **more))).convert("RGB")


PHOTO = np.full((30, 40, 3), 100, np.uint8)


def test_the_same_panel_has_the_same_bytes():
    panels = [panel([PHOTO] * 3, ["a", "b", "c"], columns=2, legend=[("cat", (200, 30, 30))]) for _ in range(2)]
    assert panels[0] == panels[1]


def test_a_legend_has_the_colours_and_makes_a_panel_higher():
    bare, told = drawn([PHOTO], ["x"]), drawn([PHOTO], ["x"], legend=[(f"class {n}", (200, 30, 30)) for n in range(30)])
    assert told.height > bare.height
    assert told.width == bare.width
    assert (200, 30, 30) in set(told.get_flattened_data())


@pytest.mark.parametrize("name", ["caption " * 50, "W" * 500, "$x_{", "_hidden", "犬", "a\x00\n b", "<b>&"])
def test_any_name_is_drawn_and_none_makes_a_panel_wider(name, recwarn):
    plain = drawn([PHOTO], ["x"], legend=[("x", (200, 30, 30))])
    assert drawn([PHOTO], [name], legend=[(name, (200, 30, 30))]).size == plain.size
    assert not recwarn


def test_captions_are_as_many_as_pictures():
    with pytest.raises(AssertionError, match="1 captions for 2 images"):
        panel([PHOTO] * 2, ["one"], columns=2)
