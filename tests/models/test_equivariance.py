"""Pixel correlation and the losses of two views, each against a loop over positions."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mcis_cli.models.equivariance import (
    EPSILON,
    PixelCorrelation,
    ViewMaps,
    cues_of,
    equivariant_loss,
    refine,
    scaled_maps,
    second_view,
)

BATCH, CLASSES, HEIGHT, WIDTH = 2, 3, 5, 6
SMALL = (2, 3)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positions(height: int, width: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(height) for column in range(width)]


def on_grid(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners on corners, one value at a time."""
    found = torch.zeros(*maps.shape[:2], *size, dtype=maps.dtype)
    for row, column in positions(*size):
        y = row * (maps.shape[2] - 1) / (size[0] - 1)
        x = column * (maps.shape[3] - 1) / (size[1] - 1)
        top, left = min(int(y), maps.shape[2] - 2), min(int(x), maps.shape[3] - 2)
        for down, part_y in ((0, 1 - y + top), (1, y - top)):
            for right, part_x in ((0, 1 - x + left), (1, x - left)):
                found[:, :, row, column] += part_y * part_x * maps[:, :, top + down, left + right]
    return found


def brute_embedding(module: PixelCorrelation, images: Tensor, lower: Tensor, middle: Tensor) -> Tensor:
    def conv(weight: Tensor, values: Tensor) -> Tensor:
        return torch.stack([weight[:, :, 0, 0] @ image.flatten(1) for image in values]).unflatten(2, values.shape[2:])

    low = on_grid(conv(module.f8_3.weight, lower).clamp(min=0), (HEIGHT, WIDTH))
    mid = on_grid(conv(module.f8_4.weight, middle).clamp(min=0), (HEIGHT, WIDTH))
    found = conv(module.f9.weight, torch.cat([on_grid(images, (HEIGHT, WIDTH)), low, mid], dim=1))
    for image in range(len(found)):
        for row, column in positions(HEIGHT, WIDTH):
            vector = found[image, :, row, column].clone()
            found[image, :, row, column] = vector / (math.sqrt(float((vector**2).sum())) + EPSILON)
    return found


def brute_refined(cues: Tensor, embedding: Tensor) -> Tensor:
    refined = torch.zeros_like(cues)
    height, width = cues.shape[2:]
    for image in range(len(cues)):
        for here in positions(height, width):
            likeness = {
                there: max(0.0, float(embedding[image, :, *there] @ embedding[image, :, *here]))
                for there in positions(height, width)
            }
            total = sum(likeness.values()) + EPSILON
            for there, value in likeness.items():
                refined[image, :, *here] += cues[image, :, *there] * value / total
    return refined


@torch.no_grad()
def test_pixel_correlation_is_what_a_loop_over_pairs_of_positions_gives() -> None:
    module = PixelCorrelation((4, 5), generator=torch.Generator().manual_seed(3)).double()
    images, lower, middle = random(BATCH, 3, 17, 23), random(BATCH, 4, 9, 11, seed=1), random(BATCH, 5, 5, 6, seed=2)
    embedding = module(images, lower, middle, (HEIGHT, WIDTH))
    assert torch.allclose(embedding, brute_embedding(module, images, lower, middle))
    cues = cues_of(random(BATCH, CLASSES, HEIGHT, WIDTH, seed=4))
    assert torch.allclose(refine(cues, embedding), brute_refined(cues, embedding))


def test_positions_of_one_colour_get_one_score() -> None:
    """Two colours at right angles: scores are the mean over the positions of the own colour."""
    embedding = torch.zeros(1, 2, 2, 3)
    embedding[0, 0, :, 0] = embedding[0, 1, :, 1:] = 1
    cues = torch.arange(6.0).reshape(1, 1, 2, 3)
    expected = torch.tensor([[1.5, 3.0, 3.0], [1.5, 3.0, 3.0]])
    assert torch.allclose(refine(cues, embedding)[0, 0], expected, atol=1e-4)


def brute_cues(maps: Tensor) -> Tensor:
    found = torch.zeros(maps.shape[0], maps.shape[1] + 1, *maps.shape[2:], dtype=maps.dtype)
    for image in range(len(maps)):
        most = [max(0.0, float(one.max())) + EPSILON for one in maps[image]]
        for here in positions(*maps.shape[2:]):
            scores = [max(0.0, float(maps[image, k, *here]) - EPSILON) / most[k] for k in range(maps.shape[1])]
            found[image, 0, *here] = 1 - max(scores)
            winner = scores.index(max(scores))
            found[image, winner + 1, *here] = scores[winner]
    return found


def test_cues_are_background_and_the_largest_class() -> None:
    maps = random(BATCH, CLASSES, HEIGHT, WIDTH).requires_grad_()
    cues = cues_of(maps)
    assert torch.allclose(cues, brute_cues(maps.detach()))
    assert not cues.requires_grad
    assert torch.equal(cues_of(-torch.ones(1, 2, 2, 2))[:, 0], torch.ones(1, 2, 2))


def brute_scaled(one: Tensor) -> Tensor:
    positive = one.clamp(min=0)
    least, most = float(positive.min()), float(positive.max())
    return torch.tensor(
        [[max(0.0, float(v) - least - EPSILON) / (most - least + EPSILON) for v in r] for r in positive]
    )


def brute_loss(first: ViewMaps, second: ViewMaps, labels: Tensor) -> dict[str, list[float]]:
    """SEAM's four terms for each image, one value at a time."""
    found: dict[str, list[float]] = {name: [] for name in ("classification", "suppression", "equivariance", "cross")}
    for image, present in enumerate(labels.tolist()):
        views = [
            ViewMaps(view.activation_maps[image : image + 1].double(), view.refined[image : image + 1].double())
            for view in (first, second)
        ]
        scores = [[float(one.mean()) for one in view.activation_maps[0]] for view in views]
        entropies = [
            -math.log(1 / (1 + math.exp(-score))) if has else -math.log(1 - 1 / (1 + math.exp(-score)))
            for view in scores
            for score, has in zip(view, present, strict=True)
        ]
        found["classification"].append(sum(entropies) / len(entropies))

        lowest = []
        for view in views:
            tops = sorted(
                max(float(view.refined[0, k + 1, *here]) * present[k] for k in range(CLASSES))
                for here in positions(*view.refined.shape[2:])
            )
            kept = tops[: len(tops) // 4 or 1]
            lowest.append(sum(max(0.0, value) for value in kept) / len(kept))
        found["suppression"].append(sum(lowest) / 2)

        def scaled(maps: Tensor, factors: list[float]) -> Tensor:
            stretched = torch.stack([brute_scaled(one) for one in maps[0]]).double()[None]
            small = stretched if tuple(maps.shape[2:]) == SMALL else on_grid(stretched, SMALL)
            return small[0] * torch.tensor(factors).double()[:, None, None]

        maps = [scaled(view.activation_maps, present) for view in views]
        refined = [scaled(view.refined, [1.0, *present]) for view in views]
        differences = [abs(float(a) - float(b)) for a, b in zip(maps[0].flatten(), maps[1].flatten(), strict=True)]
        found["equivariance"].append(sum(differences) / len(differences))
        total = 0.0
        for other, own in ((maps[1], refined[0]), (maps[0], refined[1])):
            apart = []
            for here in positions(*SMALL):
                most = max(float(value) for value in other[:, *here])
                apart.append(abs(1 - most - float(own[0, *here])))
                for k in range(CLASSES):
                    cue = float(other[k, *here]) if float(other[k, *here]) == most else 0.0
                    apart.append(abs(cue - float(own[k + 1, *here])))
            kept = sorted(apart, reverse=True)[: int(0.2 * len(apart))]
            total += sum(kept) / len(kept)
        found["cross"].append(total)
    return found


def two_views() -> tuple[ViewMaps, ViewMaps]:
    first = ViewMaps(
        random(BATCH, CLASSES, HEIGHT, WIDTH, seed=5), random(BATCH, CLASSES + 1, HEIGHT, WIDTH, seed=6).abs()
    )
    return first, ViewMaps(random(BATCH, CLASSES, *SMALL, seed=7), random(BATCH, CLASSES + 1, *SMALL, seed=8).abs())


def test_losses_are_what_loops_over_positions_give() -> None:
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    first, second = two_views()
    loss, expected = equivariant_loss(first, second, labels), brute_loss(first, second, labels)
    assert loss.classification.tolist() == pytest.approx(expected["classification"], rel=1e-6)
    assert loss.suppression.tolist() == pytest.approx(expected["suppression"], rel=1e-6)
    assert loss.equivariance.tolist() == pytest.approx(expected["equivariance"], rel=1e-5)
    assert loss.cross_refinement.tolist() == pytest.approx(expected["cross"], rel=1e-5)
    parts = (loss.classification, loss.suppression, loss.equivariance, loss.cross_refinement)
    assert torch.equal(loss.total, parts[0] + parts[1] + parts[2] + parts[3])


def test_views_that_agree_differ_in_nothing() -> None:
    first, _ = two_views()
    view = ViewMaps(first.activation_maps, torch.cat([torch.zeros(BATCH, 1, HEIGHT, WIDTH), first.activation_maps], 1))
    assert equivariant_loss(view, view, torch.ones(BATCH, CLASSES)).equivariance.tolist() == [0, 0]


def test_the_lower_taps_get_no_gradient_and_the_module_does() -> None:
    module = PixelCorrelation((4, 5), generator=torch.Generator().manual_seed(3))
    images = torch.rand(1, 3, 20, 24)
    lower, middle = torch.rand(1, 4, 5, 6, requires_grad=True), torch.rand(1, 5, 5, 6, requires_grad=True)
    maps = torch.rand(1, 2, 5, 6, requires_grad=True)
    refine(cues_of(maps), module(images, lower, middle, (5, 6)))[:, :, 0].sum().backward()
    assert lower.grad is middle.grad is maps.grad is None
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_the_second_view_is_the_image_at_three_tenths() -> None:
    images = torch.rand(1, 3, 41, 50)
    assert torch.allclose(second_view(images), on_grid(images, (12, 15)), atol=1e-6)


def test_scaled_maps_reach_from_zero_to_one() -> None:
    maps = scaled_maps(random(2, 3, 4, 5))
    assert maps.min() == 0
    assert torch.allclose(maps.amax(dim=(2, 3)), torch.ones(2, 3, dtype=torch.float64), atol=1e-4)
    assert scaled_maps(torch.full((1, 1, 2, 2), 3.0)).max() == 0
    assert functional.relu(maps).equal(maps)
