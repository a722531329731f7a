"""Work done ahead in threads or processes, with results in order and a bound on what waits.

What the work is (reading photographs, a CRF) is left to the caller.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mcis_cli.errors import McisError

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    ahead: int | None = None,
    processes: bool = False,
    initializer: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Map a function over items in the background; results come in the order of the items.

    An exception of an item surfaces where its result would have come. Closing the iterator, an exception or Ctrl-C drop
    what has not begun and wait for what has. Nothing starts before the first result is asked for.

    Args:
        function: the work; with `processes`, importable by name (as must be items and results by pickle).
        items: the inputs; read no further than `ahead` beyond the result asked for, so it may be endless.
        workers: threads or processes; 0 does the work inline.
        ahead: how many items may be at work or wait for the caller, at least 1; twice the workers by default.
        processes: use processes, for work in Python that holds the interpreter's lock. They are spawned, not forked.
        initializer: called once in each worker; with `processes`, importable by name.

    Returns:
        The iterator of results.

    Raises:
        McisError: a worker process was killed, as happens where memory runs out.
    """
    if workers <= 0:
        if initializer is not None:
            initializer()
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = start_pool(workers, processes, initializer)
    try:
        submissions = submit_each(pool, function, items)
        for submission in submissions:
            waiting.append(submission)
            if len(waiting) >= (ahead or 2 * workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise McisError(
            f"a worker process of {workers} died while running {getattr(function, '__name__', 'a task')}: it was "
            "killed, most often because memory ran out; use fewer with --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def start_pool(workers: int, processes: bool, initializer: Callable[[], None] | None) -> Executor:
    """Make the pool of threads or processes; no worker starts before its first task."""
    if not processes:
        return ThreadPoolExecutor(workers, thread_name_prefix="mcis", initializer=initializer)
    # A forked child would inherit the locks of torch's and HDF5's threads in whatever state they are.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=enter_worker, initargs=(initializer,))


def enter_worker(initializer: Callable[[], None] | None) -> None:
    """Begin the life of a worker process. Ctrl-C reaches the whole group: only the parent shall answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if initializer is not None:
        initializer()


def submit_each(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator["Future[Result]"]:
    """Submit the items one by one; a failure of `items` itself becomes the last future, so that it keeps its place."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failure: Future[Result] = Future()
        failure.set_exception(error)
        yield failure
