"""The cache of features: the same bits whatever is kept, and memory that is bounded."""

import resource
import shutil
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mcis_cli.data.augment import normalise, warp
from mcis_cli.stages.cams.features import FeatureCache, View
from mcis_cli.stages.engine.networks import backbone_of, build_classifier, load_tensors
from mcis_cli.stages.engine.scratch import Scratch

SIZE = 64


@pytest.fixture(scope="module")
def model(chain):
    built = build_classifier(chain.made["train-cls"].meta["model"])
    load_tensors(built, chain.made["train-cls"])
    return built.eval()


@pytest.fixture(scope="module")
def images(chain):
    return chain.images().split("train")


def cache_of(model, images, budget=2**30, scratch=None):
    return FeatureCache(
        model,
        images.read_image,
        image_size=SIZE,
        device=torch.device("cpu"),
        precision="fp32",
        budget=budget,
        scratch=scratch,
    )


def plain(model, image):
    """Features of an image that is warped already, straight through the network."""
    backbone = backbone_of(model)
    with torch.inference_mode():
        return model.features(normalise(image, backbone.mean, backbone.std)[None])[0]


def test_features_are_those_of_the_network_on_the_warped_image(model, images):
    found = cache_of(model, images)(images.ids[0], View())
    expected = plain(model, warp(images.read_image(images.ids[0]), SIZE))
    torch.testing.assert_close(found.features, expected, rtol=0, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(found.activations, model.class_head(expected[None])[0], rtol=0, atol=1e-4)


def test_a_view_is_scaled_and_mirrored_before_the_network(model, images):
    found = cache_of(model, images)(images.ids[0], View(1.5, mirrored=True))
    expected = plain(model, warp(images.read_image(images.ids[0]), 96)[:, ::-1])
    assert found.features.shape[1:] == (6, 6)
    torch.testing.assert_close(found.features, expected, rtol=0, atol=1e-4)


def test_what_was_computed_is_not_computed_again(model, images):
    cache = cache_of(model, images)
    first = cache(images.ids[0], View())
    again = cache(images.ids[0], View())
    assert cache.num_forwards == 1
    assert all(torch.equal(one, other) for one, other in zip(first.distinct(), again.distinct(), strict=True))
    cache(images.ids[0], View(mirrored=True))
    cache(images.ids[1], View())
    assert cache.num_forwards == 3


def test_the_least_recently_used_is_dropped_when_the_budget_is_exceeded(model, images):
    one = cache_of(model, images)(images.ids[0], View()).num_bytes()
    cache = cache_of(model, images, budget=2 * one)
    first, second, third = images.ids[:3]
    for image_id in (first, second, first, third):
        cache(image_id, View())
    assert cache.num_forwards == 3
    cache(first, View())
    assert cache.num_forwards == 3
    cache(second, View())
    assert cache.num_forwards == 4


def test_a_budget_too_small_for_one_image_still_works(model, images):
    cache = cache_of(model, images, budget=0)
    once = cache(images.ids[0], View())
    cache(images.ids[1], View())
    again = cache(images.ids[0], View())
    assert cache.num_forwards == 3
    assert torch.equal(once.features, again.features)
    assert torch.equal(once.activations, again.activations)


def test_shared_heads_are_computed_and_counted_once(model, images):
    found = cache_of(model, images)(images.ids[0], View())
    assert found.co_activations is found.activations
    assert found.num_bytes() == found.features.nbytes + found.activations.nbytes


def test_the_image_is_left_as_it_was(model, images):
    pixels = images.read_image(images.ids[0])
    before = pixels.copy()
    cache = FeatureCache(
        model, lambda _: pixels, image_size=SIZE, device=torch.device("cpu"), precision="fp32", budget=0
    )
    cache("any", View(mirrored=True))
    np.testing.assert_array_equal(pixels, before)


def test_what_memory_drops_comes_back_from_disk_with_the_same_bits_and_layout(model, images, tmp_path):
    with Scratch(tmp_path / "features-1f", 2**30) as scratch:
        cache = cache_of(model, images, budget=0, scratch=scratch)
        keys = [(image_id, View(scale)) for image_id in images.ids[:4] for scale in (1.0, 1.5)]
        first = [cache(*key) for key in keys]
        again = [cache(*key) for key in keys]
        assert cache.num_forwards == len(keys)
        for before, after in zip(first, again, strict=True):
            for name in ("features", "activations", "co_activations"):
                assert torch.equal(getattr(before, name), getattr(after, name))
                assert getattr(before, name).stride() == getattr(after, name).stride()
            assert after.co_activations is after.activations
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_file_that_is_full_or_cannot_be_written_leaves_features_to_be_computed(model, images, tmp_path):
    one = cache_of(model, images)(images.ids[0], View()).num_bytes()
    with Scratch(tmp_path / "small", int(1.5 * one)) as small, Scratch(tmp_path / "absent/x", 2**30) as absent:
        for scratch, num_forwards in ((small, 3 + 2), (absent, 3 + 3)):
            cache = cache_of(model, images, budget=0, scratch=scratch)
            for image_id in (*images.ids[:3], *images.ids[:3]):
                cache(image_id, View())
            assert cache.num_forwards == num_forwards


def test_a_scratch_file_that_the_disk_refuses_gives_back_its_room(model, images, tmp_path):
    """Under a quota the space that is free says nothing, and what is left of it is for the results."""
    one = cache_of(model, images)(images.ids[0], View()).num_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Scratch(tmp_path / "features-1f", 2**30) as scratch:
        cache = cache_of(model, images, budget=0, scratch=scratch)
        first, second, third, fourth = images.ids[:4]
        expected = cache(first, View())
        cache(second, View())
        assert (first, View()) in scratch
        resource.setrlimit(resource.RLIMIT_FSIZE, (one // 2, before[1]))
        try:
            cache(third, View())
            cache(fourth, View())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not any((image_id, View()) in scratch for image_id in images.ids)
        assert scratch.num_bytes == 0
        assert torch.equal(cache(first, View()).features, expected.features)
        assert cache.num_forwards == 4 + 1


def test_scratch_files_leave_as_much_free_as_each_takes(model, images, tmp_path, monkeypatch):
    """Several processes fill one disk: what is free is looked at again and again, not once."""
    one = cache_of(model, images)(images.ids[0], View()).num_bytes()
    room = 7 * one
    with Scratch(tmp_path / "features-1f", 2**30) as mine, Scratch(tmp_path / "features-2f", 2**30) as other:
        both = mine, other
        usage = lambda folder: SimpleNamespace(free=room - sum(scratch.num_bytes for scratch in both))  # noqa: E731
        monkeypatch.setattr(shutil, "disk_usage", usage)
        caches = [cache_of(model, images, budget=0, scratch=scratch) for scratch in both]
        for image_id in images.ids[:8]:
            for cache in caches:
                cache(image_id, View())
        assert [scratch.num_bytes // one for scratch in both] == [2, 2]


def test_images_read_ahead_are_used_also_where_others_are_asked_for_between(model, images):
    """Dropped features are read again when needed, and the prefetched image is still the next."""
    seen = []

    def read(image_id):
        seen.append(image_id)
        return images.read_image(image_id)

    cache = FeatureCache(model, read, image_size=SIZE, device=torch.device("cpu"), precision="fp32", budget=0)
    wanted = [(image_id, View()) for image_id in (*images.ids[:2], images.ids[0], images.ids[2], images.ids[3])]
    with cache.reading_ahead(wanted, 1):
        for key in wanted:
            cache(*key)
    assert sorted(seen) == sorted(image_id for image_id, _ in wanted)


@pytest.fixture
def shards(model, images, tmp_path):
    """Caches of two shards, and their scratch files; with no memory to speak of."""
    with ExitStack() as stack:
        files = [stack.enter_context(Scratch(tmp_path / "features-1f", 2**30, is_shared=True)) for _ in range(2)]
        yield [cache_of(model, images, budget=0, scratch=file) for file in files], files
    assert list(tmp_path.iterdir()) == []


def test_what_one_shard_has_computed_the_other_reads(shards, images):
    (mine, other), _ = shards
    for image_id in images.ids[:3]:
        expected, found = mine(image_id, View()), other(image_id, View())
        for name in ("features", "activations"):
            assert torch.equal(getattr(found, name), getattr(expected, name))
            assert getattr(found, name).stride() == getattr(expected, name).stride()
    other(images.ids[3], View())
    mine(images.ids[3], View())
    assert (mine.num_forwards, other.num_forwards) == (3, 1)


def test_images_read_ahead_are_used_also_where_another_shard_computes_some_meanwhile(shards, images):
    (mine, other), _ = shards
    wanted = [(image_id, View()) for image_id in images.ids[:6]]
    with mine.reading_ahead(wanted, 1):
        mine(*wanted[0])
        for key in wanted[1:4]:
            other(*key)
        for key in wanted[1:]:
            mine(*key)
        assert mine._next is None
        assert list(mine._coming) == []
    assert (mine.num_forwards, other.num_forwards) == (3, 3)


def test_what_another_shard_gives_back_to_a_full_disk_is_computed_again(shards, images, tmp_path):
    (mine, other), _ = shards
    expected = mine(images.ids[0], View())
    other(images.ids[0], View())
    other(images.ids[1], View())
    for file in (tmp_path / "features-1f").iterdir():
        file.unlink()
    assert torch.equal(other(images.ids[0], View()).features, expected.features)
    assert other.num_forwards == 2


def test_shards_of_another_topic_share_nothing(model, images, tmp_path):
    with (
        Scratch(tmp_path / "features-1f", 2**30, is_shared=True) as file,
        Scratch(tmp_path / "features-2f", 2**30, is_shared=True) as stranger,
    ):
        cache_of(model, images, scratch=file)(images.ids[0], View())
        assert (images.ids[0], View()) in file
        assert (images.ids[0], View()) not in stranger


@pytest.mark.parametrize("damage", [b"", b"[0]", None], ids=["empty", "short", "flipped"])
def test_what_the_scratch_file_does_not_give_back_is_computed_again(model, images, tmp_path, damage):
    with Scratch(tmp_path / "features-1f", 2**30) as scratch:
        cache = cache_of(model, images, budget=0, scratch=scratch)
        first = [cache(image_id, View()) for image_id in images.ids[:3]]
        for file in (tmp_path / "features-1f").iterdir():
            whole = file.read_bytes()
            file.chmod(0o644)
            file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:] if damage is None else damage)
        again = cache(images.ids[0], View())
        assert torch.equal(first[0].features, again.features)
        assert cache.num_forwards == 4


@pytest.mark.parametrize("heads", ["shared", "separate"])
def test_embeddings_come_back_from_the_scratch_file(images, tmp_path, heads):
    torch.manual_seed(1)
    described = {"backbone": "lite0", "output_stride": 16, "heads": heads, "affinity_init": "identity"}
    model = build_classifier({**described, "num_foreground": 3, "equivariant": True}).eval()
    with Scratch(tmp_path / "features-1f", 2**30) as scratch:
        cache = FeatureCache(
            model,
            images.read_image,
            image_size=SIZE,
            device=torch.device("cpu"),
            precision="fp32",
            budget=0,
            scratch=scratch,
            embeds=True,
        )
        first = cache(images.ids[0], View())
        cache(images.ids[1], View())
        again = cache(images.ids[0], View())
    assert cache.num_forwards == 2
    assert first.embedding is not None
    assert len(again.distinct()) == (3 if heads == "shared" else 4)
    for before, after in zip(first.distinct(), again.distinct(), strict=True):
        assert torch.equal(before, after)
