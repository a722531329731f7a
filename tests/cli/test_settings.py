"""`mcis config show` prints where a value comes from; `mcis env` what is chosen here, and why."""

import json

import pytest
import torch

from mcis_cli import __version__
from mcis_cli.config import resolve

TOML = 'preset = "quick"\n[train-cls]\nepochs = 9\n[eval.crf_settings]\niterations = 3\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mcis.toml").write_text(TOML)
    return tmp_path


def shown(call, folder, *arguments):
    answer = call("config", "show", *arguments, "--json", cwd=folder)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_each_value_is_told_with_where_it_comes_from(call, folder):
    found = shown(call, folder, "--set", "train-cls.lr=0.5")["settings"]
    file = str(folder / "mcis.toml")
    assert found["train-cls.epochs"] == {"value": 9, "from": file}
    assert found["train-cls.lr"] == {"value": 0.5, "from": "--set"}
    assert found["train-cls.backbone"] == {"value": "lite0", "from": "preset quick"}
    assert found["train-cls.momentum"] == {"value": 0.9, "from": "default"}
    assert found["eval.crf_settings.iterations"] == {"value": 3, "from": file}
    assert not (folder / ".mcis").exists()


def test_values_are_those_that_commands_use(call, folder):
    found = shown(call, folder, "--preset", "released", "cams")
    assert found["preset"] == "released"
    expected = resolve({"preset": "released"}).cams.model_dump(mode="json")
    assert {name: one["value"] for name, one in found["settings"].items()} == {
        f"cams.{name}": value for name, value in expected.items()
    }


def test_people_read_a_line_for_each(call, folder):
    answer = call("config", "show", "train-cls", cwd=folder)
    assert answer.code == 0
    assert answer.lines[0] == 'preset = "quick"'
    assert any(line.split() == ["train-cls.epochs", "=", "9", str(folder / "mcis.toml")] for line in answer.lines)


@pytest.mark.parametrize("arguments", [("set",), ("show", "training"), ("show", "--set", "cams.ref=1")])
def test_what_is_not_known_is_one_line(call, folder, arguments):
    answer = call("config", *arguments, cwd=folder)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1


def test_env_tells_versions_and_what_is_chosen_and_why(call, tmp_path):
    answer = call("env", "--device", "cpu", "--json", cwd=tmp_path)
    assert answer.code == 0
    found = json.loads(answer.out)
    assert found["versions"]["mcis"] == __version__
    assert found["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["chosen"]["device"] == "cpu: it was named"
    assert found["chosen"]["precision"].startswith(("bf16: this CPU multiplies", "fp32: this CPU does not multiply"))
    lines = call("env", cwd=tmp_path).lines
    assert [line for line in lines if not line.startswith(" ")] == ["versions", "machine", "chosen"]


def test_env_of_a_device_that_is_not_there_is_one_line(call, tmp_path):
    answer = call("env", "--device", "cuda:99", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "device cuda:99 is not on this machine" in answer.err
