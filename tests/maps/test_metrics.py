"""Mean IoU against counting by hand, a loop over pixels, and torchmetrics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mcis_cli.errors import DataError
from mcis_cli.maps.metrics import ConfusionMatrix

NUM_CLASSES = 4
SHAPE = (5, 7)
predictions = hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, NUM_CLASSES - 1))
targets = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([*range(NUM_CLASSES), 255]))


def counted(prediction: np.ndarray, target: np.ndarray) -> ConfusionMatrix:
    confusion = ConfusionMatrix(NUM_CLASSES)
    confusion.update(prediction, target)
    return confusion


def iou_by_pixel(prediction: np.ndarray, target: np.ndarray) -> list[float]:
    result = []
    for index in range(NUM_CLASSES):
        intersection = union = 0
        for row in range(target.shape[0]):
            for column in range(target.shape[1]):
                if target[row, column] == 255:
                    continue
                is_predicted, is_true = prediction[row, column] == index, target[row, column] == index
                intersection += int(is_predicted and is_true)
                union += int(is_predicted or is_true)
        result.append(intersection / union if union else math.nan)
    return result


def test_iou_of_a_case_counted_by_hand():
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([[0, 0, 1], [1, 1, 0]]), np.array([[0, 1, 1], [1, 255, 0]]))
    # Class 0: two right, one predicted in vain. Class 1: two right, one missed. Class 2 is nowhere.
    np.testing.assert_array_equal(confusion.iou(), [2 / 3, 2 / 3, np.nan])
    assert confusion.mean_iou() == pytest.approx(2 / 3)
    np.testing.assert_array_equal(confusion.matrix, [[2, 0, 0], [1, 2, 0], [0, 0, 0]])


@given(predictions, targets)
def test_iou_agrees_with_a_loop_over_pixels(prediction, target):
    np.testing.assert_array_equal(counted(prediction, target).iou(), iou_by_pixel(prediction, target))


@pytest.mark.slow
def test_iou_agrees_with_torchmetrics():
    torch = pytest.importorskip("torch")
    from torchmetrics.classification import MulticlassJaccardIndex

    random = np.random.default_rng(3)
    target = random.choice([*range(NUM_CLASSES), 255], (40, 30))
    prediction = np.where(random.random((40, 30)) < 0.6, target % 255, random.integers(0, NUM_CLASSES, (40, 30)))
    theirs = MulticlassJaccardIndex(NUM_CLASSES, average="none", ignore_index=255)
    expected = theirs(torch.from_numpy(prediction)[None], torch.from_numpy(target)[None])
    np.testing.assert_allclose(counted(prediction, target).iou(), expected, rtol=1e-6)


@given(predictions, predictions, targets)
def test_ignored_pixels_do_not_move_the_iou(prediction, other, target):
    changed = np.where(target == 255, other, prediction)
    np.testing.assert_array_equal(counted(prediction, target).matrix, counted(changed, target).matrix)


@given(predictions)
def test_a_perfect_prediction_scores_one(target):
    assert counted(target, target).mean_iou() == 1


@given(predictions, targets)
def test_the_order_and_the_cutting_of_images_do_not_matter(prediction, target):
    halves = ConfusionMatrix(NUM_CLASSES)
    halves.update(prediction[2:], target[2:])
    halves.update(prediction[:2], target[:2])
    merged = counted(prediction[:2], target[:2])
    merged.merge(counted(prediction[2:], target[2:]))
    summed = counted(prediction[:2], target[:2]) + counted(prediction[2:], target[2:])
    for confusion in (halves, merged, summed):
        np.testing.assert_array_equal(confusion.matrix, counted(prediction, target).matrix)


def test_adding_leaves_both_matrices_as_they_were():
    one = counted(np.zeros(SHAPE, int), np.zeros(SHAPE, int))
    total = one + one
    one.update(np.zeros(SHAPE, int), np.zeros(SHAPE, int))
    assert total.matrix[0, 0] == one.matrix[0, 0] == 70
    one.merge(total)
    assert total.matrix[0, 0] == 70


def test_nothing_counted_has_no_mean_iou():
    assert math.isnan(ConfusionMatrix(3).mean_iou())
    assert math.isnan(counted(np.zeros(SHAPE, int), np.full(SHAPE, 255)).mean_iou())


def test_a_prediction_may_hold_anything_where_the_target_is_ignored():
    assert counted(np.full(SHAPE, 255), np.full(SHAPE, 255)).matrix.sum() == 0


def test_masks_of_different_sizes_are_refused():
    with pytest.raises(DataError, match=r"differ in size: found 5×7 and 7×5, expected equal sizes; .*mcis check"):
        counted(np.zeros((5, 7), int), np.zeros((7, 5), int))


def test_a_target_out_of_range_is_refused():
    target = np.zeros(SHAPE, np.uint8)
    target[0, 0] = 9
    with pytest.raises(DataError, match=r"ground truth holds a value that is no class: found 9 .*0 to 3 or 255"):
        counted(np.zeros(SHAPE, int), target)


@pytest.mark.parametrize("value", [-1, 4, 255])
def test_a_prediction_out_of_range_is_refused_and_not_counted(value):
    confusion = ConfusionMatrix(NUM_CLASSES)
    with pytest.raises(DataError, match=rf"prediction holds a value that is no class: found {value} .*0 to 3;"):
        confusion.update(np.full(SHAPE, value), np.zeros(SHAPE, int))
    assert confusion.matrix.sum() == 0


def test_matrices_of_different_classes_do_not_merge():
    with pytest.raises(AssertionError, match="different classes"):
        ConfusionMatrix(3).merge(ConfusionMatrix(4))


def test_lists_and_tensors_count_as_arrays_do():
    torch = pytest.importorskip("torch")
    prediction, target = [[0, 1, 2]], [[0, 1, 255]]
    from_tensors = ConfusionMatrix(NUM_CLASSES)
    from_tensors.update(torch.tensor(prediction), torch.tensor(target, dtype=torch.uint8))
    np.testing.assert_array_equal(counted(np.array(prediction), np.array(target)).matrix, from_tensors.matrix)
    np.testing.assert_array_equal(counted(prediction, target).matrix, from_tensors.matrix)


@pytest.mark.parametrize("side", ["prediction", "target"])
def test_scores_in_place_of_indices_are_refused(side):
    """0.9 would count as class 0."""
    masks = {"prediction": np.array([[0, 1]]), "target": np.array([[0, 1]]), side: np.array([[0.2, 0.9]])}
    with pytest.raises(DataError, match="holds float64, expected integers"):
        counted(**masks)
