"""What a shell offers when Tab is pressed, requested as a shell does it; and the script that teaches it."""

import subprocess
import sys

import pytest
from golden_results import GOLDEN
from run_commands import environment, imported_modules


@pytest.fixture
def offers(call, monkeypatch):
    """The words that bash is offered at the end of a line."""

    def ask(line: str, *, cwd) -> list[str]:
        monkeypatch.setenv("_MCIS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        answer = call(cwd=cwd)
        assert answer.err == ""
        return answer.lines

    return ask


def test_commands_and_flags(offers, tmp_path):
    assert offers("mcis pre", cwd=tmp_path) == ["predict"]
    assert offers("mcis cams --refs", cwd=tmp_path) == ["--refs", "--refs-without"]
    assert not list(tmp_path.iterdir())


def test_artifacts_that_a_command_starts_from_by_name_and_id(offers, chain_copy):
    made = chain_copy.made
    chain_copy.store.name("best", made["train-seg"])
    chain_copy.store.name("first-maps", made["cams"])
    short = {stage: artifact.id[:12] for stage, artifact in made.items()}
    assert offers("mcis predict ", cwd=chain_copy.folder) == ["best", short["train-seg"]]
    assert offers("mcis pseudo f", cwd=chain_copy.folder)[:1] == ["first-maps"]
    assert offers(f"mcis cams {short['train-cls'][:3]}", cwd=chain_copy.folder) == [short["train-cls"]]
    assert set(offers("mcis show ", cwd=chain_copy.folder)) >= {"best", "first-maps", *short.values()}
    assert offers("mcis name --delete f", cwd=chain_copy.folder) == ["first-maps"]
    assert offers("mcis ls --stage train-", cwd=chain_copy.folder) == ["train-cls", "train-seg"]


def test_artifacts_of_the_stage_that_an_option_asks_for(offers, call, chain_copy):
    folder, short = chain_copy.folder, {stage: one.id[:12] for stage, one in chain_copy.made.items()}
    (net,) = GOLDEN.glob("artifacts/affinity-net-*.h5")
    for brought in ((net,), ("--saliency", "shapes/saliency", "--data", "shapes")):
        assert call("import", *brought, cwd=folder).code == 0
    (maps,) = (folder / ".mcis/artifacts").glob("saliency-*.h5")
    assert offers("mcis pseudo --network ", cwd=folder) == [short["train-seg"]]
    assert offers("mcis affinity --network ", cwd=folder) == [net.stem.rpartition("-")[2]]
    assert offers("mcis pseudo --saliency ", cwd=folder) == [maps.stem.rpartition("-")[2]]
    assert not any(offers(f"mcis pseudo {short['cams']} --network {short['cams'][:4]}", cwd=folder))


def test_splits_of_a_folder_of_the_configuration_and_behind_an_artifact(offers, chain_copy, tmp_path):
    assert offers(f"mcis train-cls {chain_copy.folder / 'shapes'} --split t", cwd=tmp_path) == ["train", "trainval"]
    assert offers("mcis eval --split ", cwd=chain_copy.folder) == ["train", "trainval", "val", "all"]
    (chain_copy.folder / "mcis.toml").unlink()
    assert offers(f"mcis eval {chain_copy.made['cams'].id} --split v", cwd=chain_copy.folder) == ["val"]


def test_settings_and_their_values(offers, tmp_path):
    assert offers("mcis train-cls --loss ", cwd=tmp_path) == ["basic", "co-attention", "full"]
    assert offers("mcis run --preset q", cwd=tmp_path) == ["quick"]
    assert offers("mcis run --set eval.crf_l", cwd=tmp_path) == ["eval.crf_labels="]
    assert offers("mcis run --set eval.crf_labels=", cwd=tmp_path) == ["eval.crf_labels=all", "eval.crf_labels=present"]
    assert offers("mcis run --set eval.flip=", cwd=tmp_path) == ["eval.flip=true", "eval.flip=false"]
    assert offers("mcis config show tr", cwd=tmp_path) == ["train-cls", "train-seg"]


def test_where_there_is_nothing_nothing_is_offered_or_said(offers, tmp_path):
    for line in ("mcis show ", "mcis eval --split ", "mcis train-cls nowhere --split ", "mcis eval gone --split "):
        assert not any(offers(line, cwd=tmp_path)), line
    (tmp_path / "mcis.toml").write_text("preset = 3")
    assert not any(offers("mcis show ", cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mcis.toml"]


def test_the_answer_needs_no_torch(chain_copy, monkeypatch):
    for name, value in (("_MCIS_COMPLETE", "complete_bash"), ("COMP_WORDS", "mcis predict "), ("COMP_CWORD", "2")):
        monkeypatch.setenv(name, value)
    code, out, modules = imported_modules(cwd=chain_copy.folder)
    assert (code, out.split()) == (0, [chain_copy.made["train-seg"].id[:12]])
    assert not modules & {"torch", "numpy", "h5py", "PIL"}


@pytest.mark.slow
def test_bash_completes_once_it_is_taught(chain_copy, tmp_path):
    """`mcis --install-completion` in a home of its own; then bash itself is asked."""
    program = tmp_path / "bin/mcis"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mcis_cli "$@"\n')
    program.chmod(0o755)
    script = f"""
        mcis --install-completion bash > /dev/null || exit 1
        . {tmp_path}/.bash_completions/mcis.sh
        COMP_WORDS=(mcis predict ""); COMP_CWORD=2; _mcis_completion mcis; echo "${{COMPREPLY[@]}}"
    """
    variables = environment(
        HOME=str(tmp_path), PATH=f"{program.parent}:/usr/bin:/bin", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=chain_copy.folder, env=variables, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == (f"{chain_copy.made['train-seg'].id[:12]}\n", "")
