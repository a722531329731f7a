"""What the store promises, tested for long: `python tests/helpers/long_run.py` runs the tests and prints a table.

Arguments are given to pytest: `python tests/helpers/long_run.py tests/store/test_kills.py`. With MCIS_LONG=0 the sizes
are those of every day. `make test-long` runs the same tests without the table, several at a time.
"""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest


class Table:
    """Collects what the tests counted (the fixture `tally`), and prints it when they are done."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float, Mapping[str, float]]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the end of a test, or that it could not begin."""
        if report.when == "call" or report.outcome != "passed":
            facts = dict(report.user_properties).get("tally", {})
            name = report.nodeid.removeprefix("tests/")
            assert isinstance(facts, dict)
            self.rows.append((name, report.outcome, report.duration, facts))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        terminalreporter.write_line("")
        terminalreporter.write_line("| test | outcome | seconds | counted |")
        terminalreporter.write_line("|---|---|---|---|")
        for name, outcome, seconds, facts in self.rows:
            counted = ", ".join(f"{fact.replace('_', ' ')} {value:g}" for fact, value in facts.items())
            terminalreporter.write_line(f"| {name} | {outcome} | {seconds:.0f} | {counted} |")
        failed = sum(outcome == "failed" for _, outcome, _, _ in self.rows)
        terminalreporter.write_line(f"{len(self.rows)} tests, {failed} failed, {time.strftime('%Y-%m-%d %H:%M')}")


def main() -> int:
    """Run the tests of the promises at their long size."""
    os.environ.setdefault("MCIS_LONG", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.chdir(Path(__file__).parents[2])
    return int(pytest.main(["-q", "-m", "promise or long", *sys.argv[1:]], plugins=[Table()]))


if __name__ == "__main__":
    sys.exit(main())
