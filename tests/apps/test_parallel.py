"""Jobs over processes: all come back, a failure ends the whole, and nothing is left of a run that is ended."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsac_robot.apps.parallel import run_all


def squares(jobs: Iterator[int]) -> Iterator[tuple[int, int]]:
    for job in jobs:
        time.sleep(0.02)
        if job == 13:
            raise ValueError("thirteen")
        yield job * job, os.getpid()


def workers() -> int:
    return len(multiprocessing.active_children())


def test_all_results_come_back_from_as_many_processes() -> None:
    results = list(run_all(squares, range(12), 2))
    assert sorted(value for value, _ in results) == [n * n for n in range(12)]
    assert len({process for _, process in results}) == 2
    assert os.getpid() not in {process for _, process in results}


def test_one_process_is_this_one() -> None:
    assert {process for _, process in run_all(squares, range(5), 1)} == {os.getpid()}


def test_an_error_in_a_worker_ends_the_whole_and_is_raised_here() -> None:
    before = workers()
    with pytest.raises(ValueError, match="thirteen"):
        list(run_all(squares, range(5000), 2))
    assert workers() == before


def test_who_has_enough_leaves_no_process_behind() -> None:
    before = workers()
    results = run_all(squares, range(5000, 10000), 2)
    next(results)
    results.close()
    assert workers() == before


def test_workers_end_with_a_process_that_was_killed() -> None:
    program = (
        "from tests.apps.test_parallel import squares\n"
        "from dsac_robot.apps.parallel import run_all\n"
        "if __name__ == '__main__':\n"
        "    for value, process in run_all(squares, range(100, 100000), 2):\n"
        "        print(process, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        worker = int(child.stdout.readline())
        child.kill()
    with pytest.raises((ProcessLookupError, FileNotFoundError)):
        for _ in range(400):
            os.kill(worker, 0)
            if " Z " in Path(f"/proc/{worker}/stat").read_text(encoding="utf-8"):  # nobody waits for it here
                raise ProcessLookupError
            time.sleep(0.05)
    assert child.returncode == -signal.SIGKILL
