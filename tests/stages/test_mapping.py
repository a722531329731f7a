"""Maps from cached features against the plain forward of each pair, for every option."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_features import CPU, SIZE, features_of
from released_maps import released_maps

from mcis_cli.config import CamsConfig
from mcis_cli.data.augment import normalise, warp
from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.classifier import CoAttentionClassifier
from mcis_cli.models.co_attention import co_attend, mix
from mcis_cli.models.equivariance import cues_of, refine
from mcis_cli.models.reference import contrastive
from mcis_cli.stages.cams.features import FeatureCache, View
from mcis_cli.stages.cams.mapping import Mapper
from mcis_cli.stages.engine.networks import backbone_of
from mcis_cli.training.initial_weights import load_initial_weights

CLOSE = {"rtol": 0, "atol": 1e-4}


def build(heads, **config):
    torch.manual_seed(3)
    backbone = build_backbone("lite0", output_stride=16)
    backbone.initialise(load_initial_weights("lite0", None).state)
    model = CoAttentionClassifier(backbone, 3, heads=heads, affinity_init="identity", **config)
    with torch.no_grad():  # biases and masks that are not zero, and attention that is neither flat nor one-hot
        model.class_head.bias.uniform_(-1, 1)
        model.co_attention.mask_conv.weight.normal_(std=0.05)
        model.co_attention.mask_conv.bias.fill_(0.3)
        model.co_attention.affinity_weight += 1e-4 * torch.randn_like(model.co_attention.affinity_weight)
    return model.eval()


@pytest.fixture(scope="module", params=["shared", "separate", "scaled"])
def model(request, one_thread):
    return build("shared", affinity_scale=30.0) if request.param == "scaled" else build(request.param)


@pytest.fixture(scope="module")
def images(chain):
    return chain.images().split("train")


def mapper_of(model, images, *, budget=2**30, **config):
    cache = FeatureCache(model, images.read_image, image_size=SIZE, device=CPU, precision="fp32", budget=budget)
    return Mapper(model, cache, CamsConfig(precision="fp32", image_size=SIZE, **config), images)


def coattentive_of(model, features_m, features_n):
    """F_m^{m∩n} (Eq. 4), of affinities that may be of features of unit length."""
    _, attention_over_n = model.co_attention.attentions(features_m, features_n)
    return mix(features_n, attention_over_n, features_m.shape[2:])


@torch.inference_mode()
def pair_map(model, features_m, features_n, k):
    """φ(F_m^{m∩n})_k as it is written in the paper: all features are mixed, then the head is applied."""
    coattentive_m = coattentive_of(model, features_m, features_n)
    return (model.co_class_head or model.class_head)(coattentive_m)[0, k]


@torch.inference_mode()
def contrastive_map(model, features_m, features_n, k):
    """φ(F_m^{m∖n})_k: all features are faded, then the head is applied."""
    coattentive_m = coattentive_of(model, features_m, features_n)
    faded = contrastive(features_m, coattentive_m, model.co_attention.mask_conv)
    return (model.co_class_head or model.class_head)(faded)[0, k]


def image_of(images, num_labels):
    return next(entry for entry in images.entries if len(entry.labels) == num_labels)


def found_and_expected(model, images, entry, *, expected, **config):
    """The maps of an image, and those that `expected(references, k)` says."""
    mapper = mapper_of(model, images, **config)
    references = mapper.references(entry)
    return mapper.maps(entry, references), torch.stack([expected(references, k) for k in entry.labels]).numpy()


@pytest.mark.parametrize("num_references", [1, 3])
def test_maps_are_the_mean_over_references_of_the_plain_forward_of_each_pair(model, images, num_references):
    entry = image_of(images, 2)
    own = features_of(model, images, entry.id)

    def expected(references, k):
        assert len(references[k]) == num_references
        others = [features_of(model, images, reference) for reference in references[k]]
        return torch.stack([pair_map(model, own, other, k) for other in others]).mean(0)

    found, wanted = found_and_expected(model, images, entry, expected=expected, refs=num_references)
    np.testing.assert_allclose(found, wanted, **CLOSE)


@torch.inference_mode()
@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_maps_of_images_without_a_class_are_subtracted(model, images, weight):
    """The map of a class is its mean over references with the class, less the weighted mean over those without it."""
    entry = image_of(images, 2)
    own = features_of(model, images, entry.id)
    lacking = {k: [e.id for e in images.entries if e.is_labelled and k not in e.labels][:2] for k in entry.labels}
    assert all(len(ids) == 2 for ids in lacking.values())

    class Chosen:
        def __call__(self, image_id, k):
            return tuple(one for one in images.carriers(k) if one != image_id)[:3]

        def without(self, image_id, k):
            return tuple(lacking[k])

    def mean_of(ids, k):
        return torch.stack([pair_map(model, own, features_of(model, images, one), k) for one in ids]).mean(0)

    config = {"reference_choice": "nearest", "refs": 3, "refs_without": 2, "weight_without": weight}
    mapper = replace(mapper_of(model, images, **config), nearest=Chosen())
    references = mapper.references(entry)
    expected = torch.stack([mean_of(references[k], k) - weight * mean_of(lacking[k], k) for k in entry.labels]).numpy()
    np.testing.assert_allclose(mapper.maps(entry, references), expected, **CLOSE)


def test_bfloat16_features_give_the_maps_of_the_plain_forward_of_each_pair(model, images):
    """From the same bfloat16 features, the pairs in float32: the rounding of G alone is between them."""
    entry = image_of(images, 2)
    cache = FeatureCache(model, images.read_image, image_size=128, device=CPU, precision="bf16", budget=2**30)
    mapper = Mapper(model, cache, CamsConfig(image_size=128, refs=3), images)
    references = mapper.references(entry)

    def wide(image_id):
        features = cache(image_id, View()).features
        assert features.dtype == torch.bfloat16
        return features[None].float()

    for k, found in zip(entry.labels, mapper.maps(entry, references), strict=True):
        pairs = [pair_map(model, wide(entry.id), wide(reference), k) for reference in references[k]]
        expected = torch.stack(pairs).mean(0).numpy()

        assert np.abs(found - expected).max() < np.ptp(expected) / 200


def test_maps_of_one_reference_are_those_of_the_fixed_function(images):
    model = build("shared")
    entry = image_of(images, 2)
    own = features_of(model, images, entry.id)

    @torch.inference_mode()
    def expected(references, k):
        other = features_of(model, images, references[k][0])
        return model.class_head(co_attend(own, other, model.co_attention.affinity_weight)[0])[0, k]

    found, wanted = found_and_expected(model, images, entry, expected=expected, refs=1)
    np.testing.assert_allclose(found, wanted, **CLOSE)


@torch.inference_mode()
def test_maps_of_scaled_affinities_are_the_common_scores_of_their_pairs(images):
    model = build("shared", affinity_scale=30.0)
    plain, entry = build("shared"), image_of(images, 2)
    mapper = mapper_of(model, images, refs=1)
    references = mapper.references(entry)
    found = mapper.maps(entry, references)
    assert np.abs(found - mapper_of(plain, images, refs=1).maps(entry, references)).max() > 1e-3
    for place, k in enumerate(entry.labels):
        pair = [features_of(model, images, image_id) for image_id in (entry.id, references[k][0])]
        scores = model.pair_from_features(*pair)
        assert found[place].mean() == pytest.approx(float(scores.common_scores_m[0, k]), abs=1e-4)


@torch.inference_mode()
def test_the_mean_of_a_map_of_one_reference_is_the_common_score_of_the_pair(model, images):
    entry = image_of(images, 2)
    mapper = mapper_of(model, images, refs=1)
    references = mapper.references(entry)
    found = mapper.maps(entry, references)
    for place, k in enumerate(entry.labels):
        pair = [features_of(model, images, image_id) for image_id in (entry.id, references[k][0])]
        scores = model.pair_from_features(*pair)
        assert found[place].mean() == pytest.approx(float(scores.common_scores_m[0, k]), abs=1e-4)


def test_single_round_maps_are_the_activation_maps_of_the_image(model, images):
    entry = image_of(images, 3)
    with torch.inference_mode():
        wanted = model.class_head(features_of(model, images, entry.id))[0, list(entry.labels)].numpy()
    mapper = mapper_of(model, images, refs=0)
    np.testing.assert_allclose(mapper.maps(entry, mapper.references(entry)), wanted, **CLOSE)


def test_contrastive_maps_of_references_without_a_class_are_averaged_in(model, images):
    entry = image_of(images, 2)
    own = features_of(model, images, entry.id)
    num_contrastive = 0

    def expected(references, k):
        nonlocal num_contrastive
        maps = []
        for reference in sorted({r for ids in references.values() for r in ids}):
            other = features_of(model, images, reference)
            if reference in references[k]:
                maps.append(pair_map(model, own, other, k))
            if k not in images[reference].labels:
                maps.append(contrastive_map(model, own, other, k))
                num_contrastive += 1
        return torch.stack(maps).mean(0)

    found, wanted = found_and_expected(model, images, entry, expected=expected, refs=3, with_contrastive=True)
    assert num_contrastive
    np.testing.assert_allclose(found, wanted, **CLOSE)


def test_scales_and_mirror_are_averaged_on_the_grid_of_the_first_scale(model, images):
    entry = image_of(images, 1)

    def at(scale, mirrored):
        def expected(references, k):
            own = features_of(model, images, entry.id, scale=scale, mirrored=mirrored)
            others = [features_of(model, images, reference, scale=scale) for reference in references[k]]
            return torch.stack([pair_map(model, own, other, k) for other in others]).mean(0)

        return expected

    def resized(tensor):
        """Bilinear and with areas for pixels; the second scale has twice the grid: Pillow's triangle of width 2."""
        weights = np.zeros((4, 8))
        for row in range(4):
            distance = np.abs((np.arange(8) + 0.5) - (2 * row + 1)) / 2
            weights[row] = np.clip(1 - distance, 0, None)
            weights[row] /= weights[row].sum()
        return weights @ tensor.numpy().astype(np.float64) @ weights.T

    mapper = mapper_of(model, images, refs=2, scales=(1.0, 2.0), flip=True)
    references = mapper.references(entry)
    (k,) = entry.labels
    wanted = (
        at(1.0, False)(references, k).numpy()
        + at(1.0, True)(references, k).numpy()[:, ::-1]
        + resized(at(2.0, False)(references, k))
        + resized(at(2.0, True)(references, k))[:, ::-1]
    ) / 4
    np.testing.assert_allclose(mapper.maps(entry, references)[0], wanted, **CLOSE)


@pytest.fixture(scope="module")
def released(images, one_thread):
    """A mapper of a classifier whose W_P is far from symmetric; an image, its references, and what the released code
    makes of them."""
    model = build("separate")
    with torch.no_grad():
        weight = model.co_attention.affinity_weight
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)) / weight.shape[0])
    entry = image_of(images, 2)
    mapper = mapper_of(model, images, refs=2, localization="released", reference_replacement=True, reference_self=True)
    references = mapper.references(entry)

    def at(image_id, **view):
        return features_of(model, images, image_id, **view)[0].double().numpy()

    views = {"mirror": {"mirrored": True}, "smaller": {"scale": 0.75}, "larger": {"scale": 2.0}}
    features = {"plain": at(entry.id), **{name: at(entry.id, **view) for name, view in views.items()}}
    others = {k: [at(reference) for reference in ids] for k, ids in references.items()}
    head = model.co_class_head.weight.detach().double().numpy()[:, :, 0, 0]
    learnt = weight.detach().double().numpy()

    def oracle(transposed=False):
        # There W is applied to the features of I, which Eq. 2 multiplies by W_P's transpose.
        found = released_maps(features, others, learnt if transposed else learnt.T, head)
        return np.stack([found[k] for k in entry.labels])

    return mapper, entry, references, oracle


def test_released_maps_are_those_of_the_authors_code(released):
    mapper, entry, references, oracle = released
    found, wanted = 255 * mapper.maps(entry, references), oracle()
    assert wanted.max() > 100, "an answer that says something"
    assert np.abs(found - wanted).max() <= 1.001  # cut to bytes: what lies at a whole number may fall either way
    assert np.mean(np.abs(found - wanted) > 0.5) < 0.05
    assert np.abs(found - oracle(transposed=True)).max() > 20, "a transposed W_P would show"


def test_released_maps_keep_their_bytes_in_half_precision(released):
    mapper, entry, references, _ = released
    stored = 255 * mapper.maps(entry, references).astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(stored, np.rint(stored), atol=0.1)


def test_a_reference_that_was_drawn_twice_counts_twice(model, images):
    entry = image_of(images, 1)
    (k,) = entry.labels
    first, second = [image_id for image_id in images.carriers(k) if image_id != entry.id][:2]
    mapper = mapper_of(model, images, refs=3, reference_replacement=True)
    own = features_of(model, images, entry.id)
    maps = {r: pair_map(model, own, features_of(model, images, r), k) for r in (first, second)}
    wanted = (2 * maps[first] + maps[second]) / 3
    np.testing.assert_allclose(mapper.maps(entry, {k: (first, second, first)})[0], wanted.numpy(), **CLOSE)


def test_a_class_without_other_images_has_its_single_round_map(model, images):
    entry = image_of(images, 2)
    alone, shared = entry.labels
    entries = [e if e.id == entry.id else replace(e, labels=tuple(set(e.labels) - {alone})) for e in images.entries]
    lonely = replace(images, entries=tuple(entries))
    mapper = mapper_of(model, lonely, refs=2)
    references = mapper.references(entry)
    assert references[alone] == ()
    assert len(references[shared]) == 2
    with torch.inference_mode():
        single = model.class_head(features_of(model, images, entry.id))[0, alone]
    np.testing.assert_allclose(mapper.maps(entry, references)[0], single.numpy(), **CLOSE)


def test_an_image_without_tags_has_no_maps(model, images):
    entry = replace(images.entries[0], labels=())
    for localization in ("references", "released"):
        mapper = mapper_of(model, images, refs=2, localization=localization)
        _, fields = mapper.record(entry)
        assert fields["maps"].shape[0] == 0
        assert fields["maps"].ndim == 3
        assert fields["references"].tobytes() == b"{}"


def test_a_record_holds_half_precision_maps_their_classes_and_their_references(model, images):
    entry = image_of(images, 3)
    mapper = mapper_of(model, images, refs=2)
    image_id, fields = mapper.record(entry)
    references = mapper.references(entry)
    assert image_id == entry.id
    assert fields["maps"].dtype == np.float16
    np.testing.assert_array_equal(fields["maps"], mapper.maps(entry, references).astype(np.float16))
    assert fields["classes"].tolist() == list(entry.labels)
    named = json.loads(fields["references"].tobytes())
    assert named == {images.class_names[k]: list(ids) for k, ids in references.items()}


@pytest.mark.parametrize("num_references", [0, 1, 5, 50])
def test_references_are_distinct_carry_the_class_and_are_never_the_image_itself(model, images, num_references):
    mapper = mapper_of(model, images, refs=num_references)
    for entry in images.entries:
        references = mapper.references(entry)
        assert tuple(references) == entry.labels
        for k, ids in references.items():
            assert len(set(ids)) == len(ids) == min(num_references, len(images.carriers(k)) - 1)
            assert set(ids) <= set(images.carriers(k)) - {entry.id}


@pytest.mark.slow
def test_records_are_the_same_bits_whatever_is_cached_and_in_whatever_order(images):
    model = build("shared")

    def records(budget, entries):
        mapper = mapper_of(model, images, refs=2, flip=True, with_contrastive=True, budget=budget)
        return dict(mapper.record(entry) for entry in entries), mapper.features.num_forwards

    large, num_forwards = records(2**30, images.entries)
    tiny, num_forwards_tiny = records(1, images.entries[::-1])
    assert num_forwards_tiny > num_forwards == 2 * len(images)
    for image_id, fields in large.items():
        for name, values in fields.items():
            np.testing.assert_array_equal(values, tiny[image_id][name])


@pytest.fixture(scope="module")
def equivariant(one_thread):
    torch.manual_seed(4)
    backbone = build_backbone("lite0", output_stride=16)
    backbone.initialise(load_initial_weights("lite0", None).state)
    return CoAttentionClassifier(backbone, 3, affinity_init="identity", equivariant=True).eval()


@pytest.mark.parametrize("refs", [0, 2])
def test_refined_maps_share_scores_between_positions_that_look_alike(equivariant, images, refs):
    entry = image_of(images, 2)
    plain = mapper_of(equivariant, images, refs=refs)
    maps = plain.maps(entry, plain.references(entry))
    cache = FeatureCache(
        equivariant, images.read_image, image_size=SIZE, device=CPU, precision="fp32", budget=2**30, embeds=True
    )
    mapper = Mapper(equivariant, cache, CamsConfig(precision="fp32", image_size=SIZE, refs=refs, refine=True), images)
    found = mapper.maps(entry, mapper.references(entry))
    backbone = backbone_of(equivariant)
    image = normalise(warp(images.read_image(entry.id), SIZE), backbone.mean, backbone.std)[None]
    with torch.inference_mode():
        _, embedding = equivariant.features_and_embedding(image)
        expected = refine(cues_of(torch.from_numpy(maps)[None]), embedding)[0, 1:]
    np.testing.assert_allclose(found, expected.numpy(), **CLOSE)
    assert found.min() >= 0
