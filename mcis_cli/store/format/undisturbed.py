"""Keep exceptions of signals out of code that cannot handle them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block ends, if their handlers raise; the block must be short.

    Python runs handlers between any two of its instructions, also in a callback: HDF5 calls back to write, and an
    exception there leaves it in a state in which the interpreter crashes. Handlers run in the main thread only.
    """
    came: list[tuple[int, FrameType | None]] = []
    handlers = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    handlers[number] = handler
                    signal.signal(number, lambda number, frame: came.append((number, frame)))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for came_number, frame in came:
            handlers[signal.Signals(came_number)](came_number, frame)
