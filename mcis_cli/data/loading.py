"""Work ahead in threads or processes, with results in order and a bounded queue. The caller defines the work, such as
reading photographs or a CRF.
"""

import multiprocessing
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, Self, TypeVar

from mcis_cli.errors import McisError


class WorkerDiedError(McisError):
    """A worker process was killed."""


Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    ahead: int | None = None,
    processes: bool = False,
) -> Generator[Result, None, None]:
    """Map a function over items in the background, with workers that live as long as the iterator; see `Workers`."""
    with Workers(function, workers, processes=processes) as crew:
        yield from crew.map(items, ahead=ahead)


class Workers(Generic[Item, Result]):
    """Threads or processes that do one kind of work, for several batches of items in turn.

    A context manager: its
    end, also by an exception or Ctrl-C, drops items that have not begun; threads finish their item, processes end at
    once. Nothing starts before the first result is requested.
    """

    def __init__(self, function: Callable[[Item], Result], number: int, *, processes: bool = False) -> None:
        """Define the work.

        Args:
            function: the work; with `processes`, importable by name (as must be items and results by pickle).
            number: threads or processes; 0 does the work inline.
            processes: for work that holds the interpreter's lock. They are spawned, not forked.
        """
        self._function, self._number = function, number
        self._crew = Crew(function, number) if processes and number > 0 else None
        self._pool = ThreadPoolExecutor(max(1, number), "mcis")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._crew:
            self._crew.dismiss()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, items: Iterable[Item], *, ahead: int | None = None) -> Generator[Result, None, None]:
        """Results in the order of the items. An exception of an item is raised in place of its result.

        Args:
            items: read at most `ahead` beyond the requested result, so they may be endless.
            ahead: how many items may be in work or wait for the caller, at least 1; twice the workers by default.

        Raises:
            McisError: a worker process was killed, as happens if memory runs out.
        """
        if self._number <= 0:
            yield from map(self._function, items)
            return
        waiting: deque[Future[Result]] = deque()
        work = self._crew.work if self._crew else self._function
        try:
            for submission in submit_each(self._pool, work, items):
                waiting.append(submission)
                if len(waiting) >= (ahead or 2 * self._number):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for submission in waiting:
                submission.cancel()


def submit_each(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator["Future[Result]"]:
    """Submit the items one by one; a failure of `items` itself becomes the last future, so that it keeps its place."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failure: Future[Result] = Future()
        failure.set_exception(error)
        yield failure


class Crew:
    """A worker process for each thread of a pool, each with its own pipe.

    They share no lock and no queue, so any of them can be killed at any moment, and no other waits for it. If the
    parent was killed, a process finds its pipe closed after its item, and exits.
    """

    def __init__(self, function: Callable[[Any], Any], size: int, *, daemon: bool = True) -> None:
        """Define the work; only processes that are no daemons may have processes of their own."""
        self._function = function
        self._size = size
        self._daemon = daemon
        self._own = threading.local()
        self._processes: list[SpawnProcess] = []
        self._lock = threading.Lock()
        self._dismissed = False

    def work(self, item: Any) -> Any:
        """Compute an item in the process of this thread.

        Raises:
            WorkerDiedError: it died; the next item gets a new one.
        """
        if not hasattr(self._own, "pipe"):
            self._own.pipe = self._hire()
        try:
            self._own.pipe.send(item)
            failed, result = self._own.pipe.recv()
        except (EOFError, ConnectionError) as error:
            del self._own.pipe
            raise WorkerDiedError(
                f"a worker process of {self._size} died while running {getattr(self._function, '__name__', 'a task')}: "
                "it was killed, most often because memory ran out; use fewer with --workers"
            ) from error
        if failed:
            raise result
        return result

    def _hire(self) -> Connection:
        """Start the process of this thread."""
        # Ctrl-C reaches the whole group, but only the parent must answer it: a new process inherits the thread's mask.
        resource_tracker.ensure_running()  # first, because it resets the mask
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # A forked child would inherit the locks of torch's and HDF5's threads in any state.
        context = multiprocessing.get_context("spawn")
        pipe, far_end = context.Pipe()
        process = context.Process(target=serve, args=(far_end, self._function), daemon=self._daemon)
        with far_end, self._lock:
            if self._dismissed:
                raise CancelledError
            process.start()
            self._processes.append(process)
        return pipe

    def dismiss(self) -> None:
        """End all processes at once."""
        with self._lock:
            self._dismissed = True
            for process in self._processes:
                process.kill()
            for process in self._processes:
                process.join()


def serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """The loop of a worker process: answer each item with whether it failed, and its result or exception."""
    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            item = pipe.recv()
            try:
                answer = False, function(item)
            except Exception as error:
                error.add_note(f"In a worker process: {traceback.format_exc()}")
                answer = True, error
            pipe.send(answer)
