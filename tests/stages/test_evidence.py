"""Masks that a network is about to learn from, or to be scored by, are compared with the tags of their images."""

import numpy as np
import pytest
from PIL import Image
from tiny_chain import Heard, options

from mcis_cli.data.palette import write_mask_png
from mcis_cli.errors import DataError
from mcis_cli.stages.engine.evidence import heed_made_masks
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.train_seg import run as train_seg


@pytest.mark.parametrize(
    ("mask_of", "is_told"),
    [
        (lambda entry: entry.labels[0] + 1, False),
        (lambda entry: 0, True),
        (lambda entry: 255, True),
        (lambda entry: (entry.labels[0] + 1) * (int(entry.id[-1]) % 2), False),  # half of them
        (lambda entry: next(k for k in range(4) if k - 1 not in entry.labels), True),  # of other classes
    ],
)
def test_masks_without_the_tags_of_most_images_are_told(chain, mask_of, is_told):
    images, heard = chain.images().split("train"), Heard()
    heed_made_masks("pseudo masks", images, lambda i: np.full((4, 6), mask_of(images[i]), np.uint8), heard)
    if is_told:
        (warning,) = heard.warnings
        assert warning.startswith(f"{len(images)} of {len(images)} pseudo masks that were checked have no pixel of")
        assert "(first 'train-0000')" in warning
    else:
        assert not heard.warnings


def blank(chain, *values):
    """The ground truth with background in place of some classes."""
    for file in sorted((chain.folder / "shapes/SegmentationClass").iterdir()):
        with Image.open(file) as image:
            mask = np.array(image)
        mask[np.isin(mask, values)] = 0
        file.write_bytes(write_mask_png(mask))


def test_a_class_in_no_mask_is_not_scored_and_not_learned(chain_copy):
    blank(chain_copy, 3)
    settings, heard = chain_copy.settings(train_seg={"supervision": "full"}), Heard()
    inputs = Inputs(upstream=chain_copy.made["pseudo"], data=chain_copy.data)
    evaluate.run(settings.eval, inputs, chain_copy.store, options(reporter=heard))
    assert "1 class in tags and in no mask of split 'train': 'square'; they are not scored" in heard.warnings
    with pytest.raises(DataError, match="'square'; expected pixels of them; correct the masks"):
        train_seg.run(settings.train_seg, Inputs(data=chain_copy.data), chain_copy.store, options())


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "--min-miou", "0.01", "--split", "val"),
        ("train-seg", "--supervision", "full", "--data", "shapes"),
        ("init", "shapes", "--force"),
        ("check", "shapes"),
    ],
)
def test_masks_of_background_alone_are_refused(call, chain_copy, command):
    blank(chain_copy, 1, 2, 3)
    answer = call(*command, cwd=chain_copy.folder)
    assert answer.code == (7 if command[0] == "check" else 2)
    assert answer.out == ""
    assert "tags and masks disagree in" in answer.err
