"""What a command prints and where, when its streams or its arguments are not what it hopes for."""

import errno
import os
from pathlib import Path

import pytest
import torch
from run_commands import shell


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"], ids=["stdin", "stdout", "stderr", "all"])
def test_a_closed_stream_is_like_none(chain, closed):
    answer = shell(f"mcis ls --json {closed}", cwd=chain.folder, real=closed.count("-") > 1)
    assert (answer.code, answer.err) == (0, "")
    assert len(answer.lines) == (0 if " >&-" in f" {closed}" else len(chain.store.artifacts()))


def test_an_artifact_is_not_read_from_a_stdin_that_is_closed(tmp_path):
    answer = shell("mcis pseudo - <&-", cwd=tmp_path)
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.startswith("mcis: error: the pipe is empty: the command before it")


def test_an_error_keeps_its_code_where_stdout_and_stderr_are_closed(chain):
    assert shell("mcis show deadbeef >&- 2>&-", cwd=chain.folder).code == 3


@pytest.mark.parametrize("command", ["show", "predict"])
def test_nobody_is_told_to_remove_a_photograph(call, chain, command):
    image = "shapes/JPEGImages/val-0000.jpg"
    answer = call(command, image, *([image] if command == "predict" else []), cwd=chain.folder)
    assert (answer.code, answer.out) == (4, "")
    assert f"{image} is no artifact of mcis, or its first bytes are damaged" in answer.err
    assert "remove" not in answer.err


def test_another_artifact_than_a_network_predicts_nothing(call, chain):
    answer = call("predict", chain.made["train-cls"].id, "shapes/JPEGImages/val-0000.jpg", cwd=chain.folder)
    assert answer.code == 2
    assert answer.out == ""
    assert "expected a network of train-seg; `mcis ls --stage train-seg` lists them" in answer.err


def test_one_fault_is_counted_as_one(call, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = call("check", "empty", cwd=tmp_path)
    assert answer.code == 7
    assert answer.err.splitlines()[-1].startswith("mcis: error: ")
    assert ": 1 error: no image set in " in answer.err
    assert answer.err.count("no image set in ") == 1


def test_what_is_neither_a_folder_nor_a_table_is_bad_input(call, tmp_path):
    (tmp_path / "notes").write_text("no table")
    os.mkfifo(tmp_path / "pipe.csv")
    for name, kind in (("notes", "a file"), ("pipe.csv", "a pipe or a device"), ("/dev/null", "a pipe or a device")):
        answer = call("check", name, cwd=tmp_path)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.count("\n") == 1
        assert f"{name} is {kind}; expected a folder, a table in .csv, .tsv, .json or .npy" in answer.err


@pytest.mark.parametrize("command", ["ls", "status", "check --json", "cams -q", "--help", "ls --help", "--version"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is needed")
def test_a_stdout_that_cannot_be_written_is_named(chain, command):
    unbuffered = "1" if command in ("cams -q", "ls --help") else ""
    answer = shell(f"mcis {command} > /dev/full", cwd=chain.folder, real=True, PYTHONUNBUFFERED=unbuffered)
    assert answer.code == 6
    assert answer.err.splitlines()[-1] == (
        "mcis: error: stdout cannot be written: No space left on device; finished work is kept, send the "
        "output elsewhere"
    )


@pytest.mark.slow
@pytest.mark.parametrize("buffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("stderr", ["/dev/full", ">(true)", ">(exec 0<&-; sleep 1)"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is needed")
def test_a_stderr_that_cannot_be_written_stops_no_work(chain, stderr, buffered):
    lines = [f"mcis {words} 2> {stderr}" for words in ("cams", "show deadbeef", "check --set data.train=none")]
    answers = [shell(line, cwd=chain.folder, real=True, PYTHONUNBUFFERED=buffered) for line in lines]
    assert [answer.code for answer in answers] == [0, 3, 7]
    assert answers[0].lines == [str(chain.made["cams"].path)]


def test_a_pipe_that_breaks_within_is_no_success(call, chain, monkeypatch):
    def breaks(*given, **named):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("mcis_cli.cli.commands.listing.existing_store", breaks)
    answer = call("ls", cwd=chain.folder)
    assert (answer.code, answer.out) == (6, "")
    assert answer.err == "mcis: error: a file or pipe cannot be used: Broken pipe\n"


@pytest.mark.parametrize(
    ("lack", "asked"),
    [
        (MemoryError(), "the machine's memory ran out (the system gave no more)"),
        (MemoryError("Unable to allocate 728. TiB\nfor an array"), "(Unable to allocate 728. TiB for an array)"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
            "tried to allocate",
        ),
        (RuntimeError("CUDA error: out of memory"), "the GPU's memory ran out (CUDA error: out of memory)"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "the GPU's memory ran out (CUDA out"),
    ],
)
@pytest.mark.parametrize(
    ("command", "flags"),
    [("cams", "--cache-mb 256, --image-size 224 or --workers 1"), ("train-seg", "train-seg.batch_size=4"), ("run", "")],
)
def test_a_lack_of_memory_is_one_line_with_the_flags_that_help(call, chain, monkeypatch, lack, asked, command, flags):
    def lacks(*_, **__):
        raise lack

    monkeypatch.setattr("mcis_cli.cli.session.groups.open_workspace", lacks)
    answer = call(command, cwd=chain.folder)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("mcis: error: ")
    for part in (asked, flags, "--workers 1"):
        assert part in answer.err


def test_another_fault_of_torch_stays_a_bug(call, chain, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("mcis_cli.cli.session.groups.open_workspace", fails)
    answer = call("cams", cwd=chain.folder)
    assert answer.code == 1
    assert answer.err.startswith("mcis: bug: RuntimeError: mat1 and mat2")


@pytest.mark.slow
def test_predictions_depend_on_the_network_and_the_flags_not_on_the_folder(call, chain_copy):
    network, image = chain_copy.made["train-seg"].path, "shapes/JPEGImages/val-0000.jpg"

    def predicted(*arguments: str) -> tuple[bytes, str]:
        always = ("predict", network, image, "-o", "masks", "--set", "eval.precision=fp32")
        answer = call(*always, *arguments, cwd=chain_copy.folder)
        assert answer.code == 0, answer.err
        return (chain_copy.folder / answer.lines[0]).read_bytes(), answer.err

    plain, _ = predicted()
    toml = chain_copy.folder / "mcis.toml"
    toml.write_text(toml.read_text().replace("[eval]\n", "[eval]\ncrf = true\n"))
    assert predicted()[0] == plain
    refined, told = predicted("--config", "mcis.toml")
    assert "predict: from [eval] of mcis.toml: crf = true" in told
    assert refined == predicted("--crf")[0]
