"""What a command says and where, when its streams or its arguments are not what it hopes for."""

import pytest
from chains import shell


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"], ids=["stdin", "stdout", "stderr", "all"])
def test_a_closed_stream_is_like_none(chain, closed):
    answer = shell(f"mcis ls --json {closed}", cwd=chain.folder)
    assert (answer.code, answer.err) == (0, "")
    assert len(answer.lines) == (0 if " >&-" in f" {closed}" else len(chain.store.artifacts()))


def test_an_artifact_is_not_read_from_a_stdin_that_is_closed(tmp_path):
    answer = shell("mcis pseudo - <&-", cwd=tmp_path)
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.startswith("mcis: error: nothing came through the pipe")


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
    assert "expected a network of train-seg; `mcis ls --stage train-seg` shows what there is" in answer.err


def test_one_fault_is_counted_as_one(call, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = call("check", "empty", cwd=tmp_path)
    assert answer.code == 7
    assert answer.err.splitlines()[-1].startswith("mcis: error: ")
    assert ": one thing has to be mended: no image set in " in answer.err
