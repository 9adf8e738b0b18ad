"""Docking lowers the limits of clearance, for a time, near a place, slowly, and never beyond any of these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.core.blackbox import BlackBox, replay, write
from dsac_robot.core.guard import initial_state, step
from dsac_robot.core.guard_docking import Docking, docking_now
from dsac_robot.core.guard_types import GuardInput
from dsac_robot.core.reasons import Level, Reason
from dsac_robot.core.values import NS, Command, ns
from tests.core.guard_world import STATIC, TICK_S, Run, World

DYNAMIC = replace(STATIC, obstacle_speed_mps_max=0.5, margin_m=0.1, fallback_after_s=1.0, docking_s=8.0)
STATION = World(walls=np.array([[1.0, -5.0, 1, 5], [-6, -5, -6, 5], [-6, -5, 1, -5], [-6, 5, 1, 5]]))
BASE = (0.0, 0.0, 0.0)


def approach(run: Run) -> tuple[float, float]:
    return 0.4, 0.0


def call(run: Run, dock: bool) -> None:
    """One step with the service called in it."""
    run.inp = replace(run.inp, dock=dock)
    run.drive(approach, 4 * TICK_S)
    run.inp = replace(run.inp, dock=None)


def at_the_station() -> Run:
    run = Run(STATION, DYNAMIC, noise_m=0.002)
    run.drive(approach, 3.0)
    return run


def test_docking_gets_the_robot_nearer_slowly_and_backing_off_waits() -> None:
    run = at_the_station()
    before, steps = run.clearance_moving_m, len(run.decisions)
    call(run, True)
    run.drive(approach, 7.0)
    during = run.decisions[steps + 1 :]
    assert before > 0.08
    assert run.clearance_moving_m < 0.03
    assert max(d.speed_mps for d in during) <= DYNAMIC.docking_speed_mps
    assert any((d.level, d.reason) == (Level.LIMITED, Reason.DOCKING) for d in during)
    assert not any(d.level == Level.FALLBACK for d in during)
    assert dict(next(d for d in during if d.reason == Reason.DOCKING).numbers)["left_s"] <= DYNAMIC.docking_s


def test_docking_ends_after_its_time_and_only_a_new_call_begins_it_anew() -> None:
    run = at_the_station()
    call(run, True)
    began = run.state.docking
    assert began is not None
    for _ in range(3):
        call(run, True)  # prolongs nothing
    assert run.state.docking == began
    run.drive(lambda run: (0.0, 0.0), DYNAMIC.docking_s)
    assert run.state.docking is None
    rest = run.pose[0]
    run.drive(approach, 1.0)
    assert run.pose[0] < rest + 0.01
    call(run, True)
    assert run.state.docking is not None
    call(run, False)
    assert run.state.docking is None


def test_docking_ends_at_a_fault_a_stop_and_where_the_guard_is_disabled() -> None:
    for change in ({"stop_requested": True}, {"enabled": False}, {"contact": True}, {"fault": Reason.ODOM_WRONG_FRAME}):
        run = at_the_station()
        call(run, True)
        assert run.state.docking is not None
        state, decision = step(run.state, replace(run.inp, **change), run.model)
        assert decision.level >= Level.STOP
        assert state.docking is None
    state, _ = step(run.state, replace(run.inp, scan=None, dock=True), run.model)  # nor does it begin then
    assert state.docking is None


@pytest.mark.parametrize(
    ("now_s", "x_m", "goes_on"),
    [(7.999, 0.0, True), (8.0, 0.0, False), (1.0, 1.0, True), (1.0, 1.001, False), (-0.001, 0.0, False)],
)
def test_a_docking_holds_up_to_its_time_and_distance_and_not_before_it_began(
    now_s: float, x_m: float, goes_on: bool
) -> None:
    inp = GuardInput(NS + ns(now_s))
    docking = docking_now(Docking(NS + ns(8.0), BASE), inp, (x_m, 0.0, 0.0), DYNAMIC)
    assert (docking is not None) == goes_on


def test_an_operator_docks_too_and_the_black_box_replays_it(tmp_path: Path) -> None:
    run, box, state = at_the_station(), BlackBox(200), initial_state()
    for k in range(150):
        run.inp = replace(run.inp, dock=True if k == 20 else None, teleop=Command(run.now_ns, 0.4, 0.0))
        run.drive(approach, 4 * TICK_S)
        after, decision = step(state, run.inp, run.model)
        box.record(state, run.inp, decision)
        state = after
    assert Reason.DOCKING in {entry.decision.reason for entry in box.snapshot()}
    assert Reason.TELEOP in {entry.decision.reason for entry in box.snapshot()} or run.distance_m > 0.0
    write(box.snapshot()[25:], run.model, tmp_path / "dump.gz")
    steps = list(replay(tmp_path / "dump.gz"))
    assert len(steps) == 125
    assert all(one.same for one in steps)
