"""Votes of regions against a loop over pixels, and what holds for every one of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mcis_cli.maps.regions import of_labels, of_masks, vote

SHAPE = (4, 5)
scores = hnp.arrays(np.float32, (3, *SHAPE), elements=st.floats(-1, 1, width=32))
some_masks = hnp.arrays(bool, st.tuples(st.integers(0, 4), st.just(SHAPE[0]), st.just(SHAPE[1])))
some_labels = hnp.arrays(np.int32, SHAPE, elements=st.sampled_from([0, 0, 1, 3, 70_000]))


def vote_by_pixel(planes: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    voted = planes.astype(float)
    for plane, result in zip(planes.astype(float), voted, strict=True):
        for place in np.ndindex(*SHAPE):
            around = [mask for mask in masks if mask[place]]
            means = [sum(plane[other] for other in np.ndindex(*SHAPE) if mask[other]) / mask.sum() for mask in around]
            if means:
                result[place] = sum(means) / len(means)
    return voted


@given(scores, some_masks)
def test_a_pixel_gets_the_mean_over_its_regions_of_their_means(planes, masks):
    np.testing.assert_allclose(vote(planes, of_masks(masks)), vote_by_pixel(planes, list(masks)), atol=1e-6)


@given(scores, some_labels)
def test_pixels_of_one_label_are_a_region_and_those_of_label_0_keep_their_scores(planes, labels):
    masks = [labels == label for label in np.unique(labels) if label]
    voted = vote(planes, of_labels(labels))
    np.testing.assert_allclose(voted, vote_by_pixel(planes, masks), atol=1e-6)
    np.testing.assert_array_equal(voted[:, labels == 0], planes[:, labels == 0])


@given(scores, some_masks)
def test_probabilities_still_sum_to_one(planes, masks):
    odds = np.exp(planes)
    voted = vote(odds / odds.sum(axis=0), of_masks(masks))
    np.testing.assert_allclose(voted.sum(axis=0), 1, atol=1e-5)


@given(scores, some_labels, some_labels)
def test_the_regions_of_several_label_images_vote_together(planes, one, other):
    masks = [labels == label for labels in (one, other) for label in np.unique(labels) if label]
    np.testing.assert_allclose(vote(planes, of_labels(one, other)), vote_by_pixel(planes, masks), atol=1e-6)


def test_overlapping_regions_by_hand():
    planes = np.array([[[0, 6, 3, 9]]], np.float32)
    left, middle = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 0]]], bool)
    # The means are 3 and 4.5; the second pixel is in both, the last in none.
    assert vote(planes, of_masks([left, middle, middle & ~middle])).tolist() == [[[3, 3.75, 4.5, 9]]]


def test_an_image_without_maps_has_none_after_the_vote():
    assert vote(np.zeros((0, 2, 3), np.float32), of_labels(np.ones((2, 3), np.int32))).shape == (0, 2, 3)
