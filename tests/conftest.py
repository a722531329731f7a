"""Checks the annotated shapes of the models' tensor functions at run time, in tests only; and a chain that is done."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook
from sizes import size

install_import_hook("mcis_cli.models", "beartype.beartype")

# No test asserts a time: a machine that is busy with something else shall not fail one.
settings.register_profile(
    "mcis", deadline=None, max_examples=size(50, 200), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mcis")

# A shell that starts the tests in the background has Ctrl-C ignored; the commands that tests stop would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest; otherwise one process would do the last of them while the other waits."""
    items.sort(key=lambda item: item.get_closest_marker("heavy") is None)


@pytest.fixture(scope="session")
def one_thread():
    """Tensors are computed by one thread: the number of threads changes bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def untouched(tmp_path_factory, one_thread):
    """A folder with the tiny chain done, see `tiny_chain.Chain`, as it was when it was done: only to be copied."""
    from tiny_chain import run_chain

    return run_chain(tmp_path_factory.mktemp("untouched") / "work")


@pytest.fixture(scope="session")
def chain(untouched, tmp_path_factory):
    """A copy of that folder which tests share: they may add to its store, and change nothing in it."""
    from tiny_chain import copy_chain

    return copy_chain(untouched, tmp_path_factory.mktemp("chain") / "work")


@pytest.fixture
def chain_copy(untouched, tmp_path):
    """A copy of that folder of a test's own, to break; what others have added is not in it."""
    from tiny_chain import copy_chain

    return copy_chain(untouched, tmp_path / "copy")


@pytest.fixture
def call(monkeypatch, capfd) -> Callable:
    """Runs a command in this process: `call("cams", "--refs", "1", cwd=folder)` gives exit code, stdout and stderr."""
    from run_commands import Answer

    from mcis_cli.cli.start import SIGNALS, main

    for name in ("MCIS_STORE", "MCIS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str | Path, cwd: Path) -> Answer:
        monkeypatch.chdir(cwd)
        capfd.readouterr()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            with pytest.raises(SystemExit) as left:
                main([str(argument) for argument in arguments])
        finally:  # a command leaves them ignored
            for number, handler in before.items():
                signal.signal(number, handler)
        captured = capfd.readouterr()
        return Answer(int(left.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def tally(request):
    """What a test of a promise counts; `tests/helpers/long_run.py` makes a table of it."""
    from stage_folders import Tally

    counted = Tally(request.node.name)
    request.node.user_properties.append(("tally", counted.facts))
    return counted


@pytest.fixture(scope="session")
def stage_folders(tmp_path_factory):
    """Folders to stop stages in, see `stage_folders.StageFolders`."""
    from stage_folders import build

    return build(tmp_path_factory.mktemp("stage_folders"))


@pytest.fixture(scope="session")
def programs():
    """The folder of `run_commands.programs`, for the path of a shell."""
    import run_commands

    return run_commands.programs()
