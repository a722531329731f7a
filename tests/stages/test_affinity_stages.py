"""The three stages of `mcis affinity`: sure regions, the network, the walk; and what is made of walked maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from affinity_chain import run_walk, walk_settings
from thresholded_maps import mask_over
from tiny_chain import Heard, done, options

from mcis_cli.config import EvalConfig
from mcis_cli.errors import DataError, MissingError, UsageError
from mcis_cli.maps.crf import confident_regions
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.stages.affinity import labels as affinity_labels
from mcis_cli.stages.affinity import train as train_affinity
from mcis_cli.stages.affinity import walk as affinity
from mcis_cli.stages.affinity.neighbours import load_neighbours
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.store import open_store


@pytest.fixture(scope="module")
def walked(chain):
    return run_walk(chain)


def maps_of(chain, image_id):
    fields = chain.made["cams"].read(image_id)
    return fields["maps"].astype(np.float32), tuple(fields["classes"].tolist())


def test_sure_regions_are_those_of_the_normalised_maps(chain, walked):
    config, images = walk_settings(chain).affinity, chain.images()
    labels = walked["affinity-labels"]
    assert labels.ids == chain.made["cams"].ids
    for image_id in labels.ids[:3]:
        image = images.read_image(image_id)
        maps, classes = maps_of(chain, image_id)
        expected = confident_regions(
            image,
            normalise(enlarge(maps, *image.shape[:2]), "max"),
            classes,
            object_power=config.object_power,
            background_power=config.background_power,
            **config.crf_settings.model_dump(),
        )
        np.testing.assert_array_equal(labels.read(image_id)["labels"], expected)


def test_walked_maps_are_those_of_the_dense_matrix_of_the_network_s_affinities(chain, walked):
    config, images = walk_settings(chain).affinity, chain.images()
    neighbours = load_neighbours(walked["affinity-net"], device=torch.device("cpu"), precision="fp32")
    for image_id in walked["affinity"].ids[:2]:
        planes = neighbours.planes(affinity.on_grid(images.read_image(image_id), config.longest_side, 8))
        height, width = planes.shape[1:]
        assert abs(8 * height - images[image_id].height) <= 4
        dense = np.eye(height * width)
        for plane, (down, right) in zip(planes, neighbours.offsets, strict=True):
            for y, x in np.ndindex(height, width):
                if y + down < height and 0 <= x + right < width:
                    here, there = y * width + x, (y + down) * width + x + right
                    dense[here, there] = dense[there, here] = float(plane[y, x]) ** config.walk_power
        dense = np.linalg.matrix_power(dense / dense.sum(axis=0), 2**config.walk_doublings)
        maps, classes = maps_of(chain, image_id)
        start = enlarge(normalise(maps, "max"), height, width)
        expected = (start.reshape(len(start), -1) @ dense).reshape(start.shape)
        fields = walked["affinity"].read(image_id)
        assert tuple(fields["classes"].tolist()) == classes
        np.testing.assert_allclose(fields["maps"], expected, rtol=2e-3, atol=1e-4)


def test_what_is_done_is_found_done(chain, walked):
    heard = Heard()
    again = run_walk(chain, run=options(reporter=heard))
    assert {stage: one.id for stage, one in again.items()} == {stage: one.id for stage, one in walked.items()}
    assert heard.started == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "again"),
    [
        ({"walk_doublings": 3}, {"affinity"}),
        ({"lr": 0.05}, {"affinity-net", "affinity"}),
        ({"longest_side": 40}, {"affinity-labels", "affinity-net", "affinity"}),
    ],
)
def test_a_setting_asks_for_the_stages_that_use_it_again(chain, walked, setting, again):
    before = {stage: done(chain.store, stage) for stage in walked}
    made = run_walk(chain, **setting)
    assert {stage for stage in walked if made[stage].key != walked[stage].key} == again
    assert {stage for stage in walked if done(chain.store, stage) != before[stage]} == again


def test_the_network_starts_from_published_weights_and_learns(chain, walked):
    network = walked["affinity-net"]
    assert network.meta["model"] == {"backbone": "lite0", "output_stride": 8, "radius": 5}
    assert network.meta["initialisation"].startswith("efficientnet-lite0")
    assert {"f8_3.weight", "f8_4.weight", "f8_5.weight", "f9.weight"} < set(network.tensors())
    lines = network.log_path.read_text().splitlines()
    assert '"negative"' in lines[-1]


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_ends_in_the_same_weights(chain, walked, tmp_path, one_thread):
    class Stop(Exception):
        """The training is stopped after its first checkpoint."""

    class Stopping(Heard):
        def advance(self, count=1, **facts):
            super().advance(count, **facts)
            if facts and self.advanced >= 20:
                raise Stop

    long = {"epochs": 3, "batch_size": 2}  # 24 steps: reports at 10, 20, 24; a checkpoint at 10
    config = walk_settings(chain, **long).affinity
    inputs = Inputs(upstream=walked["affinity-labels"], data=chain.data)
    whole = train_affinity.run(config, inputs, open_store(tmp_path / "whole"), options())
    parts = open_store(tmp_path / "parts")
    with pytest.raises(Stop):
        train_affinity.run(config, inputs, parts, options(reporter=Stopping(), checkpoint_seconds=0.0))
    heard = Heard()
    resumed = train_affinity.run(config, inputs, parts, options(reporter=heard))
    assert heard.started == [("affinity-net", 24, 10)]
    assert resumed.id == whole.id


def test_maps_that_are_sure_of_nothing_train_nothing(chain, walked, monkeypatch):
    monkeypatch.setattr(train_affinity, "_has_pairs", lambda labels: False)
    config = walk_settings(chain, seed=9).affinity
    with pytest.raises(DataError, match="the maps are not confident anywhere in all 16 images"):
        train_affinity.run(config, Inputs(upstream=walked["affinity-labels"]), chain.store, options())


def test_pseudo_masks_compare_walked_maps_with_the_threshold_as_they_are(chain, walked):
    config = walk_settings(chain).pseudo.model_copy(update={"background_threshold": 0.25})
    masks = pseudo.run(config, Inputs(upstream=walked["affinity"], data=chain.data), chain.store, options())
    images = chain.images()
    for image_id in masks.ids[:4]:
        fields = walked["affinity"].read(image_id)
        full = enlarge(fields["maps"], images[image_id].height, images[image_id].width)
        expected = mask_over(full, fields["classes"].tolist(), 0.25)
        np.testing.assert_array_equal(masks.read(image_id)["mask"], expected)


def test_scores_of_walked_maps_at_a_threshold_are_those_of_the_masks(chain, walked):
    config = walk_settings(chain).pseudo
    masks = pseudo.run(config, Inputs(upstream=walked["affinity"], data=chain.data), chain.store, options())
    scored = [
        evaluate.metrics(evaluate.run(given, Inputs(upstream=upstream, data=chain.data), chain.store, options()))
        for given, upstream in ((EvalConfig(thresholds=(0.2,)), walked["affinity"]), (EvalConfig(), masks))
    ]
    assert scored[0]["subject"] == "affinity"
    assert scored[0]["iou"] == scored[1]["iou"]


def test_maps_that_have_not_walked_are_no_ground_for_such_masks(chain):
    with pytest.raises(UsageError, match=r"compares maps after their walk, found those of cams-.*run `mcis affinity`"):
        pseudo.run(walk_settings(chain).pseudo, Inputs(upstream=chain.made["cams"]), chain.store, options())


def test_a_walk_needs_a_network_of_affinities(chain, walked):
    config = walk_settings(chain).affinity
    inputs = Inputs(upstream=chain.made["cams"], data=chain.data)
    with pytest.raises(
        MissingError, match="the walk needs a trained AffinityNet, and none was named; run `mcis affinity`"
    ):
        affinity.run(config, inputs, chain.store, options())
    with pytest.raises(UsageError, match="made by cams: expected a network of affinities"):
        affinity.run(config, replace(inputs, network=chain.made["cams"]), chain.store, options())


def test_large_images_are_shrunk_and_the_grid_covers_the_whole_image():
    image = np.random.default_rng(0).integers(0, 256, (100, 203, 3), dtype=np.uint8)
    assert affinity_labels.shrunk(image, 203) is image
    assert affinity_labels.shrunk(image, 50).shape == (25, 50, 3)
    assert affinity.on_grid(image, 512, 8).shape == (96, 200, 3)  # 12.5 rounds to 12 cells, 25.4 to 25
    assert affinity.on_grid(image, 101, 8).shape == (48, 104, 3)
    assert affinity.on_grid(image[:2, :3], 512, 16).shape == (16, 16, 3)
