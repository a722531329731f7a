"""Dense CRF: what the restriction to present labels keeps, and what becomes of ignored pixels."""

import numpy as np
import pytest

from mcis_cli.config import CrfConfig
from mcis_cli.maps.crf import candidates, crf_on_present, dense_crf, refine_mask, winners

TERMS = CrfConfig(iterations=3).model_dump()
HEIGHT, WIDTH = 20, 30
MISFIT = (AssertionError, TypeError)  # the latter where shapes are checked at run time


def halves(left: int = 20, right: int = 230) -> np.ndarray:
    """A photograph whose left half is dark and whose right half is light."""
    image = np.full((HEIGHT, WIDTH, 3), right, np.uint8)
    image[:, : WIDTH // 2] = left
    return image


def random_probabilities(num_labels: int, seed: int = 0) -> np.ndarray:
    scores = np.random.default_rng(seed).random((num_labels, HEIGHT, WIDTH), dtype=np.float32) + 0.1
    return scores / scores.sum(axis=0)


def shifted_mask() -> np.ndarray:
    """Background and class 4, their edge three columns off the image's."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, WIDTH // 2 + 3 :] = 5
    return mask


def test_probabilities_sum_to_one_and_keep_their_shape():
    refined = dense_crf(halves(), random_probabilities(3), **TERMS)
    assert refined.shape == (3, HEIGHT, WIDTH)
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)


def test_without_pairwise_terms_the_probabilities_come_back():
    probabilities = random_probabilities(3)
    alone = TERMS | {"gaussian_weight": 0, "bilateral_weight": 0}
    np.testing.assert_allclose(dense_crf(halves(), probabilities, **alone), probabilities, atol=1e-5)


def test_certain_labels_are_floored_and_stay_finite():
    probabilities = np.zeros((2, HEIGHT, WIDTH), np.float32)
    probabilities[0] = 1
    refined = dense_crf(halves(), probabilities, **TERMS)
    assert np.isfinite(refined).all()
    assert (refined.argmax(axis=0) == 0).all()


def test_noise_gives_way_to_the_halves_of_the_image():
    truth = (np.arange(WIDTH) >= WIDTH // 2) * np.ones((HEIGHT, 1))
    foreground = np.clip(0.3 + 0.4 * truth + np.random.default_rng(1).normal(0, 0.2, truth.shape), 0.01, 0.99)
    refined = dense_crf(halves(), np.stack([1 - foreground, foreground]), **TERMS)
    assert ((foreground > 0.5) != truth).any()
    np.testing.assert_array_equal(refined.argmax(axis=0), truth)


def test_the_restricted_form_equals_the_full_one_where_all_labels_are_present():
    image, probabilities = halves(), random_probabilities(4)
    assert len(np.unique(probabilities.argmax(axis=0))) == 4
    full = dense_crf(image, probabilities, **TERMS)
    np.testing.assert_array_equal(crf_on_present(image, probabilities, **TERMS), full)
    np.testing.assert_array_equal(crf_on_present(image, probabilities, present=[3, 0, 1, 2], **TERMS), full)


def test_the_restricted_form_gives_absent_labels_nothing():
    image, probabilities = halves(), random_probabilities(5)
    probabilities[[1, 4]] = 0.001
    refined = crf_on_present(image, probabilities, **TERMS)
    assert not refined[[1, 4]].any()
    np.testing.assert_array_equal(refined[[0, 2, 3]], dense_crf(image, probabilities[[0, 2, 3]], **TERMS))


def test_a_label_alone_is_certain():
    probabilities = random_probabilities(3)
    refined = crf_on_present(halves(), probabilities, present=[2], **TERMS)
    np.testing.assert_array_equal(refined.argmax(axis=0), 2)
    np.testing.assert_array_equal(refined.sum(axis=0), 1)


@pytest.mark.parametrize("present_only", [False, True])
def test_what_a_mask_is_made_of_gives_the_mask_of_the_whole_volume(present_only):
    image, probabilities = halves(), random_probabilities(5)
    probabilities[[1, 4]] = 0.001
    chosen = candidates(image, probabilities, present_only=present_only)
    assert len(chosen.probabilities) == len(chosen.labels) == (3 if present_only else 5)
    refine = crf_on_present if present_only else dense_crf
    np.testing.assert_array_equal(winners(chosen, TERMS), refine(image, probabilities, **TERMS).argmax(axis=0))
    np.testing.assert_array_equal(winners(chosen, None), probabilities.argmax(axis=0))


def test_a_mask_of_one_label_needs_no_crf():
    probabilities = random_probabilities(3)
    probabilities[2] += 1
    chosen = candidates(halves(), probabilities, present_only=True)
    np.testing.assert_array_equal(winners(chosen, TERMS), 2)


def test_strided_arrays_give_what_contiguous_ones_give():
    image = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    probabilities = random_probabilities(3)
    mirrored = dense_crf(image[:, ::-1], probabilities[:, :, ::-1], **TERMS)
    copied = dense_crf(image[:, ::-1].copy(), probabilities[:, :, ::-1].copy(), **TERMS)
    np.testing.assert_array_equal(mirrored, copied)


def test_a_mask_follows_the_edge_of_the_image():
    refined = refine_mask(halves(), shifted_mask(), confidence=0.7, **TERMS)
    assert refined.dtype == np.uint8
    np.testing.assert_array_equal(refined[:, : WIDTH // 2], 0)
    np.testing.assert_array_equal(refined[:, WIDTH // 2 :], 5)


def test_ignored_pixels_stay_ignored_unless_asked():
    mask = shifted_mask()
    mask[5:9] = 255
    kept = refine_mask(halves(), mask, confidence=0.7, **TERMS)
    np.testing.assert_array_equal(kept == 255, mask == 255)
    filled = refine_mask(halves(), mask, confidence=0.7, fill_ignored=True, **TERMS)
    assert set(np.unique(filled)) == {0, 5}
    np.testing.assert_array_equal(filled[5:9, :10], 0)
    np.testing.assert_array_equal(filled[5:9, -10:], 5)


def test_a_mask_of_fewer_than_two_labels_comes_back():
    mask = np.full((HEIGHT, WIDTH), 3, np.uint8)
    mask[0] = 255
    np.testing.assert_array_equal(refine_mask(halves(), mask, confidence=0.7, **TERMS), mask)
    np.testing.assert_array_equal(refine_mask(halves(), mask, confidence=0.7, fill_ignored=True, **TERMS), 3)
    empty = np.full_like(mask, 255)
    np.testing.assert_array_equal(refine_mask(halves(), empty, confidence=0.7, fill_ignored=True, **TERMS), 255)


def test_arguments_are_left_as_they_are():
    image, probabilities, mask = halves(), random_probabilities(3), shifted_mask()
    kept = image.copy(), probabilities.copy(), mask.copy()
    crf_on_present(image, probabilities, **TERMS)
    refine_mask(image, mask, confidence=0.7, **TERMS)
    for array, copy in zip((image, probabilities, mask), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_sizes_and_confidence_must_fit():
    with pytest.raises(MISFIT, match=r"for an image of|height"):
        dense_crf(halves(), random_probabilities(3)[:, :-1], **TERMS)
    with pytest.raises(MISFIT, match=r"for an image of|height"):
        refine_mask(halves(), shifted_mask().T, confidence=0.7, **TERMS)
    with pytest.raises(AssertionError, match=r"confidence 0\.5 with 2 labels"):
        refine_mask(halves(), shifted_mask(), confidence=0.5, **TERMS)


def test_arrays_that_may_not_be_written_are_taken():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    probabilities = random.dirichlet([1, 1, 1], (6, 8)).transpose(2, 0, 1).astype(np.float32)
    expected = dense_crf(image, probabilities, **TERMS)
    for array in (image, probabilities):
        array.flags.writeable = False
    np.testing.assert_array_equal(dense_crf(image, probabilities, **TERMS), expected)
