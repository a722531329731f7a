"""Pseudo masks against a loop over pixels, and what holds for every one of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mcis_cli.config import PseudoConfig
from mcis_cli.maps.pseudo import (
    agreement,
    fuse_constant,
    fuse_power,
    fuse_saliency,
    is_ignored,
    mask_of_probabilities,
    otsu_threshold,
    power_background,
    salient_background,
    soft_scores,
    with_own_background,
)

RULES = {
    name: getattr(PseudoConfig(), name)
    for name in (
        "foreground_threshold",
        "conflict_threshold",
        "salient_threshold",
        "confident_threshold",
        "min_foreground",
    )
}
CLASSES = (6, 0, 13)
SHAPE = (4, 5)
MISFIT = (AssertionError, TypeError)  # the latter where shapes are checked at run time
# Values at and around the thresholds come up far more often than by chance.
score = st.sampled_from([0, 0.1, 0.29, 0.3, 0.31, 0.5, 0.7, 0.9, 0.95, 0.96, 0.99, 0.995, 1]) | st.floats(0, 1)
some_maps = hnp.arrays(np.float64, (3, *SHAPE), elements=score)
grey = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 2, 31, 32, 33, 128, 255]) | st.integers(0, 255))


def fuse_by_pixel(maps: np.ndarray, classes: tuple[int, ...], saliency: np.ndarray, rules: dict) -> np.ndarray:
    height, width = saliency.shape
    mask = np.zeros((height, width), int)
    num_foreground_pixels = 0
    for row in range(height):
        for column in range(width):
            scores = [1 - saliency[row, column]] + [plane[row, column] for plane in maps]
            scores = [0 if value < rules["foreground_threshold"] else value for value in scores]
            winner = scores.index(max(scores))
            value = classes[winner - 1] + 1 if winner else 0
            if sum(score > rules["conflict_threshold"] for score in scores) >= 2:
                value = 255
            if value == 0 and saliency[row, column] >= rules["salient_threshold"]:
                value = 255
            if value == 0 and any(plane[row, column] > rules["confident_threshold"] for plane in maps):
                value = 255
            num_foreground_pixels += value not in (0, 255)
            mask[row, column] = value
    if num_foreground_pixels / (height * width) < rules["min_foreground"]:
        mask[:] = 255
    return mask


@given(some_maps, grey, st.sampled_from([0.0, 0.01, 0.3, 1.0]))
def test_fuse_saliency_agrees_with_a_loop_over_pixels(maps, grey_levels, min_foreground):
    saliency, rules = grey_levels / 255, RULES | {"min_foreground": min_foreground}
    mask = fuse_saliency(maps, CLASSES, saliency, **rules)
    np.testing.assert_array_equal(mask, fuse_by_pixel(maps, CLASSES, saliency, rules))


@given(some_maps, grey)
def test_fuse_saliency_holds_given_classes_background_and_ignored_only(maps, grey_levels):
    mask = fuse_saliency(maps, CLASSES, grey_levels / 255, **RULES)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 255, 7, 1, 14}


@given(some_maps, grey)
def test_fusing_leaves_its_arguments_as_they_are(maps, grey_levels):
    saliency = grey_levels / 255
    kept = maps.copy(), saliency.copy()
    fuse_saliency(maps, CLASSES, saliency, **RULES)
    fuse_constant(maps, CLASSES, background_score=0.2)
    fuse_power(maps, CLASSES, background_power=4.0)
    np.testing.assert_array_equal(maps, kept[0])
    np.testing.assert_array_equal(saliency, kept[1])


@given(some_maps, grey, st.permutations(range(3)))
def test_the_order_of_classes_matters_only_where_maps_are_equal(maps, grey_levels, order):
    maps += np.arange(3)[:, None, None] * 1e-9
    shuffled = fuse_saliency(maps[order], [CLASSES[i] for i in order], grey_levels / 255, **RULES)
    np.testing.assert_array_equal(shuffled, fuse_saliency(maps, CLASSES, grey_levels / 255, **RULES))


@pytest.mark.parametrize(
    ("maps", "saliency", "value"),
    [
        ((0.8, 0.5), 0.9, 4),  # the stronger class
        ((0.0, 0.0), 0.0, 0),  # nothing but background
        ((0.29, 0.0), 0.9, 255),  # no score is left, so background; but salient
        ((1.0, 1.0), 0.9, 255),  # two classes are certain
        ((1.0, 0.0), 0.0, 255),  # background and a class are certain
        ((0.0, 0.0), 32 / 255, 255),  # background wins where it is just salient
        ((0.0, 0.0), 31 / 255, 0),
        ((0.96, 0.0), 0.03, 255),  # background wins over a confident class
        ((0.94, 0.0), 0.03, 0),
        ((0.5, 0.0), 0.5, 255),  # background wins of equal scores, and is salient
    ],
)
def test_rules_of_the_released_code_at_one_pixel(maps, saliency, value):
    rules = RULES | {"min_foreground": 0.0}
    for precision in (np.float32, np.float64):
        planes = np.array(maps, dtype=precision).reshape(2, 1, 1)
        mask = fuse_saliency(planes, [3, 8], np.full((1, 1), saliency, dtype=precision), **rules)
        assert mask.item() == value


def test_saliency_in_single_precision_meets_its_threshold_at_32():
    levels = np.arange(256, dtype=np.float32).reshape(1, 256) / np.float32(255)
    mask = fuse_saliency(np.zeros((1, 1, 256)), [0], levels, **RULES | {"min_foreground": 0.0})
    np.testing.assert_array_equal(mask[0] == 255, np.arange(256) >= 32)


def test_an_image_with_hardly_any_foreground_is_ignored_as_a_whole():
    maps = np.zeros((1, 10, 20), np.float32)
    saliency = np.zeros((10, 20), np.float32)
    maps[0, 0, 0], saliency[0, 0] = 0.9, 1
    assert is_ignored(fuse_saliency(maps, [2], saliency, **RULES))
    maps[0, 0, 1], saliency[0, 1] = 0.9, 1  # two of 200 pixels are the one per cent
    mask = fuse_saliency(maps, [2], saliency, **RULES)
    assert not is_ignored(mask)
    assert (mask == 3).sum() == 2


def test_an_image_without_classes_is_ignored_with_saliency_and_background_without():
    nothing = np.zeros((0, 2, 3), np.float32)
    assert is_ignored(fuse_saliency(nothing, [], np.zeros((2, 3), np.float32), **RULES))
    assert not fuse_constant(nothing, [], background_score=0.2).any()
    assert not fuse_power(nothing, [], background_power=4.0).any()


@given(some_maps, st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from([0.5, 1.0, 4.0]))
def test_fusing_by_a_constant_or_a_power_agrees_with_loops_over_pixels(maps, score, power):
    by_constant = fuse_constant(maps, CLASSES, background_score=score)
    by_power = fuse_power(maps, CLASSES, background_power=power)
    for row, column in np.ndindex(SHAPE):
        own = list(maps[:, row, column])
        for mask, background in ((by_constant, score), (by_power, (1 - max(own)) ** power)):
            winner = int(np.argmax([background, *own]))
            assert mask[row, column] == (CLASSES[winner - 1] + 1 if winner else 0)


@given(some_maps)
def test_a_higher_power_leaves_no_more_background(maps):
    low, high = (fuse_power(maps, CLASSES, background_power=power) for power in (1.0, 4.0))
    assert not ((high == 0) & (low != 0)).any()


def test_maps_classes_and_saliency_must_fit():
    with pytest.raises(MISFIT, match="saliency"):
        fuse_saliency(np.zeros((1, 2, 3)), [0], np.zeros((3, 2)), **RULES)
    with pytest.raises(AssertionError, match="2 maps for the classes"):
        fuse_constant(np.zeros((2, 2, 3)), [0], background_score=0.2)
    with pytest.raises(AssertionError, match="254"):
        fuse_constant(np.zeros((1, 2, 3)), [254], background_score=0.2)


@given(some_maps, st.floats(0, 1), st.floats(0.1, 50))
def test_soft_scores_agree_with_a_loop_over_pixels(maps, background_score, sharpness):
    background = np.full(SHAPE, background_score)
    found = soft_scores(maps, background, sharpness=sharpness)
    for row in range(SHAPE[0]):
        for column in range(SHAPE[1]):
            odds = [np.exp(np.float32(sharpness) * value) for value in (background_score, *maps[:, row, column])]
            np.testing.assert_allclose(found[:, row, column], np.array(odds) / sum(odds), rtol=1e-4, atol=1e-30)


@given(some_maps, score, st.floats(0.1, 50))
def test_without_a_crf_soft_masks_are_the_hard_ones(maps, background_score, sharpness):
    """Where no two scores are nearly equal: what the softmax rounds to one probability is any of theirs."""
    background = np.full(SHAPE, background_score)
    soft = soft_scores(maps, background, sharpness=sharpness)
    found = mask_of_probabilities(soft, CLASSES, min_confidence=0)
    first, second = np.sort(np.concatenate([background[None], maps]), axis=0)[[-1, -2]]
    clear = (first - second) * sharpness > 1e-5
    expected = fuse_constant(maps, CLASSES, background_score=background_score)
    np.testing.assert_array_equal(found[clear], expected[clear])


@given(grey, st.floats(0, 1), st.floats(0, 2), st.floats(0, 1))
def test_saliency_lowers_the_score_of_background_by_its_distance_from_the_middle(grey_levels, base, weight, middle):
    found = salient_background(grey_levels / 255, background_score=base, weight=weight, middle=middle)
    np.testing.assert_allclose(found, base - weight * (grey_levels / 255 - middle))


@given(some_maps, grey, st.floats(0, 1), st.floats(0, 2), st.floats(0, 1))
def test_a_class_meets_a_background_that_moves_as_far_as_it_trusts(maps, grey_levels, trust, weight, middle):
    saliency = (grey_levels / 255).astype(np.float32)
    moved = with_own_background(maps, saliency, [trust] * len(maps), weight=weight, middle=middle)
    over_all = moved - salient_background(saliency, background_score=0.3, weight=weight, middle=middle)
    own = maps - salient_background(saliency, background_score=0.3, weight=weight * trust, middle=middle)
    np.testing.assert_allclose(over_all, own, atol=1e-5)


@given(st.floats(0.1, 5), st.floats(-3, 3))
def test_agreement_is_one_up_to_scale_and_level_and_nothing_where_all_is_flat(scale, level):
    plane = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    maps = plane[None]
    assert agreement(maps, np.float32(scale) * plane + np.float32(level)) == [pytest.approx(1, abs=1e-5)]
    assert agreement(maps, -plane) == [pytest.approx(-1)]
    assert agreement(maps, np.full_like(plane, level)) == agreement(np.zeros_like(maps), plane) == [0]


def test_agreement_counts_where_a_class_leads_and_nothing_of_one_that_nowhere_does():
    """A dog on the left, a plant on the right; saliency sees the dog alone."""
    dog, plant, nowhere = np.zeros((3, 10, 20), dtype=np.float32)
    dog[:, :10], plant[:, 10:] = np.linspace(0.1, 1, 10), np.linspace(0.1, 1, 10)
    nowhere[:] = 0.05
    found = agreement(np.stack([dog, plant, nowhere]), dog)
    assert found == [pytest.approx(1), 0, None]
    assert np.corrcoef(plant.ravel(), dog.ravel())[0, 1] < -0.5, "over the whole image, others count"


def test_background_of_an_image_without_classes_has_all_the_probability():
    nothing = np.zeros((0, *SHAPE), np.float32)
    assert (soft_scores(nothing, power_background(nothing, 4), sharpness=8) == 1).all()


def split_with_least_variance(scores: np.ndarray) -> list[float]:
    """Centres of the bins that end the lower group of the best splits, by the variances within both groups."""
    centres = [(index + 0.5) / 256 for index in range(256)]
    binned = [centres[min(int(score * 256), 255)] for score in scores.ravel().tolist()]
    within = {}
    for centre in sorted(set(binned))[:-1]:
        groups = [one for one in binned if one <= centre], [one for one in binned if one > centre]
        within[centre] = sum(len(group) * np.var(group) for group in groups)
    least = min(within.values())
    return [centre for centre, value in within.items() if value <= least + 1e-9]


@given(
    hnp.arrays(np.float32, (6, 7), elements=st.sampled_from([0, 0.125, 0.25, 0.5, 0.75, 1]) | st.floats(0, 1, width=32))
)
def test_the_threshold_of_otsu_leaves_the_least_variance_in_both_groups(scores):
    bins = np.minimum(np.floor(scores * 256), 255)
    if len(np.unique(bins)) == 1:
        assert otsu_threshold(scores) == (bins.flat[0] + 0.5) / 256
    else:
        assert otsu_threshold(scores) in split_with_least_variance(scores)


def test_the_threshold_of_otsu_lies_between_two_groups_of_scores():
    scores = np.array([[0.1, 0.12, 0.15], [0.8, 0.85, 0.9]], dtype=np.float32)
    assert 0.14 < otsu_threshold(scores) < 0.8
