"""Work done ahead: results in order, bounded, exceptions in place, workers that end."""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from mcis_cli.data.loading import Workers, ordered_map
from mcis_cli.errors import McisError


def square(value: int) -> int:
    time.sleep(0.002 * (value % 3))
    return value * value


def invert(value: int) -> float:
    return 1 / value


def die(value: int) -> None:
    os._exit(1)


def own_process(value: int) -> tuple[int, int]:
    time.sleep(0.01)
    return value, os.getpid()


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


@pytest.mark.slow
def test_processes_keep_the_order_and_stay_for_the_next_items() -> None:
    with Workers(own_process, 2, processes=True) as workers:
        first, second = list(workers.map(range(4))), list(workers.map(range(4, 8)))
    assert [value for value, _ in first + second] == list(range(8))
    assert len({process for _, process in first + second}) <= 2
    assert os.getpid() not in {process for _, process in first}


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_left_of_items_that_nobody_wants_is_not_begun(workers: int) -> None:
    begun: list[int] = []

    def note(value: int) -> int:
        begun.append(value)
        return square(value)

    with Workers(note, workers) as crew:
        results = crew.map(range(100), ahead=50)
        assert next(results) == 0
        results.close()
        assert list(crew.map([3])) == [9]
    assert len(begun) < 60


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
