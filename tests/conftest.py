"""Checks the annotated shapes of the models' tensor functions at run time, in tests only; and a chain that is done."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

install_import_hook("mcis_cli.models", "beartype.beartype")

# No test asserts a time: a machine that is busy with something else shall not fail one.
settings.register_profile("mcis", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mcis")


@pytest.fixture(scope="session")
def one_thread():
    """Tensors are computed by one thread: the number of threads changes bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def chain(tmp_path_factory, one_thread):
    """A folder with the tiny chain done, see `chains.Chain`. Tests may add to its store, and change nothing in it."""
    from chains import run_chain

    return run_chain(tmp_path_factory.mktemp("chain") / "work")


@pytest.fixture
def chain_copy(chain, tmp_path):
    """A copy of that folder, to break."""
    import shutil
    from dataclasses import replace

    from mcis_cli.store import open_store

    folder = tmp_path / "copy"
    shutil.copytree(chain.folder, folder)
    store = open_store(folder / ".mcis")
    return replace(chain, folder=folder, made={stage: store.get(a.id) for stage, a in chain.made.items()})


@pytest.fixture
def call(monkeypatch, capfd) -> Callable:
    """Runs a command in this process: `call("cams", "--refs", "1", cwd=folder)` gives exit code, stdout and stderr."""
    from chains import Answer

    from mcis_cli.cli.app import main

    for name in ("MCIS_STORE", "MCIS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str | Path, cwd: Path) -> Answer:
        monkeypatch.chdir(cwd)
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Answer(int(left.value.code or 0), captured.out, captured.err)

    return run
