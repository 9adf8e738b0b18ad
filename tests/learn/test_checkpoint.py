"""Checkpoints survive kill -9 at any moment; what is no checkpoint is refused by name."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dsac_robot.core.params import ParameterError
from dsac_robot.learn import checkpoint

WRITER = """
import sys, torch
from pathlib import Path
from dsac_robot.learn import checkpoint
for number in range(10**9):
    content = torch.full((400_000,), float(number))
    checkpoint.save_atomically({"number": number, "content": content}, Path(sys.argv[1]))
    print(number, flush=True)
"""


def test_kill_9_during_a_save_leaves_the_last_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    rng = np.random.default_rng(0)
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline().strip() == "0"  # it has started
            for _ in range(12):  # stop it, look, let it go on: many moments for the price of one process
                time.sleep(float(rng.uniform(0.0, 0.01)))
                os.kill(writer.pid, signal.SIGSTOP)
                whole(path)
                os.kill(writer.pid, signal.SIGCONT)
            time.sleep(float(rng.uniform(0.0, 0.02)))
            writer.kill()
            printed = [0, *map(int, writer.stdout.read().split())]
        assert whole(path) in (printed[-1], printed[-1] + 1)  # the last one told, or the one after


def whole(path: Path) -> int:
    """The number of a checkpoint that is complete."""
    state = checkpoint.load(path)
    assert torch.equal(state["content"], torch.full((400_000,), float(state["number"])))
    return int(state["number"])


def test_a_left_over_of_a_killed_save_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.with_suffix(".tmp").write_bytes(b"half of a file")
    checkpoint.save_atomically({"number": 1}, path)
    assert checkpoint.load(path) == {"number": 1} and not path.with_suffix(".tmp").exists()


def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save_atomically({"number": 1}, path)
    with pytest.raises((AttributeError, TypeError), match=r"lambda|local"):
        checkpoint.save_atomically({"number": lambda: 2}, path)  # cannot be written
    assert checkpoint.load(path) == {"number": 1}


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save_atomically({"content": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ParameterError, match=r"checkpoint\.pt is damaged"):
        checkpoint.load(path)
