"""Independent jobs over worker processes, results as they come."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
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
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(processes, len(jobs)), _start, (work,)) as pool:
        yield from pool.imap_unordered(_one, jobs)


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


def _one(job: Any) -> Any:
    assert _worker is not None  # the pool's initializer made it
    return _worker.do(job)
