"""One episode of an attack on the guard: a driver, forces and obstacles against the guard in an arena of its seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from dsac_robot.core.action import Ramp
from dsac_robot.core.guard import GuardModel, initial_state, step
from dsac_robot.core.guard_types import GuardInput, GuardParams
from dsac_robot.core.navigate import CAUSED_MPS
from dsac_robot.core.robot import Robot
from dsac_robot.core.values import NS, Command, Odom, Scan, ns
from sim.assumptions import Braking, Ledger
from sim.attack_world import arena
from sim.attackers import Chasers, Driver, Pusher, random_driver
from sim.simulator import Simulator

TIME_S, WAY_M = 20.0, 10.0  # an episode ends at the first of these
TRAINED = "trained"


@dataclass(frozen=True)
class Attack:
    """A kind of attack: who drives, under which profile of the guard, and what else acts."""

    driver: str  # of RANDOM_DRIVERS, or "trained"
    profile: str = "static"
    forces: bool = False
    chasers: bool = False


ATTACKS = {
    "white": Attack("white"),
    "wander": Attack("wander"),
    "bang": Attack("bang"),
    "trained": Attack(TRAINED),
    "forces": Attack("wander", forces=True),
    "trained_forces": Attack(TRAINED, forces=True),
    "chasers": Attack("wander", profile="dynamic", chasers=True),
}


@dataclass(frozen=True)
class Episode:
    """What came of one episode."""

    attack: str
    seed: int
    guard: bool
    time_s: float
    way_m: float
    touched: bool
    caused: bool  # at above 0.02 m/s
    touch_speed_mps: float
    violation: bool  # caused, and all assumptions held for the second before
    steps: int
    broken_steps: int  # in which an assumption did not hold
    broken: dict[str, int]


def attack(
    name: str,
    seed: int,
    robot: Robot,
    guard: GuardParams,
    guarded: bool,
    trained: Callable[[], Driver] | None = None,
) -> Episode:
    """Run one episode of ``ATTACKS[name]``; ``guard`` is of the attack's profile.

    Without ``guarded`` commands are only limited in their change: the same seed shows whether the attack is one.
    ``trained`` makes the trained driver. The same arguments give the same episode.
    """
    kind = ATTACKS[name]
    world = arena(seed, roomy=kind.chasers)
    sim = Simulator(robot, world, seed)
    if kind.driver == TRAINED and trained is None:
        raise ValueError(f"attack {name} needs a trained driver")
    driver = trained() if trained is not None and kind.driver == TRAINED else random_driver(kind.driver, robot, seed)
    pusher = Pusher(robot, seed) if kind.forces else None
    chasers = Chasers(robot, world, seed, guard.obstacle_speed_mps_max) if kind.chasers else None
    model = GuardModel.of(replace(guard, require_verdict=False), robot) if guarded else None
    return _run(name, seed, sim, driver, pusher, chasers, model, guard)


def _run(
    name: str,
    seed: int,
    sim: Simulator,
    driver: Driver,
    pusher: Pusher | None,
    chasers: Chasers | None,
    model: GuardModel | None,
    params: GuardParams,
) -> Episode:
    robot, period_ns = sim.robot, ns(params.period_s)
    state, braking, ledger = initial_state(), Braking(robot, params), Ledger(params.period_s)
    scan: Scan | None = None
    odom: Odom | None = None
    ramp, way_m, last, now_ns = Ramp(), 0.0, sim.pose, 0
    if chasers is not None:
        chasers.start(sim)
    while now_ns < ns(TIME_S) and way_m < WAY_M:
        for sample in sim.advance(now_ns):
            scan = sample if isinstance(sample, Scan) else scan
            odom = sample if isinstance(sample, Odom) else odom
            driver.take(sample)
        here = sim.pose
        way_m += math.hypot(here[0] - last[0], here[1] - last[1])
        last = here
        moved = chasers is None or chasers.last_step_m <= params.obstacle_speed_mps_max * params.period_s * (1 + 1e-9)
        ledger.note(braking.holds(sim.twist[0]), moved, chasers is None or not chasers.unseen_move)
        if sim.touched:
            break
        asked = Command(now_ns, *driver.command(now_ns))
        if model is None:
            ramp = ramp.toward((asked.speed_mps, asked.yaw_rate_radps), robot.limits, params.period_s)
            sent = Command(now_ns, *ramp.twist)
        else:
            state, decision = step(state, GuardInput(now_ns, scan, odom, asked), model)
            sent = Command(now_ns, decision.speed_mps, decision.yaw_rate_radps)
        sim.send(sent)
        driver.take(sent)
        braking.sent(sent.speed_mps)
        if pusher is not None:
            pusher.act(now_ns, sim)
        if chasers is not None:
            chasers.act(now_ns, params.period_s, sim, scan)
        now_ns += period_ns
    caused = sim.touched and sim.touch_speed_mps > CAUSED_MPS
    return Episode(
        name,
        seed,
        model is not None,
        now_ns / NS,
        way_m,
        sim.touched,
        caused,
        sim.touch_speed_mps,
        caused and ledger.held_lately,
        ledger.steps,
        ledger.broken_steps,
        ledger.broken,
    )
