"""Work done ahead: results in order, bounded, exceptions in place, workers that end."""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from mcis_cli.data.loading import ordered_map
from mcis_cli.errors import McisError


def square(value: int) -> int:
    time.sleep(0.002 * (value % 3))
    return value * value


def invert(value: int) -> float:
    return 1 / value


def die(value: int) -> None:
    os._exit(1)


def setting_of_worker(value: int) -> str:
    return os.environ.get("MCIS_TEST_WORKER", "") + str(value)


def set_up_worker() -> None:
    os.environ["MCIS_TEST_WORKER"] = "ready"


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_of_items(workers: int) -> None:
    assert list(ordered_map(square, range(20), workers=workers)) == [value * value for value in range(20)]


def test_empty_items_give_nothing() -> None:
    assert list(ordered_map(square, [], workers=2)) == []


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_items_are_read_no_further_than_ahead(ahead: int) -> None:
    read = itertools.count()
    results = ordered_map(square, (next(read) for _ in itertools.count()), workers=2, ahead=ahead)
    for position in range(7):
        assert next(results) == position * position
    results.close()
    assert next(read) <= 7 + ahead


@pytest.mark.parametrize("workers", [0, 2])
def test_exception_surfaces_in_place_of_its_result(workers: int) -> None:
    results = ordered_map(invert, [1, 2, 0, 4], workers=workers)
    assert [next(results), next(results)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("workers", [0, 2])
def test_failure_of_the_items_keeps_its_place(workers: int) -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise LookupError("no third")

    results = ordered_map(square, items(), workers=workers, ahead=8)
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(LookupError, match="no third"):
        next(results)


def test_closing_stops_the_workers() -> None:
    results = ordered_map(square, itertools.count(), workers=2)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mcis")]


@pytest.mark.parametrize("workers", [0, 2])
def test_initializer_runs_in_each_thread_and_inline(workers: int) -> None:
    seen: list[str] = []
    list(
        ordered_map(square, range(4), workers=workers, initializer=lambda: seen.append(threading.current_thread().name))
    )
    assert len(seen) == len(set(seen)) == 1 or workers


@pytest.mark.slow
def test_processes_keep_the_order_and_run_the_initializer() -> None:
    results = ordered_map(setting_of_worker, range(3), workers=2, processes=True, initializer=set_up_worker)
    assert list(results) == ["ready0", "ready1", "ready2"]
    assert "MCIS_TEST_WORKER" not in os.environ


def sleep(seconds: int) -> None:
    time.sleep(seconds)


def state_of_signals(value: int) -> tuple[int, set[signal.Signals]]:
    os.kill(os.getpid(), signal.SIGINT)
    return value, signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.slow
def test_closing_ends_processes_in_the_middle_of_their_work() -> None:
    results = ordered_map(sleep, [0, 3600, 3600, 3600], workers=2, ahead=3, processes=True)
    next(results)
    results.close()
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_processes_leave_ctrl_c_to_their_parent() -> None:
    for value, blocked in ordered_map(state_of_signals, range(3), workers=2, processes=True):
        assert value in range(3)
        assert blocked == {signal.SIGINT}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


@pytest.mark.slow
def test_an_exception_in_a_process_says_where() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(ordered_map(invert, [0], workers=1, processes=True))
    assert "return 1 / value" in caught.value.__notes__[0]


@pytest.mark.slow
def test_killed_process_is_told_with_a_way_out() -> None:
    with pytest.raises(McisError, match=r"worker process of 1 died while running die: .* use fewer with --workers"):
        list(ordered_map(die, range(3), workers=1, processes=True))
