"""`--dry-run`: what would run, why, and what it would take by what was recorded; nothing is written."""

import json

import pytest
from tiny_chain import options

from mcis_cli.stages import stages
from mcis_cli.stages.engine.inputs import Inputs, look_at_images
from mcis_cli.stages.plan.chain import chain_of, request
from mcis_cli.stages.plan.forecast import Forecaster, totals
from mcis_cli.stages.pseudo import run as pseudo


@pytest.fixture
def chain(chain_copy):
    """A chain of the test's own: what others have added to the shared one would be compared with."""
    return chain_copy


@pytest.fixture
def looking(chain):
    return Forecaster(chain.data, look_at_images(chain.data, chain.store), chain.store)


def files(folder):
    """Every file below a folder, with its content."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told(call, folder, *arguments):
    """What a dry run says as JSON; it leaves the folder as it was."""
    before = files(folder)
    answer = call(*arguments, "--dry-run", "--json", cwd=folder)
    assert answer.code == 0, answer.err
    assert answer.err == ""
    assert files(folder) == before
    return json.loads(answer.out)


def test_what_is_done_takes_nothing(call, chain):
    found = told(call, chain.folder, "run")
    assert [(one["stage"], one["artifact"]) for one in found["stages"]] == [
        (stage, chain.made[stage].path.stem) for stage in chain_of(chain.settings())
    ]
    assert (found["seconds"], found["bytes"]) == (0, 0)


def test_a_change_goes_down_the_chain_with_its_reason(call, chain):
    found = told(call, chain.folder, "run", "--set", "pseudo.foreground_threshold=0.45")
    by_stage = {one["stage"]: one for one in found["stages"]}
    assert by_stage["cams"]["artifact"] == chain.made["cams"].path.stem
    assert by_stage["pseudo"]["why"] == ["foreground_threshold: 0.3, now 0.45"]
    (why,) = by_stage["train-seg"]["why"]
    assert why.startswith(
        f"inputs.masks: {chain.made['pseudo'].path.stem}, now the result of `mcis pseudo`, not made yet"
    )
    assert (by_stage["pseudo"]["images"], by_stage["eval"]["images"]) == (16, 6)
    # All of it was done before with settings that cost as much.
    assert all(by_stage[stage]["seconds"] is not None for stage in ("pseudo", "train-seg", "eval"))
    assert found["seconds"] is not None
    assert by_stage["train-seg"]["bytes"] == chain.made["train-seg"].path.stat().st_size
    assert by_stage["train-seg"]["like"] == f"{chain.made['train-seg'].path.stem} on cpu"


def test_the_time_is_that_of_a_step_or_of_an_image(chain, looking):
    settings = chain.settings(train_cls={"seed": 5, "epochs": 3})
    one = looking.stage("train-cls", settings, None)
    made = chain.made["train-cls"].provenance
    assert made["computed"] == {"steps": 4}  # 16 images, 4 pairs a step, 1 epoch
    assert one.cost.seconds == pytest.approx(3 * made["seconds"])
    assert one.cost.num_bytes == chain.made["train-cls"].path.stat().st_size

    made = chain.made["cams"].provenance
    assert made["computed"] == {"images": 16}
    one = looking.stage("cams", chain.settings(cams={"seed": 77}), chain.made["train-cls"])
    assert one.cost.seconds == pytest.approx(made["seconds"])


@pytest.mark.parametrize(
    ("stage", "section", "values"),
    [
        ("train-cls", "train_cls", {"image_size": 96}),
        ("train-cls", "train_cls", {"loss": "basic"}),
        ("cams", "cams", {"refs": 9}),
        ("cams", "cams", {"flip": True}),
        ("eval", "eval", {"crf": True}),
    ],
)
def test_settings_that_cost_otherwise_have_no_estimate(chain, looking, stage, section, values):
    upstream = {"train-cls": None, "cams": chain.made["train-cls"], "eval": chain.made["train-seg"]}[stage]
    cost = looking.stage(stage, chain.settings(**{section: values}), upstream).cost
    assert (cost.seconds, cost.num_bytes, cost.like) == (None, None, None)


def test_what_another_kind_of_device_took_says_nothing(chain):
    images = look_at_images(chain.data, chain.store)
    settings = chain.settings(train_cls={"seed": 5})
    costs = [
        Forecaster(chain.data, images, chain.store, name).stage("train-cls", settings, None).cost
        for name in ("cpu", "cuda:1")
    ]
    assert costs[0].seconds is not None
    assert costs[1].seconds is None


def test_begun_work_goes_on_and_costs_what_is_left(chain_copy):
    images = look_at_images(chain_copy.data, chain_copy.store)
    looking = Forecaster(chain_copy.data, images, chain_copy.store)
    settings = chain_copy.settings(train_cls={"seed": 6})
    whole = looking.stage("train-cls", settings, None)
    assert whole.why == ("seed: 0, now 6",)
    recipe = stages()["train-cls"].ask(request(settings, chain_copy.data, images, {})).recipes[0]
    with chain_copy.store.begin(recipe) as partial:
        partial.save_checkpoint(1, b"weights")
    left = looking.stage("train-cls", settings, None)
    assert left.why == ("resumes from step 1 of 4",)
    assert left.cost.seconds == pytest.approx(0.75 * whole.cost.seconds)


def test_an_artifact_that_is_gone_is_made_again(chain_copy):
    gone = chain_copy.made["cams"].path
    gone.unlink()
    images = look_at_images(chain_copy.data, chain_copy.store)
    looking = Forecaster(chain_copy.data, images, chain_copy.store)
    one = looking.stage("cams", chain_copy.settings(), chain_copy.made["train-cls"])
    assert (one.found, one.why) == (None, (f"{gone.stem} is gone",))
    assert one.cost.seconds is None  # what it took went with it


def test_maps_of_one_pass_cost_what_the_slowest_costs(chain, looking):
    several = [
        looking.stage("cams", chain.settings(cams={"seed": seed}), chain.made["train-cls"]) for seed in (70, 71, 71)
    ]
    total = totals(several)
    assert total.seconds == several[0].cost.seconds
    assert total.num_bytes == 2 * several[0].cost.num_bytes  # the third is the second once more


def test_the_forecast_of_a_stage_is_what_it_does(chain_copy):
    images = look_at_images(chain_copy.data, chain_copy.store)
    settings = chain_copy.settings(pseudo={"background": "constant"})
    before = Forecaster(chain_copy.data, images, chain_copy.store).stage("pseudo", settings, chain_copy.made["cams"])
    assert before.why[0] == "background: saliency, now constant"
    made = pseudo.run(settings.pseudo, Inputs(upstream=chain_copy.made["cams"]), chain_copy.store, options())
    after = Forecaster(chain_copy.data, images, chain_copy.store).stage("pseudo", settings, chain_copy.made["cams"])
    assert (before.key, after.found.id) == (made.key, made.id)


@pytest.mark.parametrize("command", ["train-cls", "cams", "pseudo", "train-seg", "eval"])
def test_each_command_of_the_pipeline_tells(call, chain, command):
    (one,) = told(call, chain.folder, command)["stages"]
    assert (one["stage"], one["artifact"], one["why"]) == (command, chain.made[command].path.stem, [])


def test_several_numbers_of_references_are_told_of_each(call, chain):
    found = told(call, chain.folder, "cams", chain.made["train-cls"].id, "--refs", "2,8")
    assert [one["artifact"] is None for one in found["stages"]] == [False, True]
    assert found["stages"][1]["why"] == ["refs: 2, now 8"]


def test_the_table_is_for_people(call, chain):
    answer = call("run", "--dry-run", "--set", "cams.refs=7", cwd=chain.folder)
    assert answer.code == 0
    for words in (
        f"cached, {chain.made['train-cls'].path.stem}",
        "run: refs: 2, now 7",
        "unknown",
        "in all: 4 stages to run, time unknown, disk unknown",
    ):
        assert words in answer.out
    done = call("run", "--dry-run", cwd=chain.folder)
    assert done.lines[-1] == "in all: nothing to run"


def test_without_a_store_nothing_is_known_and_nothing_is_made(call, chain, tmp_path):
    (tmp_path / "mcis.toml").write_text(
        (chain.folder / "mcis.toml").read_text().replace('"shapes"', f'"{chain.folder / "shapes"}"')
    )
    for command in ("run", "train-cls"):
        found = told(call, tmp_path, command)
        assert found["stages"][0]["why"] == ["nothing of train-cls was made before"]
        assert (found["seconds"], found["bytes"]) == (None, None)
    assert not (tmp_path / ".mcis").exists()


def test_without_ground_truth_the_chain_ends_with_the_network(call, chain_copy):
    (chain_copy.folder / "shapes/SegmentationClass/val-0001.png").unlink()
    found = told(call, chain_copy.folder, "run")
    assert [one["stage"] for one in found["stages"]] == list(chain_of(chain_copy.settings()))[:-1]
    full = told(call, chain_copy.folder, "run", "--set", "train-seg.supervision=full")
    assert [one["stage"] for one in full["stages"]] == ["train-seg"]
