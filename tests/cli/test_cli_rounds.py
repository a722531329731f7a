"""`mcis run --rounds N`: masks and network again, with the network of the round before; the same as single commands."""

import json
import signal
import subprocess
import sys

import pytest
from run_commands import environment
from tiny_chain import sealed

SOFT = ("--set", "pseudo.fusion=soft", "--set", "pseudo.background=constant")
NAMES = (
    *("train-cls", "cams", "pseudo", "eval, masks of round 1", "train-seg"),
    *("pseudo, round 2", "eval, masks of round 2", "train-seg, round 2", "eval"),
)


@pytest.fixture(scope="module")
def settled(untouched, tmp_path_factory):
    """The tiny chain, with a configuration of two rounds that nothing has been run of."""
    from tiny_chain import copy_chain

    chain = copy_chain(untouched, tmp_path_factory.mktemp("rounds") / "work")
    file = chain.folder / "mcis.toml"
    file.write_text(f'{file.read_text()}\n[pseudo]\nfusion = "soft"\nbackground = "constant"\n\n[run]\nrounds = 2\n')
    return chain


def by_hand(call, chain, rounds: int) -> list[str]:
    """The ids of masks and network of each round, by the commands that a user would type."""
    maps, network, ids = chain.made["cams"].id, None, []
    for _ in range(rounds):
        beside = () if network is None else ("--network", network)
        masks = json.loads(call("pseudo", maps, *beside, "--json", cwd=chain.folder).out)["id"]
        network = json.loads(call("train-seg", masks, "--json", cwd=chain.folder).out)["id"]
        ids += [masks, network]
    return ids


def test_two_rounds_are_what_the_single_commands_make(call, settled, one_thread):
    foretold = json.loads(call("run", "--dry-run", "--json", cwd=settled.folder).out)["stages"]
    assert [(one["stage"], one["of"]) for one in foretold] == [(*name.split(", "), "")[:2] for name in NAMES]
    assert [one["artifact"] is None for one in foretold] == [False, False, *[True] * 7]
    answer = call("run", "--json", "--workers", "0", cwd=settled.folder)
    assert answer.code == 0, answer.err
    for number, name in enumerate(NAMES, start=1):
        assert f"mcis: {number}/9 {name}: " in answer.err
    before = sealed(settled.folder / ".mcis")
    ids = by_hand(call, settled, 2)
    assert sealed(settled.folder / ".mcis") == before, "the single commands found everything cached"
    scores = settled.store.get(json.loads(answer.out)["id"])
    assert scores.inputs["artifact"] == ids[-1]
    assert settled.store.get(ids[2]).inputs["network"] == ids[1]

    again = call("run", "--json", cwd=settled.folder)
    assert json.loads(again.out)["cached"] is True
    for title, made in zip(("pseudo masks", "segmentation network") * 2, ids, strict=True):
        of = "" if made in ids[:2] else ", round 2"
        assert f"mcis: {title}{of}: {settled.store.get(made).path.stem}\n" in again.err
    for masks in ids[::2]:
        scored = json.loads(call("eval", masks, "--json", cwd=settled.folder).out)
        found = f"{settled.store.get(scored['id']).path.stem}, mean IoU {100 * scored['metrics']['mean_iou']:.1f} %"
        assert f"mcis: scores, masks of round {1 + ids.index(masks) // 2}: {found}\n" in again.err


def test_the_last_round_is_what_other_commands_use(call, settled, one_thread):
    assert call("run", "-q", "--workers", "0", cwd=settled.folder).code == 0
    status = call("status", "--exit-code", cwd=settled.folder)
    assert (status.code, [line.strip().split("  ")[0] for line in status.lines[1:]]) == (0, list(NAMES))
    masks = [line.split()[-1] for line in status.lines if line.startswith(" pseudo")]
    networks = [line.split()[-1] for line in status.lines if line.startswith(" train-seg")]
    scores = json.loads(call("eval", "--json", cwd=settled.folder).out)
    assert settled.store.get(scores["id"]).inputs["artifact"].startswith(networks[1].rpartition("-")[2])
    for name in (*masks, *networks, "pseudo", "train-seg", "eval"):
        assert call("show", "--why", name, cwd=settled.folder).lines == ["nothing differs: the stage is cached"]
    gone = json.loads(call("gc", "--artifacts", "--json", cwd=settled.folder).out)["paths"]
    assert not [path for path in gone if any(name in path for name in (*masks, *networks))]
    why = call("show", "--why", masks[1], "--set", "pseudo.network_weight=2", cwd=settled.folder)
    assert why.lines == ["config.network_weight: 1.0, now 2.0"]


def test_a_third_round_begins_with_the_network_of_the_second(call, settled, one_thread):
    answer = call("run", "--rounds", "3", "--workers", "0", "--json", cwd=settled.folder)
    assert answer.code == 0, answer.err
    ids = by_hand(call, settled, 3)
    assert settled.store.get(json.loads(answer.out)["id"]).inputs["artifact"] == ids[-1]
    assert settled.store.get(ids[4]).inputs["network"] == ids[3]
    refused = call("run", "--rounds", "4", cwd=settled.folder)
    assert (refused.code, "less than or equal to 3" in refused.err) == (2, True)


@pytest.mark.parametrize("command", [("run",), ("run", "--dry-run")])
@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("pseudo.fusion=hard", "run.rounds is 2, but pseudo.fusion is hard"),
        ("train-seg.supervision=full", "run.rounds is 2, but train-seg.supervision is full"),
    ],
)
def test_what_no_second_round_can_use_is_refused_before_anything_runs(
    call, settled, tmp_path, command, setting, reason
):
    (tmp_path / "mcis.toml").write_text(
        (settled.folder / "mcis.toml").read_text().replace('"shapes"', json.dumps(str(settled.folder / "shapes")))
    )
    answer = call(*command, "--set", setting, cwd=tmp_path)
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
    assert reason in answer.err
    assert not sealed(tmp_path / ".mcis")


def test_masks_without_ground_truth_are_not_scored(call, chain_copy):
    for mask in (chain_copy.folder / "shapes/SegmentationClass").glob("train-*"):
        mask.unlink()
    given = (*SOFT, "--set", "run.rounds=2")
    answer = call("run", "--dry-run", "--json", *given, cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    stages = [one["stage"] for one in json.loads(answer.out)["stages"]]
    assert stages == ["train-cls", "cams", "pseudo", "train-seg", "pseudo", "train-seg", "eval"]
    status = call("status", *given, cwd=chain_copy.folder)
    left = [line for line in status.lines if "left out  images without ground truth" in line]
    assert len(left) == 2, status.out
    assert all(line.startswith(" eval, masks") for line in left)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["train-seg, round 2", "eval, masks of round 2"])
def test_a_killed_run_resumes_in_its_round_and_makes_the_same(call, chain_copy, settled, moment, one_thread):
    assert call("run", "-q", "--workers", "0", cwd=settled.folder).code == 0
    (chain_copy.folder / "mcis.toml").write_text((settled.folder / "mcis.toml").read_text())
    command = [sys.executable, "-m", "mcis_cli", "run", "--workers", "0"]
    with subprocess.Popen(
        command, cwd=chain_copy.folder, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stderr is not None
        assert any(f" {moment}: runs: " in line for line in running.stderr)
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    answer = call("run", "--json", "--workers", "0", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert "mcis: 5/9 train-seg: cached" in answer.err
    assert "mcis: 6/9 pseudo, round 2: cached" in answer.err
    whole = call("run", "--json", cwd=settled.folder)
    assert json.loads(answer.out)["id"] == json.loads(whole.out)["id"]
