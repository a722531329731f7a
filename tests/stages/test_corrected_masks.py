"""Corrected masks count: `pseudo` uses them as they are, `train-seg` draws them more often, and every score says so."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from repairs import make_again
from tiny_chain import options

from mcis_cli.config import TrainSegConfig
from mcis_cli.data.palette import write_mask_png
from mcis_cli.errors import UsageError
from mcis_cli.interop.imports import corrected as importing
from mcis_cli.stages.engine.crops import Crops
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.plan.lineage import beyond_tags
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.train_seg import run as train_seg

SAYS = "uses corrected masks of 2 of 16 images, so it rests on more than tags"


@pytest.fixture(scope="module")
def by_hand(chain, tmp_path_factory):
    """Two corrected masks: one wholly of a class that its image is not tagged with, one of background and a hole."""
    folder, masks, images = tmp_path_factory.mktemp("by hand"), chain.made["pseudo"], chain.images()
    (first, second), planes = masks.ids[:2], [np.zeros_like(masks.read(one)["mask"]) for one in masks.ids[:2]]
    planes[0] += 1 + next(k for k in range(3) if k not in images[first].labels)
    planes[1][4:20, 5:30] = 255
    for image_id, plane in zip((first, second), planes, strict=True):
        (folder / f"{image_id}.png").write_bytes(write_mask_png(plane))
    return importing.run(folder, Inputs(upstream=masks), chain.store, options(), note="by Ada")


def make(chain, by_hand, *, of="cams", network=None, **config):
    inputs = Inputs(upstream=chain.made[of], data=chain.data, network=network, corrected=by_hand)
    return pseudo.run(chain.settings(pseudo=config).pseudo, inputs, chain.store, options())


@pytest.mark.parametrize(
    ("of", "beside", "config"),
    [
        ("cams", False, {}),
        ("cams", False, {"fusion": "soft", "crf": True}),
        ("cams", True, {"fusion": "soft", "background": "constant"}),
        ("train-seg", False, {}),
    ],
)
def test_a_corrected_mask_wins_and_all_others_are_as_without(chain, by_hand, one_thread, of, beside, config):
    network = chain.made["train-seg"] if beside else None
    masks = make(chain, by_hand, of=of, network=network, **config)
    without = make(chain, None, of=of, network=network, **config)
    assert masks.inputs == {**without.inputs, "corrected": by_hand.id}
    assert masks.meta == {**without.meta, "corrected": list(by_hand.ids)}
    for image_id in masks.ids:
        found, before = masks.read(image_id), without.read(image_id)
        if image_id in by_hand:
            np.testing.assert_array_equal(found["mask"], by_hand.read(image_id)["mask"])
            assert found["classes"].tolist() == [k for k in range(3) if (found["mask"] == k + 1).any()]
        else:
            np.testing.assert_array_equal(found["mask"], before["mask"])
            np.testing.assert_array_equal(found["classes"], before["classes"])
    assert make(chain, by_hand, of=of, network=network, **config).path == masks.path


def test_without_corrections_the_recipe_is_the_same_as_ever(chain):
    assert make(chain, None).id == chain.made["pseudo"].id


def test_other_artifacts_and_other_classes_are_no_corrections(chain, by_hand):
    with pytest.raises(UsageError, match=r"was made by cams: expected corrected masks; `mcis import --corrected"):
        make(chain, chain.made["cams"])
    other = type(by_hand)(by_hand.path)
    other.manifest = {**other.manifest, "meta": {**other.meta, "class_names": ["disc", "square", "star"]}}
    with pytest.raises(UsageError, match=r"has other classes than cams-.*: expected the same, in the same order"):
        make(chain, other)


def trained(chain, masks, **config):
    settings = chain.settings(train_seg=config).train_seg
    return train_seg.run(settings, Inputs(upstream=masks, data=chain.data), chain.store, options())


def test_the_weight_counts_for_corrected_masks_alone(chain, by_hand, one_thread):
    masks = make(chain, by_hand)
    once, often = trained(chain, masks), trained(chain, masks, corrected_weight=3)
    assert "corrected_weight" not in once.manifest["recipe"]["config"]
    assert often.manifest["recipe"]["config"]["corrected_weight"] == 3
    assert often.id != once.id
    assert trained(chain, chain.made["pseudo"], corrected_weight=3).id == chain.made["train-seg"].id


def test_an_image_that_is_listed_three_times_is_drawn_three_times_with_a_view_each():
    seen: list[tuple[str, float]] = []

    def view(image_id, draw):
        seen.append((image_id, draw.random()))
        return torch.zeros(3, 2, 2), torch.zeros(2, 2, dtype=torch.uint8)

    def drawn(ids):
        seen.clear()
        config = TrainSegConfig(batch_size=2, precision="fp32")
        list(Crops(view=view, ids=ids, config=config, workers=0, device=torch.device("cpu")).batches(0, 0))
        return sorted(seen)

    plain, often = drawn(["a", "b", "c"]), drawn(["a", "b", "c", "b", "b"])
    assert Counter(image_id for image_id, _ in often) == {"a": 1, "b": 3, "c": 1}
    assert len({value for _, value in often}) == 5
    assert set(plain) < set(often)  # the first view of each is that of a pass without repetitions


def test_every_result_says_how_many_masks_were_corrected(chain, by_hand, one_thread):
    masks = make(chain, by_hand)
    network = trained(chain, masks)
    scores = evaluate.run(chain.settings().eval, Inputs(upstream=network, data=chain.data), chain.store, options())
    second = make(chain, None, network=network, fusion="soft", background="constant")
    for artifact in (masks, network, scores, second):
        assert SAYS in beyond_tags(artifact, chain.store)
    assert SAYS not in beyond_tags(chain.made["eval"], chain.store)


@pytest.mark.slow
def test_the_commands_foretell_make_and_repair_masks_with_corrections(chain_copy, one_thread, call, tmp_path):
    masks, folder = chain_copy.made["pseudo"], chain_copy.folder
    image_id, *_ = masks.ids
    (tmp_path / "fixed").mkdir()
    (tmp_path / f"fixed/{image_id}.png").write_bytes(write_mask_png(np.ones_like(masks.read(image_id)["mask"])))
    by_hand = json.loads(call("import", "--corrected", tmp_path / "fixed", "--json", cwd=folder).out)["id"]
    command = ("pseudo", chain_copy.made["cams"].id, "--corrected", by_hand[:12], "--json")
    foretold = json.loads(call(*command, "--dry-run", cwd=folder).out)["stages"][0]
    assert foretold["why"][0].startswith("inputs.corrected: none, now ")
    answer = call(*command, cwd=folder)
    made = chain_copy.store.get(json.loads(answer.out)["id"])
    assert json.loads(call(*command, "--dry-run", cwd=folder).out)["stages"][0]["artifact"] == made.path.stem
    warned = call("train-seg", masks.id, "--corrected-weight", "2", "--dry-run", cwd=folder)
    assert warned.code == 0, warned.err
    warned = call("train-seg", masks.id, "--corrected-weight", "2", cwd=folder)
    assert "--corrected-weight has no effect on masks without corrections" in warned.err
    scored = call("eval", made.id, cwd=folder)
    assert "uses corrected masks of 1 of 16 images" in " ".join(scored.err.split())
    content = bytearray(made.path.read_bytes())
    content[len(content) // 2] ^= 1
    made.path.chmod(0o644)
    made.path.write_bytes(content)
    make_again(call, folder)
    assert chain_copy.store.get(made.id).path == made.path
