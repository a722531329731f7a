"""The engine that has segments computed by the machines of a Ray cluster; the only importer of Ray.

Ray chooses the machine of each task, gives it a GPU of its own if it needs one, and repeats the tasks of lost machines.
"""

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mcis_cli.errors import McisError, UsageError
from mcis_cli.stages.engine import engines

if TYPE_CHECKING:
    from mcis_cli.config import Asked

ADDRESS = "RAY_ADDRESS"
RETRIES = 10  # of a segment whose machine is lost
TIMEOUT = 10.0  # seconds to reach the cluster
STORE_BYTES = 100 * 2**20  # of memory for objects: tasks exchange hardly any


class Cluster:
    """The cluster at `RAY_ADDRESS`, or else Ray started on this machine, from the first segment to the end.

    Attributes:
        threads: of each worker.
    """

    def __init__(self, cpus: int, threads: int) -> None:
        """Choose a cluster; if it is started on this machine, it uses `cpus` cores.

        Raises:
            UsageError: Ray is not installed.
        """
        try:
            import ray
        except ImportError:
            raise UsageError(
                "--engine ray needs the package ray, which is not installed; pip install 'mcis[ray]', or give --engine "
                "processes"
            ) from None
        self.threads, self._cpus, self._ray, self._is_ours = threads, cpus, ray, False
        self._compute: Any = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            self._ray.shutdown()

    def submit(self, packed: bytes, asked: "Asked", *, on_gpu: bool) -> "Future[None]":
        """As in `Engine`.

        Raises:
            UsageError: there is no cluster at the address, or no GPU in it.
        """
        if self._compute is None:
            self._connect()
            # A process keeps its network for the next segment, which Ray by itself forbids on a GPU.
            self._compute = self._ray.remote(max_calls=0)(engines.compute)
        if on_gpu and not self._ray.cluster_resources().get("GPU"):
            raise UsageError("no machine of the Ray cluster has a GPU, and this one has: give --device cpu")
        task = self._compute.options(
            num_cpus=self.threads,
            num_gpus=int(on_gpu),
            max_retries=RETRIES,
            name=f"segment {asked[1]}",
            runtime_env={"env_vars": {engines.THREADS: str(self.threads)}},
        )
        return self._raising(task.remote(packed, asked, self.threads).future())

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        address = os.environ.get(ADDRESS)
        local: dict[str, Any] = {
            "num_cpus": max(self._cpus, self.threads),
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
        }
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            _reach(address or "local")
            with _own_signals():
                self._ray.init(
                    address=address or "local",
                    logging_level="ERROR",
                    log_to_driver=False,
                    **({} if address else local),
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"--engine ray cannot start: {' '.join(str(error).split())[:300]}; expected a cluster at {ADDRESS}, "
                f"found {address or 'none, so Ray on this machine'}; set {ADDRESS}=HOST:6379, or unset it"
            ) from error
        self._is_ours = True

    def _raising(self, answer: "Future[McisError | None]") -> "Future[None]":
        """A future that raises the error which a task returns."""
        future: Future[None] = Future()
        errors = self._ray.exceptions

        def pass_on(done: "Future[McisError | None]") -> None:
            error = done.exception() or done.result()
            if isinstance(error, errors.RayError) and not isinstance(error, errors.RayTaskError):
                error = McisError(
                    f"Ray gave up a segment: {' '.join(str(error).split())[:300]}; expected a worker that survives it; "
                    "see Ray's logs, and if memory ran out, give --cache-mb 256 or machines with more"
                )
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        answer.add_done_callback(pass_on)
        return future


def _reach(address: str) -> None:
    """Connect to a host and port, because Ray ends the process if it cannot."""
    if match := re.fullmatch(r"(?:ray://)?([^/:]+):([0-9]{1,5})", address):
        socket.create_connection((match[1], int(match[2])), TIMEOUT).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the answers to signals that the command has, because Ray sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
