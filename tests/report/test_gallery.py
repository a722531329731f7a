"""A picture of what the stages made: one row for each image, and a legend."""

import numpy as np
from PIL import Image

from mcis_cli.report.gallery import stage_gallery


def gallery(chain, ids, **parts):
    given = {"maps": {}, "masks": {}, "predictions": {}, **parts}
    return stage_gallery(chain.images(), ids, **given)


def test_each_image_has_a_row_with_all_that_was_asked_for(chain):
    ids = chain.made["pseudo"].ids[:2]
    predictions = {i: np.ones((chain.images()[i].height, chain.images()[i].width), np.uint8) for i in ids}
    parts = {
        "maps": {"full": chain.made["cams"]},
        "masks": {"pseudo mask": chain.made["pseudo"]},
        "predictions": {"network": predictions},
    }
    wide = gallery(chain, ids, **parts)
    assert isinstance(wide, Image.Image)
    assert wide.mode == "RGB"
    narrow = gallery(chain, ids)
    assert wide.width > narrow.width  # photograph and ground truth alone
    assert gallery(chain, ids[:1], **parts).height < wide.height


def test_the_pictures_of_the_images_differ(chain):
    first, second = chain.made["pseudo"].ids[:2]
    pixels = [np.asarray(gallery(chain, [image_id])) for image_id in (first, second)]
    assert pixels[0].shape != pixels[1].shape or (pixels[0] != pixels[1]).any()


def test_images_without_ground_truth_are_shown_without(chain_copy):
    image_id = chain_copy.made["pseudo"].ids[0]
    with_mask = gallery(chain_copy, [image_id], masks={"pseudo mask": chain_copy.made["pseudo"]})
    (chain_copy.folder / f"shapes/SegmentationClass/{image_id}.png").unlink()
    without = gallery(chain_copy, [image_id], masks={"pseudo mask": chain_copy.made["pseudo"]})
    assert without.width < with_mask.width
