"""Names from data, files and folders never become markup, nor orders to a terminal, wherever a command prints them.

What the tests read is what a terminal would get: colours are forced on, and the codes of our own styles taken out.
The page of `mcis report` is in test_report.py.
"""

import json
import random
import re
import shutil
import unicodedata
from pathlib import Path

import pytest
from hostile_names import BIDI, some_name
from image_sets import encode, photo, write
from rich.table import Table
from rich.text import Text
from run_commands import Answer
from sizes import size

from mcis_cli.cli.terminal.output import TerminalReporter, complain, console, results, say, say_path
from mcis_cli.cli.terminal.tables import print_scores
from mcis_cli.errors import plain

pytestmark = pytest.mark.promise

# What our styles and bars write themselves; "\x1b[2J" and the others of PIECES are not among it, but for "\x1b[31m",
# whose letters would show without it. A bar begins its line anew.
OWN = re.compile(r"\x1b\[([0-9;]*m|\?25[lh]|2K|1A)|\r(?=\x1b\[2K|\x1b\[1A|$)")


def lines_seen(printed: str) -> list[str]:
    """The lines without what is our own: colours and bars."""
    return [line for line in OWN.sub("", printed).split("\n") if "━" not in line]


def assert_harmless(printed: str, *, own_styles: bool = True) -> None:
    """No line of it is more than letters to look at."""
    for line in lines_seen(printed) if own_styles else printed.split("\n"):
        assert line.isprintable(), ascii(line)
        assert not BIDI & set(line)


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.parametrize("seed", range(size(50, 200)))
def test_a_name_is_printed_as_it_is_read(seed: int, capsys: pytest.CaptureFixture[str], colours: None) -> None:
    """By everything that commands print with."""
    name = some_name(random.Random(seed))
    reporter = TerminalReporter()
    metrics = {"subject": "train-seg", "split": name, "num_images": 1, "initialisation": name, "supervision": "full"}
    metrics |= {"crf": True, "scales": [1.0], "flip": False, "iou": {name: 0.5}, "mean_iou": 0.5}
    table = Table(name, title=Text(name))
    table.add_row(Text(name), name)
    for prints in (
        lambda: complain("error", name),
        lambda: say(name),
        lambda: reporter.note(name),
        lambda: reporter.warn(name),
        lambda: (reporter.start(name, 2), reporter.advance(), reporter.stop()),
        lambda: print_scores(metrics),
        lambda: console().print(name),
        lambda: console().print(table),
        lambda: results().print(Text(name)),
    ):
        prints()
        captured = capsys.readouterr()
        printed = captured.out + captured.err
        assert_harmless(printed)
    complain("error", name)
    err = capsys.readouterr().err
    assert err == f"mcis: error: {plain(name)}\n"  # markup and emoji stand as they are, in one line


@pytest.mark.parametrize("seed", range(20))
def test_a_path_is_itself_in_a_pipe_and_text_on_a_terminal(
    seed: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(some_name(random.Random(seed), in_file=True))
    say_path(path)
    assert capsys.readouterr().out == f"{path}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    say_path(path)
    assert_harmless(capsys.readouterr().out, own_styles=False)


def hostile_set(root: Path, rng: random.Random) -> None:
    """A table of photographs with names and tags of every kind; files may have any name but NUL and slash."""
    rows = ["image,tags,split"]
    for number in range(5):
        name = f"{number}{some_name(rng, in_file=True)}"
        write(root / f"{name}.png", encode(photo(number)))
        tags = some_name(rng, text_only=True).replace(";", "").replace(",", "").replace("|", "") + str(number)
        cells = (f"{name}.png", tags, some_name(rng, text_only=True))
        rows.append(",".join('"' + cell.replace('"', '""') + '"' for cell in cells))
    write(root / "tags.csv", "\n".join(rows) + "\n")


@pytest.mark.parametrize("seed", range(size(10, 200)))
def test_commands_on_a_hostile_set_print_lines_of_text(call, tmp_path: Path, seed: int, colours: None) -> None:
    """Ten names a set: accepted ones in tables and notes, the others in complaints."""
    rng = random.Random(seed)
    root = tmp_path / some_name(rng, in_file=True)
    hostile_set(root, rng)
    for arguments in (["check", root], ["check", root, "--json"], ["init", root, "--force"], ["train-cls", root]):
        answer: Answer = call(*arguments, cwd=tmp_path)
        assert answer.code in (0, 2, 7), answer.err
        assert "bug" not in answer.err.split()
        assert_harmless(answer.err)
        assert_harmless(answer.out)
        for line in filter(None, lines_seen(answer.err)):
            known = ("mcis: ", "error: ", "warning: ", "note: ", plain(str(root)), "saliency")
            assert line.startswith(known) or line.endswith("train-cls: reading images, loading the network")
        if "--json" in arguments:
            assert answer.out.isascii()
            assert isinstance(json.loads(answer.out), dict)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(size(2, 20)))
def test_classes_and_ids_of_a_whole_chain_are_text(call, chain, tmp_path: Path, seed: int, colours: None) -> None:
    """The names of classes and photographs in what is shown of artifacts that were made with them."""
    rng = random.Random(seed)
    classes = {old: "_".join(some_name(rng, text_only=True).split()) + old for old in ("disc", "star", "square")}
    work = tmp_path / some_name(rng, in_file=True, text_only=True)
    shutil.copytree(chain.folder / "shapes", work / "shapes")
    tags = (work / "shapes/image_tags.txt").read_text()
    for old, new in classes.items():
        tags = re.sub(rf"\b{old}\b", lambda _, new=new: new, tags)
    write(work / "shapes/image_tags.txt", tags)
    write(work / "shapes/classes.txt", "".join(f"{name}\n" for name in classes.values()))
    shutil.copy(chain.folder / "mcis.toml", work)
    answer = call("train-cls", "--workers", "0", cwd=work)
    assert answer.code == 0, answer.err
    made = answer.lines[0] if len(answer.lines) == 1 else None
    told = [answer, call("cams", "--refs", "50", "--workers", "0", cwd=work)]
    told.append(call("pseudo", "--background", "constant", "--workers", "0", *told[-1].lines[:1], cwd=work))
    told.append(call("eval", "--workers", "0", *told[-1].lines[:1], cwd=work))
    told += [call(*words, cwd=work) for words in (["ls"], ["ls", "--json"], ["status"], ["verify"], ["gc", "--all"])]
    assert made is not None
    told += [call("show", made, *more, cwd=work) for more in ([], ["--json"])]
    told += [call("check", cwd=work), call("name", "best", made, cwd=work), call("name", cwd=work)]
    told.append(call("show", "--why", "cams", "--set", "cams.refs=1", cwd=work))
    for answer in told:
        assert answer.code == 0, answer.err
        assert_harmless(answer.err)
        # A path of the store is what it is, in a pipe: names of folders are the user's own.
        assert_harmless(answer.out.replace(str(work), ""))
    shown = told[3].err + told[-4].err
    for name in classes.values():
        assert plain(name) in shown.replace("\n", "")


@pytest.mark.parametrize("seed", range(size(6, 100)))
def test_photographs_to_predict_may_be_called_anything(call, chain, tmp_path: Path, seed: int, colours: None) -> None:
    rng = random.Random(seed)
    name = some_name(rng, in_file=True)
    write(tmp_path / f"photos/{name}.png", b"no image" if seed % 2 else encode(photo(seed, 24, 32)))
    answer = call("predict", chain.made["train-seg"].path, "photos", cwd=tmp_path)
    assert answer.code in (0, 2), answer.err
    assert_harmless(answer.err)
    is_text = not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    assert answer.code == (0 if is_text and not seed % 2 else 2), answer.err
    assert answer.out == (f"masks/{Path(f'{name}.png').with_suffix('.png')}\n" if is_text and not seed % 2 else "")


def test_an_unknown_letter_of_the_locale_stops_nothing(chain, tmp_path: Path) -> None:
    from run_commands import mcis

    write(tmp_path / "photos/猫.png", encode(photo(0, 24, 32)))
    write(tmp_path / "photos/ete\u0301.png", encode(photo(1, 24, 32)))
    plain_c = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    answer = mcis("check", "photos", cwd=tmp_path, real=True, **plain_c)
    assert answer.code == 7
    assert "Traceback" not in answer.err
    assert answer.err.isascii()
