"""What every command promises whoever pipes it: results on stdout and nothing else, whatever streams and locale it has.

A new command without a case fails the first test.
"""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from image_sets import encode, photo, write
from run_commands import Answer, environment, python, shell
from saliency_models import redness
from tiny_chain import Chain, options

from mcis_cli.cli.command_list import COMMANDS, function_of
from mcis_cli.data.palette import write_mask_png
from mcis_cli.interop.imports import corrected
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.store import open_store

pytestmark = pytest.mark.promise

COLUMNS = 40
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": str(COLUMNS)}
REAL = ("cams", "check", "ls")  # in real processes; the others are forked, which saves their imports
AGE = re.compile(r" +\d+ (s|min|h|d)\b")  # of artifacts, in the table of `ls`
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Case:
    """A call that works, again and again.

    Attributes:
        arguments: after the command.
        lines: how many it prints on stdout; None where that is not fixed.
        code: that it leaves with.
        as_json: how many JSON objects `--json` prints.
    """

    arguments: tuple[str, ...] = ()
    lines: int | None = 1
    code: int = 0
    as_json: int | None = 1


NETWORK, MAPS, OTHER_MAPS, CORRECTED = "NETWORK", "MAPS", "OTHER MAPS", "CORRECTED"  # stand for ids of artifacts
CASES: Mapping[str, Case] = {
    "train-cls": Case(),
    "cams": Case(),
    "average": Case((MAPS, OTHER_MAPS)),
    "affinity": Case(("--epochs", "1", "--set", "affinity.crop=48", "--set", "affinity.walk_doublings=2")),
    "pseudo": Case(("--corrected", CORRECTED)),
    "fit": Case(("--corrected", CORRECTED, "--dry-run"), lines=0, code=2, as_json=0),  # all is in test_fitting.py
    "train-seg": Case(),
    "eval": Case(),
    "run": Case(),
    "ablate": Case(("--table", "2", "--seeds", "0", "--on", "maps"), lines=None),
    "demo": Case(("mcis.toml",), lines=0, code=6, as_json=0),  # a file; the whole of it is in test_cli_demo.py
    "check": Case(lines=0),
    "init": Case(("shapes", "--force")),
    "saliency": Case(("--model", "tiny.onnx")),
    "predict": Case((NETWORK, "photos"), lines=2, as_json=2),
    "report": Case(("--no-attention", "--no-predictions")),
    "review": Case(("--count", "3"), lines=3, as_json=3),
    "log": Case(lines=None, as_json=None),
    "ls": Case(lines=None, as_json=None),
    "show": Case((NETWORK,), lines=None),
    "status": Case(lines=6),
    "import": Case((NETWORK + ".h5", "--store", "other/.mcis")),
    "export": Case(("--voc", "--force")),
    "coco-masks": Case(("shapes",), lines=0, code=2, as_json=None),  # of another layout; the whole is in test_coco.py
    "config": Case(("show", "cams"), lines=None),
    "env": Case(lines=None),
    "verify": Case(lines=0),
    "name": Case(("best", NETWORK)),
    "gc": Case(("--all",), lines=None),
    "merge": Case(("other",), lines=0),
}
NAMES = tuple(CASES)


def parameters(command: str) -> set[str]:
    return set(function_of(command).__annotations__)


@pytest.fixture(scope="module")
def work(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A folder in which each case has been done once."""
    folder = tmp_path_factory.mktemp("contract") / "work"
    shutil.copytree(chain.folder, folder)
    for seed in range(2):
        write(folder / f"photos/{seed}.png", encode(photo(seed, 24, 32)))
    write(folder / "tiny.onnx", redness())
    store = open_store(folder / ".mcis")
    open_store(folder / "other/.mcis")
    made = {stage: store.get(artifact.id) for stage, artifact in chain.made.items()}
    config = chain.settings(cams={"refs": 0}).cams
    made[OTHER_MAPS] = cams.run(config, Inputs(upstream=made["train-cls"], data=chain.data), store, options())
    mask = np.full_like(made["pseudo"].read(made["pseudo"].ids[0])["mask"], 2)
    write(folder / f"corrected/{made['pseudo'].ids[0]}.png", write_mask_png(mask))
    inputs = Inputs(upstream=made["pseudo"], data=chain.data)
    made[CORRECTED] = corrected.run(folder / "corrected", inputs, store, options())
    return Chain(folder, made)


def spelled(work: Chain, command: str) -> list[str]:
    """The words of a case."""
    network = work.made["train-seg"]
    words = {NETWORK: network.id[:12], f"{NETWORK}.h5": os.path.relpath(network.path, work.folder)}
    words |= {MAPS: work.made["cams"].id[:12], OTHER_MAPS: work.made[OTHER_MAPS].id[:12]}
    words |= {CORRECTED: work.made[CORRECTED].id[:12]}
    return [command, *(words.get(word, word) for word in CASES[command].arguments)]


def folder_of(work: Chain, command: str) -> Path:
    """`init` has a folder of its own, since it writes what the others read."""
    if command != "init":
        return work.folder
    folder = work.folder / "fresh"
    if not folder.exists():
        folder.mkdir()
        (folder / "shapes").symlink_to("../shapes")
    return folder


Call = Callable[..., Answer]


def test_every_command_has_a_case() -> None:
    assert set(COMMANDS) == set(CASES)


@pytest.mark.parametrize("command", NAMES)
def test_stdout_has_the_result_alone(call: Call, work: Chain, command: str) -> None:
    case = CASES[command]
    for _ in range(2):
        answer = call(*spelled(work, command), cwd=folder_of(work, command))
        assert answer.code == case.code, answer.err
    assert case.lines in (None, len(answer.lines))
    assert "\x1b" not in answer.out + answer.err
    assert "Traceback" not in answer.err


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name in NAMES if "as_json" in parameters(name)])
def test_json_is_one_object_and_nothing_else(call: Call, work: Chain, command: str) -> None:
    case = CASES[command]
    answer = call(*spelled(work, command), "--json", cwd=folder_of(work, command))
    assert answer.code == case.code, answer.err
    assert answer.out.isascii()
    found = [json.loads(line) for line in answer.lines]
    assert all(isinstance(one, dict) for one in found)
    assert case.as_json in (None, len(found))  # `ls` prints one a line
    assert command != "ls" or len(found) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("command", [name for name in NAMES if "quiet" in parameters(name)])
def test_quiet_leaves_the_id_alone_or_nothing(call: Call, work: Chain, command: str) -> None:
    case = CASES[command]
    answer = call(*spelled(work, command), "-q", cwd=folder_of(work, command))
    assert answer.code == case.code, answer.err
    notes = [line for line in answer.err.splitlines() if not line.startswith(("mcis: warning: ", "mcis: error: "))]
    assert not notes
    if case.lines == 1 and command not in ("report", "export"):  # which make no artifact
        assert re.fullmatch(r"[0-9a-f]{64}\n", answer.out)
    assert case.lines in (None, len(answer.lines))


@pytest.mark.slow
@pytest.mark.parametrize("command", NAMES)
def test_a_reader_may_leave_where_stdin_is_closed_in_the_c_locale(call: Call, work: Chain, command: str) -> None:
    """`| head -1` with nothing on stdin, 40 columns, no colours, no letters but ASCII."""
    case, folder = CASES[command], folder_of(work, command)
    expected = call(*spelled(work, command), cwd=folder)
    line = " ".join(spelled(work, command))
    whole = shell(f"mcis {line} <&-", cwd=folder, real=command in REAL, **PLAIN_C)
    assert whole.code == case.code, whole.err
    ascii_lines = [text.encode("ascii", "backslashreplace").decode() for text in expected.lines]
    assert [AGE.sub(" ", line) for line in whole.lines] == [AGE.sub(" ", line) for line in ascii_lines]
    assert whole.err.isascii()
    assert "\x1b" not in whole.err
    head = shell(f"mcis {line} <&- | head -1", cwd=folder, real=command in REAL, **PLAIN_C)
    assert head.code == case.code, head.err
    assert [AGE.sub(" ", line) for line in head.lines] == [AGE.sub(" ", line) for line in whole.lines[:1]]
    for word in ("Traceback", "Broken", "Exception ignored"):
        assert word not in head.err + whole.err


def on_a_terminal(program: list[str], arguments: list[str], folder: Path, **variables: str) -> tuple[int, str]:
    """Exit code and what is seen, with stdin, stdout and stderr on one terminal of 40 columns."""
    leader, follower = pty.openpty()
    inherited = {name: value for name, value in environment(**variables).items() if value}
    process = subprocess.Popen(
        [*program, *arguments],
        cwd=folder,
        env={**inherited, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": "20"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    seen = b""
    try:
        while select.select([leader], [], [], 300)[0]:
            try:
                part = os.read(leader, 2**16)
            except OSError:  # all that had it open have left
                break
            if not part:
                break
            seen += part
    finally:
        os.close(leader)
        process.kill() if process.poll() is None and not seen else None
    return process.wait(60), seen.decode().replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", NAMES)
@pytest.mark.parametrize("no_color", ["", "1"], ids=["colours", "NO_COLOR"])
def test_a_narrow_terminal_shows_the_same_lines_whole(
    call: Call, work: Chain, programs: Path, command: str, no_color: str
) -> None:
    """Nothing is wrapped, so that paths can be copied; there are colours only where they are wanted.

    The table of `ls` has fewer columns there, and all the ids.
    """
    folder = folder_of(work, command)
    expected = call(*spelled(work, command), cwd=folder)
    program = [sys.executable, "-m", "mcis_cli"] if command in REAL else [str(programs / "mcis")]
    code, seen = on_a_terminal(program, spelled(work, command), folder, NO_COLOR=no_color)
    assert code == CASES[command].code, seen
    assert "Traceback" not in seen
    if no_color:
        assert not [style for style in COLOUR.findall(seen) if re.search(r"\[(.*;)?[349][0-9]", style)]
    without = COLOUR.sub("", seen)
    for line in expected.lines:
        assert (" ".join(line.split()[1:2]) if command == "ls" else line.rstrip()) in without


EVERY_HELP = """
import sys
from mcis_cli.cli.start import main
for command in sys.argv[1:]:
    try:
        main([command, "--help"])
    except SystemExit as left:
        assert not left.code, command
"""


@pytest.mark.slow
def test_help_needs_no_folder_no_terminal_and_no_letters_but_ascii(tmp_path: Path) -> None:
    answer = python(EVERY_HELP, *NAMES, cwd=tmp_path, **PLAIN_C)
    assert (answer.code, answer.err) == (0, "")
    assert [line.split()[2] for line in answer.lines if line.startswith("Usage: mcis ")] == list(NAMES)
    assert not list(tmp_path.iterdir())
