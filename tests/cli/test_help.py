"""`mcis --help`: groups, descriptions that fit 80 columns, defaults, and spellings that have changed."""

import pytest
from terminals import on_terminal

from mcis_cli.cli.command_list import COMMANDS, GROUPS, MAX_SUMMARY, RENAMED, function_of
from mcis_cli.cli.session.settings_file import written


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_as_its_docstring_begins(name):
    summary = COMMANDS[name].summary
    assert str(function_of(name).__doc__).startswith(f"{summary}.\n")
    assert len(summary) <= MAX_SUMMARY


@pytest.mark.parametrize("columns", [80, 40])
def test_help_fits_a_terminal(tmp_path, columns):
    code, text = on_terminal("-m", "mcis_cli", "--help", columns=columns, cwd=tmp_path)
    assert code == 0
    lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    assert [line.rstrip(":") for line in lines if line.rstrip(":") in GROUPS] == [*GROUPS]
    if columns == 80:
        for name, listed in COMMANDS.items():
            assert any(line.split() == [name, *listed.summary.split()] for line in lines), name


def test_help_of_a_command_shows_defaults_and_those_of_presets(call, tmp_path):
    text = " ".join(call("cams", "--help", cwd=tmp_path).out.split())
    assert "Default: 10 (paper/released/quick 3, lid20 0)." in text
    assert "Default: nearest (other presets random)." in text
    assert "Default: 448 (quick 320)." in text
    assert "[default: 2048; x>=1]" in text


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("init", "best (for a CPU), quick (for trying things out: fast, poorer masks), paper, released, or lid20."),
        (
            "cams",
            "poorer masks), paper, released, or lid20. Default: that of mcis.toml, else of the artifact, else best.",
        ),
        ("cams", "never changes a result. Default: one per core."),
        ("predict", "Artifact of a segmentation network"),
        ("saliency", "ONNX file of a saliency network, or the name of one"),
        ("name", "Path, id, name, stage for its newest, or - for stdin; else the pipe."),
        ("import", "Network that the weights are for; required with --weights and --affinity-net."),
    ],
)
def test_help_explains_each_choice_in_words_that_mean_one_thing(call, tmp_path, command, expected):
    assert expected in " ".join(call(command, "--help", cwd=tmp_path).out.split())


def test_mcis_toml_explains_the_presets():
    assert "quick (for trying things out: fast, poorer masks)" in written("quick", {})


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_spelling_is_refused_with_the_new_one(call, tmp_path, old, new):
    answer = call(*old.split()[1:], "x", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert f"{old.split()[-1]} is now called {new}; see `mcis" in answer.err
