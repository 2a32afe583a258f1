"""A Dask cluster as an executor. If a worker dies, another one takes over its work."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client, KilledWorker, get_worker
from distributed.comm.addressing import parse_address, parse_host_port

from actlab.data.dataset import compute_fingerprint
from actlab.errors import UsageError, summarize_error
from actlab.execution.processes import (
    Array,
    SharedArrays,
    WorkerExecutor,
    create_shared_folder,
    map_arrays,
    save_arrays,
)

log = logging.getLogger("actlab")
PATIENCE = 300.0  # seconds to wait for a scheduler that does not respond
_SCHEMES = ("tcp", "tls", "ucx", "ws", "wss")
_CONNECT_SECONDS = 10.0  # seconds to wait for the first response of a scheduler
_CACHE_SECONDS = 2.0  # seconds for which the number of workers is cached
_PACKAGES = ("actlab", "torch", "numpy", "scikit-learn", "skorch")  # packages that affect results


class Cluster(WorkerExecutor):
    """An executor that trains on the workers of a Dask cluster.

    Each machine stores the data once, as files that its workers map into memory. A worker trains one fleet
    at a time, so it should have one thread. If a worker dies, another worker trains its fleet. If the
    scheduler restarts, unfinished tasks are submitted again.

    Args:
        scheduler: Its address, such as ``"tcp://10.0.0.1:8786"``, or a :class:`distributed.Client`.

    Raises:
        UsageError: No scheduler responds at the address, or a worker has different versions of packages.
    """

    def __init__(self, scheduler: str | Client) -> None:
        self._owns_client = isinstance(scheduler, str)
        self._client = _connect(scheduler) if isinstance(scheduler, str) else scheduler
        self._address: str = self._client.scheduler.address  # type: ignore  # it is connected
        self._thread = ThreadPoolExecutor(1, "actlab-cluster")  # runs the callbacks of finished calls
        self._data: dict[str, tuple[Array, Array]] = {}
        self._sent: set[str] = set()  # fingerprints of data on the workers
        self._workers, self._counted = 1, -_CACHE_SECONDS
        self._closed = threading.Event()
        try:
            self._check_workers()
        except UsageError:
            self.shutdown()
            raise

    def count_slots(self) -> int:
        """Return twice the number of workers, so that no worker waits for its next task."""
        if self._client.status == "running" and time.monotonic() - self._counted > _CACHE_SECONDS:
            with contextlib.suppress(OSError, TimeoutError):  # while the scheduler restarts
                self._workers = max(1, len(self._client.nthreads()))
                self._counted = time.monotonic()
        return 2 * self._workers

    @contextlib.contextmanager
    def share_arrays(self, X: Array, y: Array) -> Iterator[SharedArrays]:
        """Yield a reference to the arrays that every worker can load."""
        fingerprint = compute_fingerprint(X, y)
        self._data[fingerprint] = X, y
        self._sent.add(fingerprint)
        try:
            with create_shared_folder(0) as folder:  # for the progress of workers on this machine
                yield WorkerArrays(folder, fingerprint)
        finally:
            del self._data[fingerprint]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call a function on a worker; the future raises BrokenExecutor if the workers die."""
        if self._closed.is_set():
            raise RuntimeError("it is shut down")
        call = _Call(functools.partial(fn, *args, **kwargs))
        self._thread.submit(self._send, call)
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks, and disconnect if the cluster was given by its address."""
        self._closed.set()
        self._thread.shutdown(wait=wait, cancel_futures=cancel_futures)
        for fingerprint in self._sent if self._client.status == "running" else ():
            self._client.run(_delete_arrays, fingerprint, on_error="ignore")
        self._sent.clear()
        if self._owns_client:
            self._client.close()

    # -- everything below happens in _thread ---------------------------------------------------------

    def _send(self, call: _Call) -> None:
        try:
            while not call.cancelled():
                if self._client.status == "running":
                    call.inner = self._client.submit(_run, _list_versions(), call.function, pure=False)
                    call.inner.add_done_callback(functools.partial(self._queue_end, call))
                    return
                self._reconnect()
        except Exception as error:  # result() raises it in the caller
            call.fail(error)

    def _queue_end(self, call: _Call, inner: Any) -> None:
        with contextlib.suppress(RuntimeError):  # after shutdown no result is awaited
            self._thread.submit(self._finish, call, inner)

    def _finish(self, call: _Call, inner: Any) -> None:
        if call.cancelled():
            return
        try:
            if inner.status in ("cancelled", "lost"):
                self._send(call)  # it was lost with its scheduler
                return
            result = inner.result()
            if isinstance(result, _DataMissing):
                self._send_data(result, call)
            else:
                call.succeed(result)
        except KilledWorker as error:
            call.fail(BrokenExecutor(f"{error.allowed_failures + 1} Dask workers died"))
        except UsageError as error:
            call.fail(error)
        except Exception as error:
            if inner.status in ("cancelled", "lost"):
                self._send(call)
                return
            problem = f"a worker of {self._address} cannot run its task: {summarize_error(error)}"
            call.fail(UsageError(f"{problem}; it needs the modules and packages that this process has"))

    def _send_data(self, missing: _DataMissing, call: _Call) -> None:
        worker, fingerprint = missing.args
        try:
            problem = self._client.run(_store, fingerprint, *self._data[fingerprint], workers=[worker])[
                worker
            ]
        except Exception as error:  # the worker has left; another one will request the data
            log.info("cannot send data to %s: %s", worker, summarize_error(error))
            problem = ""
        if problem:
            call.fail(UsageError(f"worker {worker} cannot store the data: {problem}"))
        else:
            self._send(call)

    def _reconnect(self) -> None:
        """Wait until the scheduler responds again."""
        log.warning("the scheduler at %s does not respond; waiting for it", self._address)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not self._closed.is_set():
            if self._client.status == "running":
                return
            if self._client.status == "closed":  # the client has given up
                with contextlib.suppress(UsageError):
                    self._client, self._owns_client = _connect(self._address), True
                    return
            self._closed.wait(0.2)
        raise UsageError(f"the scheduler at {self._address} has not responded for {PATIENCE:g} seconds")

    def _check_workers(self) -> None:
        workers = self._client.run(_list_versions, on_error="return")
        if not workers:
            log.warning("the scheduler at %s has no workers yet; waiting", self._address)
        for worker, versions in workers.items():
            if isinstance(versions, Exception):
                raise UsageError(
                    f"worker {worker} has a different version of actlab than this process: "
                    f"{summarize_error(versions)}"
                )
            if versions != _list_versions():
                raise UsageError(f"worker {worker}: {_describe_difference(versions, _list_versions())}")
        for worker, threads in self._client.nthreads().items():
            if threads > 1:
                log.warning(
                    "worker %s has %d threads, but trains one fleet at a time; use --nthreads 1",
                    worker,
                    threads,
                )


class _Call(Future[Any]):
    """The future of a call, which may be sent several times."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self.function = function
        self.inner: Any = None

    def cancel(self) -> bool:
        """Cancel the call, on the cluster too."""
        done = super().cancel()
        if done and self.inner is not None:
            self.inner.cancel()
        return done

    def succeed(self, result: Any) -> None:
        if self.set_running_or_notify_cancel():
            self.set_result(result)

    def fail(self, error: BaseException) -> None:
        if self.set_running_or_notify_cancel():
            self.set_exception(error)


def _connect(address: str) -> Client:
    problem = f"scheduler is {address!r}, not an address such as tcp://127.0.0.1:8786"
    try:
        scheme, location = parse_address(address)
        host, port = parse_host_port(location)
    except ValueError as error:
        raise UsageError(f"{problem}: {error}") from error
    if scheme not in _SCHEMES or not host or not port:
        raise UsageError(f"{problem}: it needs {', '.join(_SCHEMES)}, a host and a port")
    for name in ("distributed", "distributed.client"):  # this module reports lost connections itself
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        problem = f"no Dask scheduler responded at {address!r} within {_CONNECT_SECONDS:g} s"
        raise UsageError(f"{problem}; start one with `dask scheduler`, which prints its address") from error


def _describe_difference(theirs: dict[str, str], ours: dict[str, str]) -> str:
    differ = [f"{name} {theirs[name]}, here {ours[name]}" for name in ours if theirs[name] != ours[name]]
    return f"its versions differ from those of this process: {'; '.join(differ)}"


# -- on workers -----------------------------------------------------------------------------------


class _DataMissing(Exception):
    """Raised on a worker that does not have the data, with its address and the fingerprint."""


@dataclass(frozen=True)
class WorkerArrays(SharedArrays):
    """Arrays that each worker machine stores as files.

    Attributes:
        fingerprint: The fingerprint of the arrays.
    """

    fingerprint: str

    def load(self) -> tuple[Array, Array]:
        """Return the arrays; raise _DataMissing if the worker does not have them."""
        worker = get_worker()
        try:
            return map_arrays(_find_folder(worker, self.fingerprint))
        except FileNotFoundError:
            raise _DataMissing(worker.address, self.fingerprint) from None

    def tick(self, name: str) -> None:
        """Append a byte to a file; stop the call if Dask has cancelled it."""
        super().tick(name)
        worker = get_worker()
        if worker.state.tasks[worker.get_current_task()].state == "cancelled":
            raise _Cancelled


class _Cancelled(BaseException):
    """Raised to stop a cancelled call. It is not an Exception: exceptions are returned as results."""


def _find_folder(worker: Any, fingerprint: str) -> Path:
    # Outside the worker's own folder, so that the next worker of this machine can use it.
    return Path(worker.local_directory).parent / f"actlab-{fingerprint}"


def _store(fingerprint: str, X: Array, y: Array, dask_worker: Any) -> str:
    """Write the data to the folder of :func:`_find_folder`; return an error message, empty on success."""
    folder = _find_folder(dask_worker, fingerprint)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            save_arrays(Path(beside), X, y)
            Path(beside).rename(folder)
            Path(beside).mkdir()  # to be removed
    except OSError as error:
        return "" if folder.exists() else summarize_error(error)  # another worker was faster
    return ""


def _delete_arrays(fingerprint: str, dask_worker: Any) -> None:
    shutil.rmtree(_find_folder(dask_worker, fingerprint), ignore_errors=True)


_one_at_a_time = threading.Lock()  # fleets in two threads of a process would affect each other


def _run(versions: dict[str, str], function: Callable[[], Any]) -> Any:
    if versions != _list_versions():  # the worker has joined later
        raise UsageError(f"worker {get_worker().address}: {_describe_difference(_list_versions(), versions)}")
    with _one_at_a_time:
        try:
            return function()
        except _DataMissing as missing:
            return missing  # returned, because Dask would log an exception


@functools.cache
def _list_versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{n: importlib.metadata.version(n) for n in _PACKAGES}}
