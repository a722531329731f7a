"""Views for training: sizes, alignment of photograph and mask, colours, randomness from outside."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from mcis_cli.data.augment import (
    GREY,
    Cropping,
    classification_view,
    color_map,
    hue_rotation,
    jitter_colors,
    normalise,
    segmentation_view,
    warp,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RAMP = np.stack(np.broadcast_arrays(np.arange(40)[:, None] * 5, np.arange(50) * 4, np.array([[90]])), axis=-1).astype(
    np.uint8
)
NONE = (0.0, 0.0, 0.0, 0.0)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_normalise_agrees_with_the_formula() -> None:
    expected = (torch.from_numpy(RAMP.astype(np.float64) / 255) - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(normalise(RAMP, MEAN, STD), expected.permute(2, 0, 1).float())


def test_warp_of_a_constant_image_is_that_constant() -> None:
    assert (warp(np.full((7, 13, 3), 77, np.uint8), 20) == 77).all()
    assert warp(RAMP, 24).shape == (24, 24, 3)


def test_classification_view_without_choices_is_the_normalised_warp() -> None:
    view = classification_view(
        RAMP, image_size=24, color_jitter=NONE, mirror=False, generator=random(), mean=MEAN, std=STD
    )
    torch.testing.assert_close(view, normalise(warp(RAMP, 24), MEAN, STD))


def test_classification_views_are_mirrored_half_of_the_time() -> None:
    generator, plain = random(), normalise(warp(RAMP, 8), MEAN, STD)
    mirrored = 0
    for _ in range(100):
        view = classification_view(
            RAMP, image_size=8, color_jitter=NONE, mirror=True, generator=generator, mean=MEAN, std=STD
        )
        assert torch.equal(view, plain) or torch.equal(view, plain.flip(2))
        mirrored += torch.equal(view, plain.flip(2))
    assert 30 < mirrored < 70


def test_views_depend_on_the_generator_only_and_leave_their_input_alone() -> None:
    before = RAMP.copy()

    def view(seed: int) -> torch.Tensor:
        jitter = (0.3, 0.3, 0.3, 0.1)
        return classification_view(
            RAMP, image_size=16, color_jitter=jitter, mirror=True, generator=random(seed), mean=MEAN, std=STD
        )

    assert torch.equal(view(1), view(1))
    assert not torch.equal(view(1), view(2))
    np.testing.assert_array_equal(RAMP, before)


@pytest.mark.parametrize(
    ("step", "factor", "enhancer"),
    [(0, 1.2, ImageEnhance.Brightness), (1, 0.7, ImageEnhance.Contrast), (2, 1.3, ImageEnhance.Color)],
)
def test_single_jitter_steps_agree_with_pillow(step: int, factor: float, enhancer: type) -> None:
    factors = [1.0, 1.0, 1.0, 0.0]
    factors[step] = factor
    color = color_map(RAMP.mean(axis=(0, 1)), tuple(factors), order=(0, 1, 2, 3))
    ours = np.clip(RAMP @ color[:, :3].T + color[:, 3], 0, 255)
    pillow = np.asarray(enhancer(Image.fromarray(RAMP)).enhance(factor), dtype=float)
    assert np.abs(ours - pillow).max() <= 2  # Pillow rounds the grey and the result to integers


def test_hue_keeps_grey_and_a_full_turn_changes_nothing() -> None:
    np.testing.assert_allclose(hue_rotation(0.3) @ np.array([80, 80, 80]), [80, 80, 80], atol=1e-3)
    np.testing.assert_allclose(GREY @ hue_rotation(0.3), GREY, atol=1e-9)
    np.testing.assert_allclose(hue_rotation(1.0), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(hue_rotation(0.2) @ hue_rotation(-0.2), np.eye(3), atol=1e-9)


def test_a_third_of_a_turn_of_hue_makes_red_mostly_green() -> None:
    turned = [hue_rotation(turn) @ np.array([200.0, 0, 0]) for turn in (1 / 3, -1 / 3)]
    assert sorted(int(color.argmax()) for color in turned) == [1, 2]


def test_order_of_jitter_steps_matters_and_is_followed() -> None:
    # Brightness 2 then contrast 0 of a grey 50: 100 everywhere; the other way round the same; with saturation first no
    # change on grey. Contrast 0.5 about the mean of two colors: by hand.
    color = color_map(np.array([50.0, 50, 50]), (2.0, 0.5, 1.0, 0.0), order=(0, 1, 2, 3))
    np.testing.assert_allclose(color[:, :3] @ np.array([30, 30, 30]) + color[:, 3], 0.5 * 60 + 0.5 * 100)
    np.testing.assert_allclose(
        color_map(np.zeros(3), (1.0, 1.0, 1.0, 0.0), order=(3, 2, 1, 0)), np.eye(3, 4), atol=1e-9
    )


def test_jitter_stays_in_range_and_without_strength_changes_nothing() -> None:
    assert jitter_colors(RAMP, NONE, random()) is RAMP
    views = [jitter_colors(RAMP, (0.4, 0.4, 0.4, 0.1), random(seed)) for seed in range(20)]
    means = np.array([view.mean() for view in views])
    assert all(view.dtype == np.uint8 and view.shape == RAMP.shape for view in views)
    assert means.std() > 5
    assert abs(means.mean() - RAMP.mean()) < 15


def position_mask() -> tuple[np.ndarray, np.ndarray]:
    """An image whose red value is its mask: they must stay aligned through scale, crop and mirror."""
    mask = np.kron(np.arange(20, dtype=np.uint8).reshape(4, 5) * 10, np.ones((12, 14), np.uint8))
    return np.repeat(mask[..., None], 3, axis=2), mask


def segment(crop: int, scales: tuple[float, float], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = position_mask()
    return segmentation_view(
        image, mask, Cropping(crop, scales, mirror=True), generator=random(seed), mean=(0, 0, 0), std=(1, 1, 1)
    )


@pytest.mark.parametrize("seed", range(6))
def test_photograph_and_mask_stay_aligned(seed: int) -> None:
    view, target = segment(30, (0.7, 1.5), seed)
    assert view.shape == (3, 30, 30)
    assert target.shape == (30, 30)
    assert target.dtype == torch.uint8
    # Bilinear edges differ from nearest ones; the inside of each block does not.
    assert ((view[0] * 255 - target.float()).abs() < 1).float().mean() > 0.75


def test_beyond_the_photograph_is_the_mean_and_ignored() -> None:
    view, target = segment(100, (1.0, 1.0), 0)
    _, mask = position_mask()
    assert (target[48:] == 255).all()
    assert (target[:, 70:] == 255).all()
    assert (view[:, 48:] == 0).all()
    assert (view[:, :, 70:] == 0).all()
    inside = target[:48, :70].numpy()
    assert np.array_equal(inside, mask) or np.array_equal(inside, mask[:, ::-1])


def test_factors_lie_a_step_apart_where_there_is_one() -> None:
    """The crop is larger than the photograph, so the kept part determines the factor."""
    image, mask = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)

    def kept(seed: int) -> int:
        _, target = segmentation_view(
            image,
            mask,
            Cropping(140, (0.7, 1.3), mirror=False, scale_step=0.1),
            generator=random(seed),
            mean=(0, 0, 0),
            std=(1, 1, 1),
        )
        return int((target[:, 0] == 0).sum())

    assert {kept(seed) for seed in range(60)} == {70, 80, 90, 100, 110, 120, 130}


def test_crops_reach_every_corner() -> None:
    seen = {int(value) for seed in range(60) for value in segment(24, (1.0, 1.0), seed)[1].unique()}
    assert seen == set(range(0, 200, 10))


def test_scale_one_crop_is_cut_out_not_interpolated() -> None:
    view, target = segment(24, (1.0, 1.0), 3)
    torch.testing.assert_close((view[0] * 255).round().to(torch.uint8), target)


def test_crop_equals_crop_of_the_whole_photograph_resized() -> None:
    image = random(5).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    mask = np.zeros((60, 90), np.uint8)
    view, _ = segmentation_view(
        image, mask, Cropping(40, (1.3, 1.3), mirror=False), generator=random(1), mean=(0, 0, 0), std=(1, 1, 1)
    )
    whole = np.asarray(Image.fromarray(image).resize((117, 78), Image.Resampling.BILINEAR))
    view8 = (view * 255).round().numpy().transpose(1, 2, 0)
    differences = [
        np.abs(whole[top : top + 40, left : left + 40] - view8).max() for top in range(39) for left in range(78)
    ]
    assert min(differences) <= 2  # Pillow rounds after each of its two passes


def cut_out(seed: int, *, size: int, long_side: tuple[int, int]) -> torch.Tensor:
    return classification_view(
        RAMP,
        image_size=size,
        color_jitter=NONE,
        mirror=False,
        generator=random(seed),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        long_side=long_side,
    )


def test_squares_are_cut_out_of_the_photograph_at_its_own_size() -> None:
    """RAMP's 40 rows and 50 columns rise by 5 and 4 a pixel: the first value shows where the square was cut."""
    places = set()
    for seed in range(20):
        view = (cut_out(seed, size=16, long_side=(50, 50)) * 255).round()
        top, left = int(view[0, 0, 0]) // 5, int(view[1, 0, 0]) // 4
        expected = torch.from_numpy(RAMP[top : top + 16, left : left + 16].copy()).permute(2, 0, 1).float()
        assert torch.equal(view, expected)
        places.add((top, left))
    assert len(places) > 10


def test_a_photograph_smaller_than_the_square_lies_somewhere_in_it() -> None:
    """Long side 25 to 30: heights 20 to 24, in a square of 32 whose rest is the mean colour."""
    heights, starts = set(), set()
    for seed in range(30):
        view = cut_out(seed, size=32, long_side=(25, 30))
        rows, columns = view[2].sum(1).nonzero().flatten(), view[2].sum(0).nonzero().flatten()
        assert torch.equal(rows, torch.arange(rows[0], rows[-1] + 1))
        assert abs(len(rows) - len(columns) * 40 / 50) <= 1
        heights.add(len(rows))
        starts.add((int(rows[0]), int(columns[0])))
    assert heights <= set(range(20, 25))
    assert len(heights) > 2
    assert len(starts) > 10
