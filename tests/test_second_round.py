"""Pseudo masks of a second round: what a network predicts, among the tags of each image."""

import json

import numpy as np
import pytest
import torch
from chains import Heard, mcis, options
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mcis_cli.config import PseudoConfig
from mcis_cli.errors import UsageError
from mcis_cli.maps.crf import dense_crf
from mcis_cli.maps.pseudo import among_tags, mask_of_probabilities
from mcis_cli.stages import second_round, train_seg
from mcis_cli.stages.inputs import Inputs
from mcis_cli.stages.segmenting import load_segmenter
from mcis_cli.store import open_store
from mcis_cli.store.verification import verify

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
    return second_round.run(settings, inputs, store or chain.store, run or options())


def segmenter_of(chain, **how):
    return load_segmenter(chain.made["train-seg"], scales=(1.0,), window=1024, device=torch.device("cpu"), **how)


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


def test_a_second_run_computes_nothing_and_workers_change_nothing(chain, tmp_path, one_thread):
    heard, first = Heard(), make(chain, crf=True)
    assert make(chain, crf=True, run=options(reporter=heard)).path == first.path
    assert not heard.started
    assert make(chain, crf=True, store=open_store(tmp_path), run=options(workers=1)).id == first.id


def test_settings_for_maps_do_not_count(chain):
    assert make(chain, background="constant", background_score=0.7).id == make(chain).id
    assert second_round.without_effect({"background": "power", "flip": True, "crf": None}) == ["background"]


def test_maps_and_classifiers_are_no_networks(chain):
    inputs = Inputs(upstream=chain.made["train-cls"], data=chain.data)
    with pytest.raises(UsageError, match="expected an artifact of train-seg"):
        second_round.run(PseudoConfig(), inputs, chain.store, options())


@pytest.mark.slow
def test_the_command_makes_them_a_network_learns_from_them_and_a_repair_makes_them_again(chain_copy, one_thread):
    network = chain_copy.made["train-seg"].path.stem
    answer = mcis("pseudo", network, "--flip", "--background", "power", "--json", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert "--background has no effect on masks of a network" in answer.err
    masks = chain_copy.store.get(json.loads(answer.out)["id"])
    inputs = Inputs(upstream=masks, data=chain_copy.data)
    second = train_seg.run(chain_copy.settings().train_seg, inputs, chain_copy.store, options())
    assert second.id != chain_copy.made["train-seg"].id

    content = bytearray(masks.path.read_bytes())
    content[len(content) // 2] ^= 1
    masks.path.chmod(0o644)
    masks.path.write_bytes(content)
    repaired = mcis("verify", "--repair", cwd=chain_copy.folder)
    assert repaired.code == 0, repaired.err
    assert verify(chain_copy.store).findings == []
    assert chain_copy.store.get(masks.id).path == masks.path
