"""Which of several mistakes is reported, and when: settings first, before anything is waited for, read or made."""

import subprocess
import sys

import pytest
from run_commands import environment

WRONG = {
    "train-cls": ("--loss", "none"),
    "cams": ("--image-size", "-1"),
    "pseudo": ("--set", "pseudo.crf=1"),
    "train-seg": ("--backbone", "none"),
    "eval": ("--set", "eval.window=true"),
    "run": ("--set", "cams.refs=true"),
    "status": ("--set", "cams.refs=true"),
    "check": ("--set", "data.layout=none"),
}


@pytest.mark.parametrize("command", WRONG)
def test_a_mistake_of_the_settings_is_told_before_that_there_is_nothing_to_work_on(call, tmp_path, command):
    answer = call(command, *WRONG[command], cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "is not accepted: expected " in answer.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train-cls", "cams", "train-seg", "eval", "run", "demo"])
def test_a_device_that_no_machine_has_is_refused_at_once(call, tmp_path, command):
    answer = call(command, "--device", "gpu", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("mcis: error: no device is called 'gpu', expected auto, cpu, cuda, cuda:N or mps; ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["cams", "pseudo", "train-seg", "eval"])
def test_a_mistake_of_the_settings_is_told_before_a_pipe_is_waited_for(tmp_path, command):
    process = subprocess.Popen(
        [sys.executable, "-m", "mcis_cli", command, *WRONG[command]],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,  # which nobody writes to, and nobody closes
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.wait(timeout=60) == 2
        assert process.stdout.read() == ""
        assert "is not accepted: expected " in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_full_supervision_of_the_configuration_waits_for_no_pipe(call, tmp_path, monkeypatch):
    monkeypatch.setattr("mcis_cli.cli.session.upstream._stdin_is_pipe", lambda: pytest.fail("the pipe was asked for"))
    (tmp_path / "mcis.toml").write_text('[train-seg]\nsupervision = "full"\n')
    answer = call("train-seg", cwd=tmp_path)
    assert answer.code == 2
    assert "full supervision needs images with ground truth" in answer.err


@pytest.mark.parametrize("words", [("cams", "--refz", "3"), ("show",), ("pseudo", "--workers", "many")])
def test_a_mistake_in_the_words_of_a_command_leads_to_its_own_help(call, tmp_path, words):
    answer = call(*words, cwd=tmp_path)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.endswith(f"; see `mcis {words[0]} --help`\n")


def test_a_name_with_blanks_and_no_quotes_is_told_so(call, tmp_path):
    answer = call("check", "my", "photos", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith("(photos); put a name with blanks into quotes; see `mcis check --help`\n")


def test_a_command_that_is_none_leads_to_the_list_of_them(call, tmp_path):
    answer = call("camz", cwd=tmp_path)
    assert answer.code == 2
    assert answer.err.endswith("; see `mcis --help`\n")
