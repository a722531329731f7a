"""The lineage of a result: whether it rests on saliency maps, and on which."""

from types import SimpleNamespace

import pytest

from mcis_cli.errors import MissingError
from mcis_cli.stages.plan.lineage import SALIENCY_GIVEN, SALIENCY_MADE, saliency_behind

MADE, IMPORTED, DIGEST = "a" * 64, "b" * 64, "c" * 64


def store_of(**artifacts):
    """A store of artifacts by the first digit of their id."""

    def get(content_id):
        if content_id[0] not in artifacts:
            raise MissingError(content_id)
        return artifacts[content_id[0]]

    return SimpleNamespace(get=get)


def made_by(stage, **inputs):
    return SimpleNamespace(stage=stage, inputs=inputs)


@pytest.mark.parametrize(
    ("saliency", "expected"),
    [
        ({"saliency": MADE}, SALIENCY_MADE),
        ({"saliency": IMPORTED}, SALIENCY_GIVEN),  # files of any origin
        ({"saliency": DIGEST}, SALIENCY_GIVEN),  # a folder of the image set
        ({}, ""),
    ],
)
@pytest.mark.parametrize("is_second_round", [False, True])
def test_scores_name_the_saliency_maps_that_their_masks_used(saliency, expected, is_second_round):
    masks = made_by("pseudo", maps="0" * 64, images=DIGEST, **saliency)
    second = made_by("pseudo", network="2" * 64, images=DIGEST) if is_second_round else masks
    store = store_of(
        **{"0": made_by("cams", classifier=DIGEST), "1": masks, "2": made_by("train-seg", masks="1" * 64)},
        **{"3": second, "4": made_by("train-seg", masks="3" * 64)},
        a=made_by("saliency", model=DIGEST, images=DIGEST),
        b=made_by("saliency", files=DIGEST, images=DIGEST),
    )
    assert saliency_behind(made_by("eval", artifact="4" * 64, images=DIGEST), store) == expected
    assert saliency_behind(made_by("eval", artifact="0" * 64, images=DIGEST), store) == ""  # maps use none
