"""Where the time of the tests goes, also on a busy machine: `pytest -p processor_time` lists seconds of processor time.

Processes that a test waits for are counted. What a shared fixture costs is counted in the test that first requires it,
or, for processes that end with the fixture, in the last one.
"""

import os
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fork_server import LISTENING

SECONDS: Counter[str] = Counter()
NUM_TESTS, NUM_FILES = 40, 40


def _processor_time() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime + sum(map(_of_a_server, LISTENING))


def _of_a_server(server: "subprocess.Popen[bytes]") -> float:
    """Of a server and the commands that it forked; the last ones count in the test that forks next."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Count what a test takes, with its fixtures."""
    before = _processor_time()
    result = yield
    SECONDS[item.nodeid] += _processor_time() - before
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the files and the tests that take most."""
    files: Counter[str] = Counter()
    for test, seconds in SECONDS.items():
        files[test.split("::")[0]] += seconds
    terminalreporter.section(f"processor time: {sum(SECONDS.values()):.0f} s")
    for name, seconds in [*files.most_common(NUM_FILES), *SECONDS.most_common(NUM_TESTS)]:
        terminalreporter.write_line(f"{seconds:8.2f} s  {name}")
