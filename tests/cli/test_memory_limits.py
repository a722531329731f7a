"""A limit on memory (`ulimit -v`) is one line that says so, however little is left."""

import os
import resource
import subprocess
import sys

import pytest

from mcis_cli.cli import memory

COMMANDS = ("status", "check", "verify", "report --no-attention --no-predictions")


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [100, 150, 250, 400])
def test_a_command_under_a_limit_works_or_says_that_memory_ran_out(chain_copy, megabytes):
    for command in COMMANDS:
        limited = f"ulimit -v {megabytes * 1024}; exec {sys.executable} -m mcis_cli {command} --quiet"
        ended = subprocess.run(
            ["bash", "-c", limited.replace("status --quiet", "status")],
            cwd=chain_copy.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "bug:" not in ended.stderr  # libraries may end the process themselves, in words of their own


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_each_way_to_run_out_of_memory_is_known_by_its_words(error):
    assert memory.ran_out(error)
    assert "memory ran out" in str(memory.explained(error, ["check"]))


@pytest.mark.parametrize(
    "error", [RuntimeError("shape"), ImportError("no module"), OSError(2, "No such file"), KeyError()]
)
def test_other_errors_are_no_lack_of_memory(error):
    assert not memory.ran_out(error)


@pytest.mark.parametrize(
    "error", [SystemError(), ImportError("cannot import name 'inspect' from 'mcis_cli.data.images'")]
)
def test_what_only_a_lack_of_memory_explains_counts_where_memory_is_limited(monkeypatch, error):
    limit = resource.RLIM_INFINITY
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (limit, limit))
    assert not memory.ran_out(error)
    limit = 2**28
    assert memory.ran_out(error)
