"""The black box: what the guard did can be run again from the file, and gives the very same decisions."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac_robot.apps.cli import main
from dsac_robot.core.blackbox import BlackBox, BlackBoxError, replay, text_of, write
from dsac_robot.core.guard import GuardModel, initial_state, step
from dsac_robot.core.guard_types import Decision
from dsac_robot.core.reasons import Level, Reason
from tests.core.guard_world import STATIC, Run, World

PARAMS = replace(STATIC, fallback_after_s=0.5)
ROOM = World(
    discs=np.array([[2.0, 0.2, 0.1], [1.5, -0.8, 0.1], [3.0, 1.0, 0.2]]),
    walls=np.array([[-2.0, -2, 4, -2], [4, -2, 4, 2], [4, 2, -2, 2], [-2, 2, -2, -2]]),
)


def driven(seconds: float, steps: int = 300) -> tuple[BlackBox, GuardModel]:
    """A black box that saw the guard drive through the room, recorded as the node records it."""
    run, box, state = Run(ROOM, PARAMS, dropout=0.02), BlackBox(steps), initial_state()
    for _ in range(round(seconds / 0.02)):
        run.drive(lambda run: (1.2, math.sin(run.tick * 0.01)), 0.02)
        after, decision = step(state, run.inp, run.model)
        box.record(state, run.inp, decision)
        state = after
    return box, run.model


@cache
def short_drive() -> tuple[BlackBox, GuardModel]:
    return driven(1.0)


def recorded(tmp_path: Path, seconds: float = 8.0) -> Path:
    box, model = driven(seconds)
    write(box.snapshot(), model, tmp_path / "dump.gz")
    return tmp_path / "dump.gz"


def test_a_replay_decides_every_step_the_same_bit_for_bit_from_the_middle_of_a_drive(tmp_path: Path) -> None:
    steps = list(replay(recorded(tmp_path)))
    assert len(steps) == 300  # of 400: the oldest are gone, and with them how the state came about
    assert all(one.same for one in steps)
    assert len({one.recorded.reason for one in steps}) > 1


def test_the_replay_command_says_that_all_is_the_same_and_what_happened(tmp_path: Path, capsys) -> None:
    assert main(["replay", str(recorded(tmp_path, 3.0))]) == 0
    said = capsys.readouterr().out
    assert "every decision the same" in said
    assert "m/s" in said


def test_a_changed_decision_is_found(tmp_path: Path, capsys) -> None:
    entries = list(short_drive()[0].snapshot())
    wrong = entries[30].decision
    entries[30] = replace(entries[30], decision=replace(wrong, speed_mps=math.nextafter(wrong.speed_mps, 9.0)))
    write(tuple(entries), short_drive()[1], tmp_path / "dump.gz")
    assert [i for i, one in enumerate(replay(tmp_path / "dump.gz")) if not one.same] == [30]
    assert main(["replay", str(tmp_path / "dump.gz")]) == 1


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(), max_size=4), name=st.text(max_size=5))
def test_any_floats_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], name: str
) -> None:
    numbers = tuple((name, value) for value in values)
    odd = Decision(0.1, -0.0, Level.STOP, Reason.CONTACT, numbers)
    path = tmp_path_factory.mktemp("box") / "dump.gz"
    write((replace(short_drive()[0].snapshot()[0], decision=odd),), short_drive()[1], path)
    (one,) = replay(path)
    assert text_of(one.recorded) == text_of(odd)


NO_DUMPS = {
    "empty": b"",
    "no gzip": b"hello",
    "no header": gzip.compress(b"{}"),
    "a list": gzip.compress(b"[1]"),
    "no text": gzip.compress(bytes([255])),
}


@pytest.mark.parametrize("content", NO_DUMPS.values(), ids=NO_DUMPS)
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.gz"
    path.write_bytes(content)
    with pytest.raises(BlackBoxError, match=r"other\.gz"):
        list(replay(path))


def test_a_truncated_dump_is_refused_after_what_can_be_read(tmp_path: Path, capsys) -> None:
    path = recorded(tmp_path, 2.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert main(["replay", str(path)]) == 2
    assert "damaged" in capsys.readouterr().err


def test_an_empty_box_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no step"):
        write((), short_drive()[1], tmp_path / "x.gz")


def test_a_dump_with_a_flipped_byte_or_that_is_not_there_is_refused_in_a_sentence(tmp_path: Path, capsys) -> None:
    path = recorded(tmp_path)
    data = path.read_bytes()
    for place in range(20, len(data) - 20, len(data) // 9):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        assert main(["replay", str(path)]) == 2
        assert "damaged" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "none.gz")]) == 2
    assert "none.gz: cannot be read: No such file" in capsys.readouterr().err
