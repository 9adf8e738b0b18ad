"""Independent jobs over worker processes, results as they come."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")


def run_all(work: Callable[[Iterator[J]], Iterator[R]], jobs: Sequence[J], processes: int) -> Iterator[R]:
    """Yield what ``work`` yields for ``jobs``, in any order. ``work`` is called once in each process.

    Each process runs one thread. An exception in a worker ends the whole and is raised here.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if processes <= 1 or len(jobs) <= 1:
        yield from work(iter(jobs))
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool, workers = ProcessPoolExecutor(min(processes, len(jobs)), context, _start, (work,)), set()
    try:
        with _deaf_to_ctrl_c():
            futures = [pool.submit(_one, job) for job in jobs]
            workers = set(multiprocessing.active_children()) - before
        for future in as_completed(futures):
            yield future.result()
    except BaseException:  # whatever ends this early, Ctrl-C and a consumer that has enough as well
        for worker in workers:
            worker.kill()  # now: what is under way may take long
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started meanwhile ignore Ctrl-C, which reaches all of a terminal's: this one ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Worker(Generic[J, R]):
    """This process's generator of results, fed one job at a time."""

    def __init__(self, work: Callable[[Iterator[J]], Iterator[R]]) -> None:
        self._jobs: list[J] = []
        self._results = work(self._feed())

    def _feed(self) -> Iterator[J]:
        while True:
            yield self._jobs.pop()

    def do(self, job: J) -> R:
        self._jobs.append(job)
        return next(self._results)


_worker: _Worker[Any, Any] | None = None


def _start(work: Callable[[Iterator[J]], Iterator[R]]) -> None:
    global _worker
    _worker = _Worker(work)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker waits for ever for the next job of a process that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _one(job: Any) -> Any:
    assert _worker is not None  # the pool's initializer made it
    return _worker.do(job)
