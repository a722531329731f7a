"""What answers at once: help, and the commands that only look, without torch."""

import re
import subprocess
import sys

import pytest
from run_commands import imported_modules

COMMANDS = (
    *("train-cls", "cams", "pseudo", "train-seg", "eval", "run"),
    *("demo", "check", "init", "saliency", "predict", "report", "ls", "show"),
)
PROMISED = {
    "train-cls": "--preset --epochs --backbone --weights --loss --seed --device --workers --store --json -q --set",
    "cams": "--refs --with-contrastive --scales --flip --seed --device --workers --store --json -q --set",
    "pseudo": "--background --foreground-threshold --crf --workers --store --json -q --set",
    "train-seg": "--architecture --backbone --weights --epochs --seed --device --workers --store --json -q --set",
    "eval": "--crf --scales --flip --min-miou --split --device --workers --store --json -q --set",
}


def test_help_imports_no_number_crunching(tmp_path):
    code, out, modules = imported_modules("--help", cwd=tmp_path)
    assert code == 0
    assert not modules & {"torch", "numpy", "scipy", "h5py", "PIL", "mcis_cli.config", "mcis_cli.cli.commands.listing"}
    assert all(command in out for command in COMMANDS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ls"], 0),
        (["ls", "--json"], 0),
        (["status"], 0),
        (["show", "CLASSIFIER"], 0),
        (["show", "EVAL"], 0),
        (["check"], 0),
        (["cams"], 0),  # done
        (["pseudo"], 0),
        (["report", "--no-attention", "--no-predictions"], 0),
        (["eval"], 0),
        (["eval", "MAPS", "--set", "eval.thresholds=[0.4]"], 0),
        (["cams", "nothing-there"], 3),
        (["cams", "--set", "cams.ref=1"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_no_network_imports_no_torch(chain, arguments, code):
    ids = {"CLASSIFIER": "train-cls", "EVAL": "eval", "MAPS": "cams"}
    given = [chain.made[ids[word]].id if word in ids else word for word in arguments]
    found, _, modules = imported_modules(*given, cwd=chain.folder)
    assert found == code
    assert "torch" not in modules
    assert "h5py" not in modules or arguments[0] in (
        "show",
        "status",
        "cams",
        "pseudo",
        "eval",
        "report",
    )  # these read records


def test_status_of_what_is_to_do_waits_for_no_numpy(chain, tmp_path):
    store = ["--store", tmp_path / "store"]
    assert imported_modules("check", *store, cwd=chain.folder)[0] == 0
    code, out, modules = imported_modules("status", *store, cwd=chain.folder)
    assert (code, "to do" in out) == (0, True)
    assert not modules & {"torch", "numpy", "scipy", "h5py", "PIL", "jaxtyping"}


def test_importing_the_package_imports_no_torch(tmp_path):
    script = (
        "import sys, mcis_cli, mcis_cli.config, mcis_cli.store; print('torch' in sys.modules, 'h5py' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


@pytest.mark.parametrize("command", PROMISED)
def test_the_flags_that_scripts_rely_on_are_there(call, tmp_path, command):
    answer = call(command, "--help", cwd=tmp_path)
    assert answer.code == 0
    words = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", answer.out))
    assert set(PROMISED[command].split()) <= words
    assert "Example: mcis" in answer.out
    assert answer.err == ""


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_goes_to_stdout(call, tmp_path, arguments):
    answer = call(*arguments, cwd=tmp_path)
    assert answer.code == 0
    assert answer.out.startswith("Usage: mcis")
    line = "mcis train-cls photos/ --preset best | mcis cams | mcis pseudo | mcis report"
    assert line in " ".join(answer.out.split())
    assert answer.err == ""


def test_the_version_is_that_of_the_package(call, tmp_path):
    from mcis_cli import __version__

    assert call("--version", cwd=tmp_path).lines == [f"mcis {__version__}"]
