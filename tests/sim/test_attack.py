"""Attacks on the guard: they are attacks, they keep to what the guard assumes, and what they found stays cured."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from dsac_robot.apps.attack_figures import upper_bound
from dsac_robot.apps.barn_runs import guard_params
from dsac_robot.core import attack as task
from dsac_robot.core.guard_motion import Motion, roll_out, stop_step
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Command, Odom, Scan, ns
from sim.assumptions import Braking, Ledger
from sim.attack import ATTACKS, attack
from sim.attack_world import START_CLEAR_M, arena
from sim.attackers import Chasers, force_bound_n, random_driver
from sim.falsify import Case, case_of, judge, search, size
from sim.simulator import SimParams, Simulator
from sim.worlds import empty_world

ROBOT = load_robot("jackal")
STATIC, DYNAMIC = guard_params("static"), guard_params("dynamic")


def test_an_arena_is_its_seeds_and_leaves_the_start_free() -> None:
    for seed in range(20):
        world = arena(seed, roomy=seed % 2 == 1)
        again = arena(seed, roomy=seed % 2 == 1)
        assert np.array_equal(world.cylinders_m, again.cylinders_m)
        assert np.array_equal(world.walls_m, again.walls_m)
        gaps = np.hypot(*(world.cylinders_m[:, :2] - world.start[:2]).T) - world.cylinders_m[:, 2]
        assert gaps.min(initial=1.0) > START_CLEAR_M


@pytest.mark.parametrize("kind", ["white", "bang", "wander"])
def test_random_drivers_keep_to_the_limits_and_repeat(kind: str) -> None:
    limits = ROBOT.limits
    one, two = random_driver(kind, ROBOT, 3), random_driver(kind, ROBOT, 3)
    asked = [one.command(ns(0.02 * i)) for i in range(500)]
    assert asked == [two.command(ns(0.02 * i)) for i in range(500)]
    assert len(set(asked)) > 3
    for speed, turn in asked:
        assert limits.speed_mps_min <= speed <= limits.speed_mps_max
        assert abs(turn) <= limits.yaw_rate_radps_max


@pytest.mark.parametrize("name", ["white", "wander", "bang", "forces", "chasers"])
def test_without_the_guard_the_attack_ends_in_a_contact(name: str) -> None:
    guard = guard_params(ATTACKS[name].profile)
    episodes = [attack(name, seed, ROBOT, guard, guarded=False) for seed in range(3)]
    assert all(episode.touched for episode in episodes)
    assert attack(name, 0, ROBOT, guard, guarded=False) == episodes[0]


def test_a_find_of_bang_stays_cured_a_stop_out_of_a_tight_turn_beside_a_wall() -> None:
    episode = attack("bang", 4, ROBOT, STATIC, guarded=True)
    assert not episode.violation
    assert episode.way_m > 1.0


@pytest.mark.parametrize(("kind", "seed"), [("bang", 48), ("bang", 59), ("forces", 65)])
def test_finds_stay_cured_no_margin_is_used_up_little_by_little_at_speed(kind: str, seed: int) -> None:
    episode = attack(kind, seed, ROBOT, STATIC, guarded=True)
    assert not episode.caused  # they touched at 1.07, 1.58 and 0.45 m/s
    assert episode.way_m > 1.0


def test_a_find_of_chasers_stays_cured_no_drive_past_what_comes_on() -> None:
    episode = attack("chasers", 2, ROBOT, DYNAMIC, guarded=True)
    assert not episode.caused
    assert episode.way_m > 1.0


def test_a_find_of_bang_stays_cured_what_lies_behind_is_found_though_the_wheels_slipped() -> None:
    episode = attack("bang", 166, ROBOT, STATIC, guarded=True)
    assert not episode.caused  # at 0.34 m/s, 0.2 m before the place where odometry remembered it
    assert episode.way_m > 1.0


def test_a_find_of_forces_stays_cured_along_what_it_touches_nearly_no_robot_that_is_pushed_aside_drives() -> None:
    assert not attack("forces", 278, ROBOT, STATIC, guarded=True).caused


@pytest.mark.parametrize("seed", [192, 257])
def test_finds_of_chasers_stay_cured_what_came_nearer_until_it_left_the_view_is_remembered_there(seed: int) -> None:
    episode = attack("chasers", seed, ROBOT, DYNAMIC, guarded=True)
    assert not episode.caused  # at 0.67 and 0.68 m/s, reversing
    assert episode.way_m > 1.0


@pytest.mark.parametrize("turn_radps", [0.5, 1.0, 1.5, 2.0])
def test_a_stop_out_of_a_turn_ends_where_the_guard_rolls_it_out(turn_radps: float) -> None:
    sim, limits, speed = Simulator(ROBOT, empty_world(walls=False), 0, SimParams(noise=False)), ROBOT.limits, 2.0
    last, begun = (0.0, 0.0), None
    for i in range(160):
        sim.advance(ns(0.02 * i))
        if i < 100:
            last = min(speed, last[0] + 0.08), min(turn_radps, last[1] + 0.2)
        else:
            begun = begun or (sim.pose, sim.twist)
            last = stop_step(last, 0.02, limits)
        sim.send(Command(ns(0.02 * i), *last))
    assert begun is not None
    (x, y, yaw), twist = begun
    before = np.tile([speed, turn_radps], (3, 1))
    stop = np.array([stop_step((speed, turn_radps), 0.02, limits)])
    rolled = roll_out(stop, twist, before, 0.02, Motion.of(ROBOT))
    dx, dy = sim.pose[0] - x, sim.pose[1] - y
    across = math.cos(yaw) * dy - math.sin(yaw) * dx - rolled.y_m[-1]
    assert abs(across) < 0.04  # without side slip in the roll-out 0.05 to 0.13 m outside of it


def test_a_robot_that_brakes_late_or_weakly_breaks_the_assumption() -> None:
    def held(brake_mps2: float, late_s: float) -> bool:
        braking, good, sent = Braking(ROBOT, STATIC), True, 2.0
        for i in range(60):
            time_s = 0.02 * i - 0.4  # the stop begins at 0
            sent = 2.0 if time_s < 0.0 else max(0.0, 2.0 - ROBOT.limits.brake_mps2 * (time_s + 0.02))
            speed = min(2.0, max(0.0, 2.0 - brake_mps2 * (time_s - late_s)))
            good &= braking.holds(speed) if i > 5 else True
            braking.sent(sent)
        return good

    assert held(5.5, 0.12)
    assert not held(4.0, 0.12)
    assert not held(5.5, 0.22)


def test_a_broken_assumption_excuses_a_contact_for_one_second() -> None:
    ledger = Ledger(0.02)
    ledger.note(True, True, True)
    assert ledger.held_lately
    ledger.note(True, False, True)
    for _ in range(49):
        ledger.note(True, True, True)
    assert not ledger.held_lately
    for _ in range(3):
        ledger.note(True, True, True)
    assert ledger.held_lately
    assert (ledger.steps, ledger.broken_steps, ledger.broken["obstacle_speed"]) == (54, 1, 1)


def test_chasers_come_on_at_the_bound_and_stop_before_a_robot_at_rest() -> None:
    world = replace(arena(0, roomy=True), cylinders_m=np.zeros((0, 3)))
    sim, chasers = Simulator(ROBOT, world, 0), Chasers(ROBOT, world, 5, 0.5)
    chasers.start(sim)
    scan, steps = None, []
    for i in range(400):
        for sample in sim.advance(ns(0.02 * i)):
            scan = sample if isinstance(sample, Scan) else scan
        sim.send(Command(ns(0.02 * i), 0.0, 0.0))
        chasers.act(ns(0.02 * i), 0.02, sim, scan)
        steps.append(chasers.last_step_m)
    assert max(steps) == pytest.approx(0.01)
    assert sum(step > 0.0 for step in steps) > 50
    assert not sim.touched


def test_forces_leave_the_tyres_enough_to_brake_in_the_tightest_turn() -> None:
    force = force_bound_n(ROBOT)
    assert 10.0 < force < ROBOT.base.mass_kg * (0.8 * 9.81 - 5.5)
    slippery = replace(ROBOT, base=replace(ROBOT.base, friction=0.5))
    assert force_bound_n(slippery) == 0.0


def test_the_upper_bound_is_clopper_and_pearsons() -> None:
    assert upper_bound(0, 20_000) == pytest.approx(1.0 - 0.05 ** (1.0 / 20_000), rel=1e-9)
    assert upper_bound(1, 10) == pytest.approx(0.394163, abs=1e-5)  # scipy.stats.beta.ppf(0.95, 2, 9)
    assert upper_bound(10, 10) == 1.0
    assert upper_bound(0, 0) == 1.0


def test_the_falsifiers_cases_survive_json_and_give_the_same_verdict() -> None:
    case = case_of(np.random.default_rng(1).random(size()), ROBOT, 7)
    again = Case.of(json.loads(json.dumps(case.as_dict())))
    assert again == case
    assert judge(again, ROBOT, STATIC) == judge(case, ROBOT, STATIC)


def test_a_search_moves_towards_small_margins() -> None:
    verdicts = [verdict for _, verdict in search(ROBOT, STATIC, 0, population=4, generations=2)]
    assert len(verdicts) == 8
    assert min(verdict.margin_m for verdict in verdicts) < 0.3
    assert not any(verdict.violation for verdict in verdicts)


def test_the_adversary_is_paid_for_closeness_speed_and_the_touch() -> None:
    lidar = ROBOT.lidar

    def step(before_m: float, after_m: float, speed: float, contact: bool = False) -> float:
        def scan(range_m: float) -> Scan:
            ranges = np.full(lidar.beams, range_m, np.float32)
            return Scan(0, ranges, lidar.angle_min_rad, lidar.angle_increment_rad, lidar.frame_id)

        odom = Odom.from_yaw(0, 0.0, 0.0, 0.0, speed, 0.0)
        logged = task.AttackStep(scan(before_m), scan(after_m), odom, contact)
        return task.reward(logged, ROBOT, task.AttackParams())

    assert step(3.0, 2.9, 1.0) > step(2.9, 3.0, 1.0)
    assert step(0.6, 0.6, 2.0) > step(0.6, 0.6, 0.0)
    assert step(0.6, 0.6, 1.0) > step(2.0, 2.0, 1.0)
    assert step(0.6, 0.6, 1.0, contact=True) == 20.0
