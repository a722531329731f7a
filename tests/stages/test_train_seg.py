"""Training the segmentation network: supervision, ignored pixels, resuming, and what is refused."""

import numpy as np
import pytest
import torch
from tiny_chain import Heard, done, options, training_log
from torch import nn
from torch.nn import functional

from mcis_cli.errors import DataError, MissingError, UsageError, WeightsError
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.train_seg import run as train_seg
from mcis_cli.stages.train_seg.run import segmentation_loss
from mcis_cli.store import open_store

LONG = {"batch_size": 2, "epochs": 3}  # 24 steps: reports at 10, 20, 24; checkpoints at 10, 20


def train(chain, folder=None, *, run=None, upstream="pseudo", data=True, **config):
    inputs = Inputs(
        upstream=chain.made[upstream] if isinstance(upstream, str) else upstream, data=chain.data if data else None
    )
    store = chain.store if folder is None else open_store(folder)
    return train_seg.run(chain.settings(train_seg=config).train_seg, inputs, store, run or options())


def tensor(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.mark.parametrize("resolution", ["full", "network"])
def test_a_batch_of_ignored_pixels_has_no_loss_and_a_gradient_of_zeros(resolution):
    network = nn.Conv2d(3, 4, 1)
    logits = network(tensor(2, 3, 3, 4))
    loss = segmentation_loss(logits, torch.full((2, 6, 8), 255), resolution)
    loss.backward()
    assert loss.item() == 0
    for parameter in network.parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def test_the_loss_is_the_mean_over_the_pixels_that_count():
    logits = tensor(2, 3, 2, 3)
    masks = torch.tensor([[[0, 1, 2], [255, 1, 0]], [[255] * 3, [2, 255, 255]]])
    by_pixel = [
        -functional.log_softmax(logits[b, :, i, j], 0)[masks[b, i, j]]
        for b in range(2)
        for i in range(2)
        for j in range(3)
        if masks[b, i, j] != 255
    ]
    expected = torch.stack(by_pixel).mean()
    for resolution in ("full", "network"):
        torch.testing.assert_close(segmentation_loss(logits, masks, resolution), expected)


def test_ignored_pixels_do_not_move_the_loss():
    logits, masks = tensor(1, 3, 4, 4), torch.randint(0, 3, (1, 8, 8))
    masks[0, :, 4:] = 255
    other = logits.detach().clone()
    other[..., 3:] += 5  # one column of positions away from the pixels that count
    torch.testing.assert_close(segmentation_loss(logits, masks, "network"), segmentation_loss(other, masks, "network"))


def test_at_the_resolution_of_the_network_each_position_has_the_nearest_mask_value():
    masks = torch.arange(16).reshape(1, 4, 4) % 3
    logits = tensor(1, 3, 2, 2)
    expected = functional.cross_entropy(logits, masks[:, 1::2, 1::2])
    torch.testing.assert_close(segmentation_loss(logits, masks, "network"), expected)


def test_the_artifact_says_what_it_learned_from(chain):
    artifact = chain.made["train-seg"]
    assert artifact.meta["supervision"] == "pseudo"
    assert artifact.meta["split"] == "train"
    assert artifact.meta["model"]["num_classes"] == 4
    assert artifact.inputs["masks"] == chain.made["pseudo"].id
    assert {"step", "epoch", "total", "lr", "grad_norm"} == set(training_log(artifact)[-1])


def test_a_second_run_finds_the_artifact_and_computes_nothing(chain):
    heard, before = Heard(), done(chain.store, "train-seg")
    assert train(chain, run=options(reporter=heard)).path == chain.made["train-seg"].path
    assert not heard.started
    assert done(chain.store, "train-seg") == before


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(chain, tmp_path):
    found = {train(chain, tmp_path / str(n), run=options(workers=n)).id for n in (0, 1, 3)}
    assert found == {chain.made["train-seg"].id}


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_ends_in_the_same_weights(chain, tmp_path):
    class Interrupted(Heard):
        def advance(self, count=1, **facts):
            super().advance(count, **facts)
            if self.advanced >= 20:
                raise KeyboardInterrupt

    whole = train(chain, tmp_path / "whole", **LONG)
    with pytest.raises(KeyboardInterrupt):
        train(chain, tmp_path / "parts", run=options(reporter=Interrupted()), **LONG)
    heard = Heard()
    resumed = train(chain, tmp_path / "parts", run=options(reporter=heard), **LONG)
    assert heard.started == [("train-seg", 24, 10)]
    assert resumed.id == whole.id
    assert training_log(resumed) == training_log(whole)


def test_steps_are_counted_where_no_epochs_are_named(chain, tmp_path):
    artifact = train(chain, tmp_path, epochs=None, iterations=3)
    assert [line["step"] for line in training_log(artifact)] == [3]


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["full", "network"])
def test_both_resolutions_of_the_loss_are_finite(chain, tmp_path, resolution):
    artifact = train(chain, tmp_path, loss_resolution=resolution)
    assert np.isfinite(training_log(artifact)[-1]["total"])
    assert all(np.isfinite(values).all() for values in artifact.tensors().values())


def test_full_supervision_learns_from_ground_truth(chain):
    alone = train(chain, upstream=None, supervision="full")
    assert alone.meta["supervision"] == "full"
    assert alone.meta["split"] == "train"
    assert alone.inputs["masks"] == chain.images().split("train").digest("masks")
    assert alone.id != chain.made["train-seg"].id
    heard = Heard()
    behind = train(chain, supervision="full", run=options(reporter=heard))
    assert behind.id == alone.id
    assert not heard.started


def test_full_supervision_without_ground_truth_is_refused(chain_copy):
    (chain_copy.folder / "shapes/SegmentationClass/train-0004.png").unlink()
    with pytest.raises(DataError, match=r"ground truth missing for 1 of 16 images of split 'train' \(train-0004, …\)"):
        train(chain_copy, upstream=None, supervision="full")


def test_full_supervision_without_images_is_refused(chain):
    with pytest.raises(UsageError, match=r"full supervision needs images with ground truth: give --data FOLDER"):
        train(chain, upstream=None, data=False, supervision="full")


def test_pseudo_masks_have_to_be_named(chain):
    with pytest.raises(MissingError, match="run `mcis pseudo` first"):
        train(chain, upstream=None)
    with pytest.raises(UsageError, match="was made by cams: expected an artifact of pseudo"):
        train(chain, upstream="cams")


def masks_of(chain, **config):
    inputs = Inputs(upstream=chain.made["cams"], data=chain.data)
    return pseudo.run(chain.settings(pseudo=config).pseudo, inputs, chain.store, options())


def test_masks_that_are_wholly_ignored_teach_nothing(chain):
    masks = masks_of(chain, min_foreground=1.0)
    with pytest.raises(DataError, match=r"all 16 masks are ignored as a whole, .*--foreground-threshold"):
        train(chain, upstream=masks)
    assert not list((chain.folder / ".mcis/partial").iterdir())


@pytest.mark.slow
def test_some_wholly_ignored_masks_are_left_out(chain, tmp_path):
    some = next(
        masks
        for masks in (masks_of(chain, min_foreground=share) for share in np.linspace(0.02, 0.9, 30).round(3).tolist())
        if any((fields["mask"] == 255).all() for _, fields in masks.records())
    )
    useful = sum((fields["mask"] != 255).any() for _, fields in some.records())
    assert 0 < useful < 16
    artifact = train(chain, tmp_path, upstream=some, batch_size=1)
    assert training_log(artifact)[-1]["step"] == useful


def test_weights_of_another_network_are_refused_by_name(chain, tmp_path):
    weights = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(3)}, weights)
    with pytest.raises(WeightsError, match=r"other\.pth: initial weights do not fit lite0"):
        train(chain, tmp_path / "store", weights=str(weights))
