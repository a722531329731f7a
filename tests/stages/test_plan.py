"""How much of a configured chain is done: found by recipes alone."""

import pytest
from tiny_chain import Heard, options

from mcis_cli.errors import WeightsError
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.plan.chain import chain_of, plan
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.stages.train_seg import run as train_seg
from mcis_cli.store import open_store


def planned(chain, **sections):
    return {one.stage: one.artifact for one in plan(chain.settings(**sections), chain.data, chain.store)}


def test_every_stage_of_a_chain_that_is_done_is_found(chain):
    found = planned(chain)
    assert tuple(found) == tuple(chain_of(chain.settings()))
    assert {stage: artifact.id for stage, artifact in found.items()} == {
        stage: artifact.id for stage, artifact in chain.made.items()
    }


def test_nothing_is_planned_after_a_stage_that_is_not_done(chain):
    found = planned(chain, pseudo={"min_foreground": 0.5})
    assert tuple(found) == ("train-cls", "cams", "pseudo")
    assert found["cams"].id == chain.made["cams"].id
    assert found["pseudo"] is None


def test_an_empty_store_has_the_first_stage_to_do(chain, tmp_path):
    steps = list(plan(chain.settings(), chain.data, open_store(tmp_path / ".mcis")))
    assert [(step.stage, step.artifact) for step in steps] == [("train-cls", None)]


def test_an_automatic_precision_is_whichever_there_is(chain):
    sections = {name: {"precision": "auto"} for name in ("train_cls", "cams", "train_seg", "eval")}
    assert planned(chain, **sections).keys() == chain_of(chain.settings()).keys()
    assert planned(chain, train_cls={"precision": "bf16"}) == {"train-cls": None}


def test_what_is_planned_as_done_is_found_done_at_whichever_precision(chain, monkeypatch):
    """As on a laptop with the store of a cluster: `status` and the stages agree, and nothing is trained anew."""
    monkeypatch.setattr("mcis_cli.training.precision.cpu_has_bf16", lambda: True)  # the chain is of fp32
    sections = {name: {"precision": "auto"} for name in ("train_cls", "cams", "train_seg", "eval")}
    settings, found = chain.settings(**sections), planned(chain, **sections)
    upstream = None
    for stage, run, config in (
        ("train-cls", train_cls.run, settings.train_cls),
        ("cams", cams.run, settings.cams),
        ("pseudo", pseudo.run, settings.pseudo),
        ("train-seg", train_seg.run, settings.train_seg),
        ("eval", evaluate.run, settings.eval),
    ):
        heard = Heard()
        upstream = run(config, Inputs(upstream=upstream, data=chain.data), chain.store, options(reporter=heard))
        assert upstream.id == found[stage].id
        assert heard.started == []


@pytest.mark.slow
def test_full_supervision_needs_no_classifier(chain, tmp_path):
    settings = chain.settings(train_seg={"supervision": "full"})
    store = open_store(tmp_path / ".mcis")
    assert [(one.stage, one.artifact) for one in plan(settings, chain.data, store)] == [
        ("train-cls", None),
        ("train-seg", None),
    ]
    network = train_seg.run(settings.train_seg, Inputs(data=chain.data), store, options())
    found = {one.stage: one.artifact for one in plan(settings, chain.data, store)}
    assert found.keys() == {"train-cls", "train-seg", "eval"}
    assert found["train-seg"].id == network.id


def test_initial_weights_are_known_by_content(chain, tmp_path):
    weights = tmp_path / "mine.pth"
    with pytest.raises(WeightsError, match=r"mine\.pth cannot be read"):
        planned(chain, train_cls={"weights": str(weights)})
    weights.write_bytes(b"anything")
    assert planned(chain, train_cls={"weights": str(weights)}) == {"train-cls": None}
