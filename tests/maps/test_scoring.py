"""Scores from counts against a loop over pixels, and against thresholding once for each threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from thresholded_maps import mask_over

from mcis_cli.errors import DataError
from mcis_cli.maps.metrics import at_threshold, count_pixels, scores, sweep, total_counts

NUM_CLASSES = 4
SHAPE = (5, 7)
label = st.sampled_from([0, 1, 2, 3, 255])
some_mask = hnp.arrays(np.uint8, SHAPE, elements=label)
THRESHOLDS = (0.1, 0.3, 0.5, 0.9)


def iou_by_pixel(pairs, num_classes=NUM_CLASSES):
    """IoU of each class over (prediction, target) pairs; a predicted 255 is right nowhere."""
    intersection, union = [0] * num_classes, [0] * num_classes
    for prediction, target in pairs:
        for guess, truth in zip(prediction.ravel().tolist(), target.ravel().tolist(), strict=True):
            if truth == 255:
                continue
            for k in range(num_classes):
                intersection[k] += guess == k and truth == k
                union[k] += k in (guess, truth)
    return [i / u if u else None for i, u in zip(intersection, union, strict=True)]


def score(pairs):
    return scores(total_counts(count_pixels(*pair) for pair in pairs)[0], NUM_CLASSES)


@given(st.lists(st.tuples(some_mask, some_mask), min_size=1, max_size=3))
def test_scores_of_masks_with_ignored_pixels_agree_with_a_loop_over_pixels(pairs):
    found, expected = score(pairs), iou_by_pixel(pairs)
    assert found["iou"] == pytest.approx(expected)
    known = [value for value in expected if value is not None]
    assert found["mean_iou"] == (pytest.approx(np.mean(known)) if known else None)


@given(some_mask, some_mask)
def test_covered_scores_are_those_on_the_pixels_that_take_a_side(prediction, target):
    found = score([(prediction, target)])
    expected = iou_by_pixel([(prediction, np.where(prediction == 255, 255, target).astype(np.uint8))])
    known = [value for value in expected if value is not None]
    assert found["mean_iou_covered"] == (pytest.approx(np.mean(known)) if known else None)
    counted = (target != 255).sum()
    taken = ((target != 255) & (prediction != 255)).sum()
    assert found["coverage"] == (pytest.approx(taken / counted) if counted else None)


@given(some_mask, some_mask, st.integers(0, 3))
def test_pixels_with_ignored_ground_truth_do_not_move_the_score(prediction, target, other):
    changed = np.where(target == 255, other, prediction).astype(np.uint8)
    assert score([(prediction, target)]) == score([(changed, target)])


def test_score_by_hand():
    # Two pixels of class 1, one of them found, one missed; three of background, all right: IoU 1/2 and 3/3.
    target = np.array([[0, 0, 0, 1, 1, 255]], dtype=np.uint8)
    prediction = np.array([[0, 0, 0, 1, 255, 2]], dtype=np.uint8)
    found = score([(prediction, target)])
    assert found["iou"] == [1.0, 0.5, None, None]
    assert found["mean_iou"] == 0.75
    assert found["mean_iou_covered"] == 1.0
    assert found["coverage"] == pytest.approx(4 / 5)


def test_counts_are_sorted_rows_that_sum_to_the_pixels_with_ground_truth():
    random = np.random.default_rng(0)
    prediction, target = random.choice([0, 1, 2, 255], (2, *SHAPE)).astype(np.uint8)
    level = random.integers(0, 5, SHAPE).astype(np.uint8)
    counts = count_pixels(prediction, target, level=level)
    assert counts.dtype == np.int64
    assert counts[:, 3].sum() == (target != 255).sum()
    assert counts[:, :3].tolist() == sorted(counts[:, :3].tolist())
    row = counts[3]
    assert ((level == row[0]) & (target == row[1]) & (prediction == row[2])).sum() == row[3]


def test_an_image_of_ignored_ground_truth_has_no_counts_and_no_score():
    target = np.full(SHAPE, 255, dtype=np.uint8)
    assert count_pixels(np.zeros_like(target), target).shape == (0, 4)
    found = score([(np.zeros_like(target), target)])
    assert found == {
        "mean_iou": None,
        "iou": [None] * NUM_CLASSES,
        "coverage": None,
        "mean_iou_covered": None,
    }


@given(hnp.arrays(np.float32, (2, *SHAPE), elements=st.sampled_from([0, 0.1, 0.3, 0.31, 0.5, 0.9, 1])), some_mask)
def test_one_count_of_levels_gives_the_score_at_every_threshold(maps, target):
    classes = (2, 0)
    winner = (np.array(classes)[maps.argmax(0)] + 1).astype(np.uint8)
    level = sum((maps.max(0) > np.float32(t)).astype(np.uint8) for t in THRESHOLDS)
    total = total_counts([count_pixels(winner, target, level=level)], len(THRESHOLDS) + 1)
    for index, found in enumerate(sweep(total, THRESHOLDS, NUM_CLASSES)):
        mask = mask_over(maps, classes, np.float32(THRESHOLDS[index]))
        assert found["threshold"] == THRESHOLDS[index]
        assert found["iou"] == pytest.approx(iou_by_pixel([(mask, target)]))


def test_thresholding_leaves_the_counts_as_they_were():
    total = np.arange(3 * 256 * 256, dtype=np.int64).reshape(3, 256, 256)
    before = total.copy()
    at_threshold(total, 0)
    scores(total[0], NUM_CLASSES)
    np.testing.assert_array_equal(total, before)


def test_masks_of_another_size_are_refused():
    with pytest.raises(DataError, match=r"differ in size: found \(5, 7\) and \(7, 5\).*mcis check"):
        count_pixels(np.zeros((5, 7), np.uint8), np.zeros((7, 5), np.uint8))
