"""Pseudo masks of a second round: what a network predicts, among the tags of each image, alone or beside maps."""

import json
from copy import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from repairs import make_again
from run_commands import mcis
from tiny_chain import Heard, options

from mcis_cli.config import PseudoConfig
from mcis_cli.errors import UsageError
from mcis_cli.maps.crf import dense_crf
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.pseudo import PREDICTED_FLOOR, agreed, among_tags, mask_of_probabilities, soft_scores
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.engine.predictor import load_segmenter
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.train_seg import run as train_seg
from mcis_cli.store import open_store

NUM_LABELS, SIZE = 4, (3, 5)
PLANES = hnp.arrays(np.float32, (NUM_LABELS, *SIZE), elements=st.floats(0, 1, width=32))
TAGS = st.sets(st.integers(0, NUM_LABELS - 2)).map(sorted)


@given(PLANES, TAGS, st.floats(0, 0.9))
def test_the_mask_is_the_most_probable_of_the_tags_and_background_by_a_loop(planes, tags, least):
    kept = among_tags(planes, tags)
    mask = mask_of_probabilities(kept, tags, min_confidence=least)
    for place in np.ndindex(*SIZE):
        scores = {0: planes[(0, *place)], **{k + 1: planes[(k + 1, *place)] for k in tags}}
        total = sum(scores.values())
        shares = {label: score / total if total else 1 / len(scores) for label, score in scores.items()}
        np.testing.assert_allclose(kept[(slice(None), *place)], list(shares.values()), rtol=1e-5)
        best = max(shares.values())
        if abs(best - least) > 1e-5:
            allowed = {label for label, share in shares.items() if best - share < 1e-5} if best > least else {255}
            assert int(mask[place]) in allowed


def make(chain, *, run=None, store=None, **config):
    settings = chain.settings(pseudo=config).pseudo
    inputs = Inputs(upstream=chain.made["train-seg"], data=chain.data)
    return pseudo.run(settings, inputs, store or chain.store, run or options())


def segmenter_of(chain, **how):
    return load_segmenter(chain.made["train-seg"], scales=(1.0,), window=1024, device=torch.device("cpu"), **how)


def repair_makes_again(masks, chain, call):
    """Spoil the file of masks, and have the command that `verify --repair` prints make it as it was."""
    content = bytearray(masks.path.read_bytes())
    content[len(content) // 2] ^= 1
    masks.path.chmod(0o644)
    masks.path.write_bytes(content)
    make_again(call, chain.folder)
    assert chain.store.get(masks.id).path == masks.path


def test_masks_of_a_network_are_its_predictions_among_the_tags(chain, one_thread):
    artifact, images = make(chain, flip=True, precision="fp32"), chain.images()
    segmenter = segmenter_of(chain, flip=True, precision="fp32")
    assert (artifact.stage, artifact.meta["background"]) == ("pseudo", "network")
    assert artifact.ids == images.split("train").ids
    for image_id in artifact.ids[:4]:
        labels, fields = images[image_id].labels, artifact.read(image_id)
        probabilities = segmenter.probabilities(images.read_image(image_id))[[0, *(k + 1 for k in labels)]]
        expected = np.array([0, *(k + 1 for k in labels)])[probabilities.argmax(axis=0)]
        np.testing.assert_array_equal(fields["mask"], expected)
        assert fields["classes"].tolist() == list(labels)


def test_a_crf_and_a_least_confidence_do_what_they_say(chain, one_thread):
    artifact, images = make(chain, crf=True, min_confidence=0.9), chain.images()
    image_id = artifact.ids[0]
    segmenter = segmenter_of(chain, flip=False, precision=artifact.manifest["recipe"]["config"]["precision"])
    image, labels = images.read_image(image_id), images[image_id].labels
    terms = PseudoConfig().crf_settings.model_dump()
    refined = dense_crf(image, among_tags(segmenter.probabilities(image), labels), **terms)
    expected = np.array([0, *(k + 1 for k in labels)])[refined.argmax(axis=0)]
    expected[refined.max(axis=0) < 0.9] = 255
    np.testing.assert_array_equal(artifact.read(image_id)["mask"], expected)


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_workers_change_nothing(chain, tmp_path, one_thread):
    heard, first = Heard(), make(chain, crf=True)
    assert make(chain, crf=True, run=options(reporter=heard)).path == first.path
    assert not heard.started
    assert make(chain, crf=True, store=open_store(tmp_path), run=options(workers=1)).id == first.id


def test_settings_for_maps_do_not_count(chain):
    assert make(chain, background="constant", background_score=0.7).id == make(chain).id


def test_maps_and_classifiers_are_no_networks(chain):
    inputs = Inputs(upstream=chain.made["train-cls"], data=chain.data)
    with pytest.raises(UsageError, match="expected an artifact of cams or average or affinity or train-seg"):
        pseudo.run(PseudoConfig(), inputs, chain.store, options())


@pytest.mark.slow
def test_the_command_makes_them_a_network_learns_from_them_and_a_repair_makes_them_again(chain_copy, one_thread, call):
    network = chain_copy.made["train-seg"].path.stem
    answer = mcis("pseudo", network, "--flip", "--background", "power", "--json", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert "--background has no effect on masks of a network" in answer.err
    masks = chain_copy.store.get(json.loads(answer.out)["id"])
    inputs = Inputs(upstream=masks, data=chain_copy.data)
    second = train_seg.run(chain_copy.settings().train_seg, inputs, chain_copy.store, options())
    assert second.id != chain_copy.made["train-seg"].id
    repair_makes_again(masks, chain_copy, call)


WITNESSES = hnp.arrays(np.float32, (2, NUM_LABELS, *SIZE), elements=st.floats(0, 1, width=32))


@given(WITNESSES, st.floats(0.1, 10))
def test_two_witnesses_agree_on_the_product_of_what_they_say_by_a_loop(planes, weight):
    first, second = (among_tags(plane, range(NUM_LABELS - 1)) for plane in planes)
    both = agreed(first, second, weight=weight)
    for place in np.ndindex(*SIZE):
        at = (slice(None), *place)
        odds = [float(a) * max(float(b), PREDICTED_FLOOR) ** weight for a, b in zip(first[at], second[at], strict=True)]
        np.testing.assert_allclose(both[at], np.array(odds) / sum(odds), rtol=1e-3, atol=1e-6)


def test_a_label_that_nobody_else_leaves_has_all_the_probability_whatever_the_weight():
    first = np.array([1, 0, 0], np.float32)[:, None, None]
    second = np.array([0, 0.5, 0.5], np.float32)[:, None, None]
    assert agreed(first, second, weight=1e4).ravel().tolist() == [1, 0, 0]


def beside_maps(chain, *, run=None, store=None, network="train-seg", **config):
    chosen = {"fusion": "soft", "background": "constant", **config}
    settings = chain.settings(pseudo=chosen).pseudo
    inputs = Inputs(upstream=chain.made["cams"], data=chain.data, network=chain.made.get(network))
    return pseudo.run(settings, inputs, store or chain.store, run or options())


@pytest.mark.parametrize("crf", [False, True])
def test_masks_of_maps_and_a_network_are_what_both_say(chain, one_thread, crf):
    artifact, images = beside_maps(chain, precision="fp32", flip=True, network_weight=0.5, crf=crf), chain.images()
    segmenter, settings = segmenter_of(chain, flip=True, precision="fp32"), PseudoConfig()
    assert artifact.inputs["network"] == chain.made["train-seg"].id
    for image_id in artifact.ids[:4]:
        image, labels = images.read_image(image_id), images[image_id].labels
        maps = chain.made["cams"].read(image_id)["maps"].astype(np.float32)
        maps = normalise(enlarge(maps, *image.shape[:2]), "minmax")
        background = np.full(image.shape[:2], settings.background_score, np.float32)
        scores = soft_scores(maps, background, sharpness=settings.sharpness)
        both = agreed(scores, among_tags(segmenter.probabilities(image), labels), weight=0.5)
        if crf:
            both = dense_crf(image, both, **settings.crf_settings.model_dump())
        expected = mask_of_probabilities(both, labels, min_confidence=0)
        np.testing.assert_array_equal(artifact.read(image_id)["mask"], expected)


def test_a_network_beside_maps_is_part_of_the_recipe_and_settings_of_it_have_no_effect_without(chain, one_thread):
    first, heard = beside_maps(chain), Heard()
    assert beside_maps(chain, run=options(reporter=heard)).path == first.path
    assert not heard.started
    assert beside_maps(chain, network_weight=2.0).manifest["key"] != first.manifest["key"]
    without = beside_maps(chain, network=None)
    assert without.manifest["key"] != first.manifest["key"]
    assert beside_maps(chain, network=None, network_weight=2.0, flip=True).path == without.path


@pytest.mark.slow
def test_workers_change_nothing_beside_maps(chain, tmp_path, one_thread):
    first = beside_maps(chain, crf=True)
    assert beside_maps(chain, crf=True, store=open_store(tmp_path), run=options(workers=1)).id == first.id


def test_a_network_beside_maps_has_to_be_one_and_asks_for_probabilities(chain):
    with pytest.raises(UsageError, match=r"was made by cams: expected a segmentation network.*`mcis ls`"):
        beside_maps(chain, network="cams")
    other = copy(chain.made["train-seg"])
    other.manifest = {**other.manifest, "meta": {**other.meta, "class_names": ["disc"]}}
    settings = chain.settings(pseudo={"fusion": "soft", "background": "constant"}).pseudo
    inputs = Inputs(upstream=chain.made["cams"], data=chain.data, network=other)
    with pytest.raises(UsageError, match=r"knows 1 class, not those of .*, which has 3"):
        pseudo.run(settings, inputs, chain.store, options())
    with pytest.raises(UsageError, match="found --fusion hard, which has none: give --fusion soft"):
        beside_maps(chain, fusion="hard")


@pytest.mark.slow
def test_the_command_asks_maps_and_network_and_a_repair_makes_the_masks_again(chain_copy, one_thread, call):
    maps, network = (chain_copy.made[stage].path.stem for stage in ("cams", "train-seg"))
    command = ("pseudo", maps, "--network", network, "--fusion", "soft", "--background", "constant")
    before = mcis(*command, "--dry-run", "--json", cwd=chain_copy.folder)
    assert before.code == 0, before.err
    answer = mcis(*command, "--json", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    masks = chain_copy.store.get(json.loads(answer.out)["id"])
    after = mcis(*command, "--dry-run", "--json", cwd=chain_copy.folder)
    assert (masks.path.stem in before.out, masks.path.stem in after.out) == (False, True)
    assert mcis("pseudo", network, "--network", network, cwd=chain_copy.folder).code == 2
    repair_makes_again(masks, chain_copy, call)
