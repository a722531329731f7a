"""`mcis log`: curves of a training in the terminal."""

import json
import math

from test_cli_inspect import begin

from mcis_cli.cli.log import braille


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
    with begin(chain_copy, "train-seg", seed=9) as partial:
        for step in range(10, 50, 10):
            partial.log({"step": step, "epoch": 1, "total": 1 / step})
        answer = call("log", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert "unfinished: 4 reports up to step 40, epoch 1" in answer.lines[0]


def test_what_cannot_be_drawn_is_told(call, chain):
    answer = call("log", chain.made["cams"].id, cwd=chain.folder)
    assert answer.code == 3
    assert "has no metrics log" in answer.err
    answer = call("log", "--metric", "los", cwd=chain.folder)
    assert answer.code == 2
    assert "reported no 'los': found total" in answer.err


def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right():
    rows = braille([(0, 1.0), (10, 0.0)], columns=4, rows=2, low=0.0, high=1.0)
    assert len(rows) == 2
    assert rows[0][0] != " "
    assert rows[1][3] != " "
    assert rows[1].startswith("  ")
    dots = sum(bin(ord(letter) - 0x2800).count("1") for row in rows for letter in row if letter != " ")
    assert dots == math.hypot(8, 0)  # eight columns of dots, one in each
    assert braille([(5, 0.5)], columns=2, rows=1, low=0.0, high=1.0)[0].strip()
