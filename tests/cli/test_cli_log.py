"""`mcis log`: curves of a training in the terminal."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from golden_results import GOLDEN
from tiny_chain import begin_with

from mcis_cli.cli.terminal.tables import braille


def test_the_newest_training_is_drawn_with_its_first_and_last_loss(call, chain):
    reports = [json.loads(line) for line in chain.made["train-cls"].log_path.read_text().splitlines()]
    if not reports:
        return
    answer = call("log", "train-cls", cwd=chain.folder)
    assert answer.code == 0, answer.err
    assert answer.lines[0].startswith(chain.made["train-cls"].path.stem)
    assert f"total  {reports[0]['total']:.4g} → {reports[-1]['total']:.4g}" in answer.lines
    assert max(map(len, answer.lines)) <= 80


def test_json_has_one_report_a_line(call, chain):
    made = chain.made["train-cls"]
    answer = call("log", made.id, "--metric", "total", "--json", cwd=chain.folder)
    assert answer.code == 0, answer.err
    told = [json.loads(line) for line in made.log_path.read_text().splitlines()]
    assert [json.loads(line) for line in answer.lines] == [
        {name: report[name] for name in ("step", "epoch", "total")} for report in told
    ]


def test_work_in_progress_is_shown_as_far_as_it_is(call, chain_copy):
    with begin_with(chain_copy, "train-seg", seed=9) as partial:
        for step in range(10, 50, 10):
            partial.log({"step": step, "epoch": 1, "total": 1 / step})
        answer = call("log", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert "unfinished: 4 reports up to step 40, epoch 1" in answer.lines[0]


def test_a_network_of_affinities_is_a_training_too(call, chain_copy):
    (file,) = GOLDEN.glob("artifacts/affinity-net-*.h5")
    assert call("import", file, cwd=chain_copy.folder).code == 0
    walked = replace(chain_copy, made={"affinity-net": chain_copy.store.get(str(file))})
    with begin_with(walked, "affinity-net", seed=9) as partial:
        partial.log({"step": 10, "epoch": 1, "total": 0.5})
        answers = [call("log", *named, cwd=chain_copy.folder) for named in ((), ("affinity-net",))]
    assert {answer.code for answer in answers} == {0}, answers
    assert all("affinity-net" in answer.lines[0] and "unfinished: 1 report" in answer.lines[0] for answer in answers)


def test_tensorboard_reads_what_the_log_says(call, chain, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install 'mcis[tensorboard]'")
    made = chain.made["train-seg"]
    for _ in range(2):  # the second call writes the file anew
        answer = call("log", made.id, "--tensorboard", tmp_path / "runs", cwd=chain.folder)
        assert (answer.code, answer.lines) == (0, [str(tmp_path / "runs" / made.path.stem)]), answer.err
    assert len([path for path in (tmp_path / "runs").rglob("*") if path.is_file()]) == 1
    # In a process of its own: what TensorBoard imports warns.
    script = f"""
import json
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator({str(tmp_path / "runs" / made.path.stem)!r}).Reload()
curves = {{tag: [[one.step, one.value] for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}}
print(json.dumps(curves))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    curves = json.loads(done.stdout)
    told = [json.loads(line) for line in made.log_path.read_text().splitlines()]
    assert set(curves) == {"loss/total", "lr", "grad_norm", "epoch"}
    for tag, points in curves.items():
        name = tag.removeprefix("loss/")
        assert points == [[report["step"], pytest.approx(report[name], rel=1e-6)] for report in told]


def test_tensorboard_takes_all_curves(call, chain, tmp_path):
    answer = call("log", "--tensorboard", tmp_path, "--metric", "total", cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "--tensorboard writes all curves" in answer.err


def test_what_cannot_be_drawn_is_told(call, chain):
    answer = call("log", chain.made["cams"].id, cwd=chain.folder)
    assert answer.code == 3
    assert "has no metrics log" in answer.err
    answer = call("log", "--metric", "los", cwd=chain.folder)
    assert answer.code == 2
    assert "reported no 'los': found total" in answer.err


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_log_that_is_no_file_of_the_store_is_not_read(call, chain_copy, tmp_path, kind):
    log = chain_copy.made["train-cls"].log_path
    (tmp_path / "outside").write_bytes(b'{"step":1,"total":2.0}\n')
    log.unlink()
    log.symlink_to(tmp_path / "outside") if kind == "link" else os.mkfifo(log)
    for command in (("log", chain_copy.made["train-cls"].id), ("report", "-q", "--no-attention", "--no-predictions")):
        answer = call(*command, cwd=chain_copy.folder)
        assert (answer.code, answer.out) == (4, ""), answer.err
        assert "it is a link, a folder, a pipe or a device" in answer.err


def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right():
    rows = braille([(0, 1.0), (10, 0.0)], columns=4, rows=2, low=0.0, high=1.0)
    assert len(rows) == 2
    assert rows[0][0] != " "
    assert rows[1][3] != " "
    assert rows[1].startswith("  ")
    dots = sum(bin(ord(letter) - 0x2800).count("1") for row in rows for letter in row if letter != " ")
    assert dots == math.hypot(8, 0)  # eight columns of dots, one in each
    assert braille([(5, 0.5)], columns=2, rows=1, low=0.0, high=1.0)[0].strip()
