"""What people see on stderr: one line for each thing, and progress that is quiet where it should be."""

import re

import pytest
from terminals import on_terminal

from mcis_cli.cli.terminal.output import TerminalReporter, complain, for_people, say
from mcis_cli.cli.terminal.progress import progress_line
from mcis_cli.errors import percent
from mcis_cli.stages.evaluate.run import describe


def test_a_complaint_is_one_line_whatever_is_in_it(capsys):
    complain("error", "a name with\na break\x1b[31m and \t more")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "mcis: error: a name with a break [31m and   more\n"


def test_paths_below_the_current_folder_are_seen_from_there(tmp_path, monkeypatch):
    here = tmp_path / "my (new) work"
    here.mkdir()
    monkeypatch.chdir(here)
    told = f"{here}/shop: one thing: '{here}/shop/tags.csv' line 8: no image in {here}/shop; see {tmp_path}/other"
    seen = f"shop: one thing: 'shop/tags.csv' line 8: no image in shop; see {tmp_path}/other"
    assert for_people(told) == seen
    for other in (
        f"{here}",
        f"{here}/ has nothing",
        f"{here}-2/tags.csv",
        f"/copies{here}/tags.csv",
        f"file://{here}/a",
    ):
        assert for_people(other) == other


@pytest.mark.parametrize("place", ["/", "gone"])
def test_paths_are_told_in_full_at_the_root_and_where_the_folder_is_gone(place: str, tmp_path, monkeypatch):
    folder = tmp_path / place  # `/` is itself
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    if place == "gone":
        folder.rmdir()
    told = "/photos/tags.csv has no column; see https://example.org/tables"
    assert for_people(told) == told


def test_progress_is_not_shown_where_nobody_looks(capsys):
    reporter = TerminalReporter()
    reporter.start("cams", 100)
    reporter.advance(3, total=0.5)
    reporter.stop()
    assert capsys.readouterr().err == ""


def test_a_line_a_minute_says_how_far_it_is_and_how_long_it_takes(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("mcis_cli.cli.terminal.output.time.monotonic", lambda: now[0])
    reporter = TerminalReporter()
    reporter.start("cams", 100, done=20, images=3)
    now[0] += 59
    reporter.advance(10)
    now[0] += 2
    reporter.advance(10, basic=0.12345)
    now[0] += 2
    reporter.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "mcis: cams: resumes from 20 of 100"
    # 20 units of 3 images in 61 seconds, earlier work does not count: 60 more take 183 seconds.
    assert lines[1] == "cams: 40/100, 3 min left, 0.984 images/s  basic 0.1235"
    assert len(lines) == 2


def test_a_quiet_reporter_warns_and_says_nothing_else(capsys):
    reporter = TerminalReporter(quiet=True)
    reporter.start("cams", 10, done=5)
    reporter.advance(5)
    reporter.note("something")
    reporter.warn("[red]look[/red]")
    reporter.stop()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "mcis: warning: [red]look[/red]\n"


def test_a_reporter_knows_whether_there_was_work():
    reporter = TerminalReporter(quiet=True)
    assert not reporter.worked
    reporter.start("cams", 1)
    assert reporter.worked


@pytest.mark.parametrize(("fraction", "text"), [(None, "–"), (0.0, "0.0"), (0.4567, "45.7"), (1, "100.0")])
def test_fractions_are_printed_in_percent(fraction, text):
    assert percent(fraction) == text


def test_a_score_says_how_it_was_made():
    metrics = {
        "subject": "train-seg",
        "num_images": 3,
        "initialisation": "x.pth",
        "supervision": "full",
        "crf": True,
        "scales": [0.5, 1.0],
        "flip": True,
    }
    assert describe(metrics) == (
        "3 images; initialised from x.pth; trained on ground truth; with CRF; scales 0.5, 1; with mirror"
    )
    assert describe(metrics, "uses saliency maps").endswith("; with mirror; uses saliency maps")
    assert "with CRF (61.5 % without it); scales" in describe({**metrics, "mean_iou_before_crf": 0.6149})


def test_results_do_not_go_where_the_bar_is(capsys, monkeypatch):
    """A bar on the terminal, and stdout in a file: Rich would print both above the bar."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    reporter = TerminalReporter()
    reporter.start("predict", 2)
    reporter.advance()
    say("masks/a.png")
    reporter.stop()
    captured = capsys.readouterr()
    assert captured.out == "masks/a.png\n"
    assert "predict" in captured.err
    assert "masks" not in captured.err


def test_a_bar_shows_time_left_speed_and_the_last_losses(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    now = [1000.0]
    monkeypatch.setattr("mcis_cli.cli.terminal.output.time.monotonic", lambda: now[0])
    reporter = TerminalReporter()
    reporter.start("train-cls", 40, images=8)
    now[0] += 5
    reporter.advance(10, total=1.25)
    reporter.stop()
    assert "15 s left  16 images/s  total 1.25" in capsys.readouterr().err


def test_what_is_not_images_has_no_speed(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("mcis_cli.cli.terminal.output.time.monotonic", lambda: now[0])
    reporter = TerminalReporter()
    reporter.start("verify", 10)
    now[0] += 61
    reporter.advance(5)
    assert capsys.readouterr().err == "verify: 5/10, 61 s left\n"


PROGRESS = """
import time
from mcis_cli.cli.terminal.output import TerminalReporter
reporter = TerminalReporter()
reporter.prepare("train-cls: reading images, loading the network")
time.sleep(0.3)
reporter.start("train-cls", 400, images=8)
for _ in range(8):
    time.sleep(0.1)
    reporter.advance(10, total=1.25, basic=0.75, co_attention=0.25, contrastive=0.25)
reporter.stop()
"""


@pytest.mark.parametrize("columns", [80, 40])
def test_progress_on_a_terminal_keeps_bar_counter_and_time_left(tmp_path, columns):
    code, text = on_terminal("-c", PROGRESS, columns=columns, cwd=tmp_path)
    assert code == 0
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in re.split(r"[\r\n]+", text)]
    assert max(map(len, lines)) <= columns
    assert any("reading images, loading" in line for line in lines)
    last = [line for line in lines if "80/400" in line][-1]
    assert re.fullmatch(r"train-cls ━* +80/400 \d+ s left.*", last)
    assert ("images/s" in last) == (columns == 80)


def test_what_gives_way_in_a_narrow_line_is_the_last():
    def line(width: int) -> str:
        return progress_line("cams", 5, 10, left="9 s left", further=("3 images/s", "loss 1"), width=width)

    assert line(80) == f"cams {'━' * 20}{' ' * 20} 5/10 9 s left  3 images/s  loss 1"
    assert "loss 1" not in line(40)
    assert "images/s" not in line(30)
    assert "5/10 9 s left" in line(24)
    for width in range(8, 90):
        assert len(line(width)) <= width
