"""The simulated robot on real topics. What is asserted are stamps of simulated time, never how long a test took."""

import itertools
import math
import time
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from rclpy.context import Context

from dsac_robot.core.history import History
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Command, ns
from dsac_robot.nodes.converters import (
    contact_from_message,
    odom_from_message,
    plan_from_message,
    scan_from_message,
)
from dsac_robot.nodes.run import start
from dsac_robot.nodes.topics import CLOCK, CONTACT, GOAL_POSE, IMU, ODOM, PLAN, SCAN
from sim.faults import CLOCK_JUMP_NS, FUTURE_NS, LIDAR_FAULTS, ODOM_FAULTS
from sim.ros_bridge import FIRST_NS, STEP_S, SimBridge
from sim.ros_truth import MOVERS, OBSTACLES, TRUTH, WALLS
from tests.sim.bridge_bench import Bench, stamp_of

ROBOT = load_robot("jackal")


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    made = Context()
    rclpy.init(args=[], context=made)
    yield made
    rclpy.try_shutdown(context=made)


@pytest.fixture
def bench(context: Context) -> Iterator[Bench]:
    made = Bench(context, world="empty", noise=False)
    yield made
    made.close()


def test_time_and_stamps_run_forward_at_the_sensors_rates_with_odometry_before_the_scan(bench: Bench) -> None:
    bench.run(0.5)
    clock = [stamp_of(message) for message in bench.of(CLOCK)]
    assert clock[0] >= FIRST_NS
    steps = np.diff(clock)
    assert np.all(steps > 0) and np.all(steps % ns(STEP_S) == 0)  # best effort: a message may be lost
    for topic, rate_hz in ((SCAN, ROBOT.lidar.rate_hz), (ODOM, ROBOT.odometry.rate_hz), (IMU, ROBOT.imu.rate_hz)):
        stamps = [stamp_of(message) for message in bench.of(topic)]
        assert all((stamp - FIRST_NS) % round(NS / rate_hz) == 0 for stamp in stamps)
        assert stamps == sorted(set(stamps))
    published = [(name, stamp) for _, name, stamp in sorted(bench.published)]
    for i, (name, stamp) in enumerate(published):
        if name == SCAN.name:
            assert (ODOM.name, stamp) not in published[i:]
            assert all(later >= stamp for topic, later in published[i:] if topic == CLOCK.name)


def test_simulated_time_never_runs_faster_than_the_steady_clock_nor_catches_up_after_a_stall(context: Context) -> None:
    bridge = SimBridge(["--ros-args", "-p", "world:=empty"], context)
    assert start(bridge) is None
    step_ns = ns(STEP_S)

    def call_for(seconds: float) -> tuple[int, int]:
        """Simulated and steady time that pass while the timer is called without pause."""
        steady_ns, simulated_ns = bridge.steady_ns(), bridge.simulated_ns
        while bridge.steady_ns() - steady_ns < ns(seconds):
            before_ns = bridge.simulated_ns
            bridge.on_timer()
            assert bridge.simulated_ns - before_ns in (0, step_ns)
        return bridge.simulated_ns - simulated_ns, bridge.steady_ns() - steady_ns

    for stall_s in (0.0, 0.3):
        time.sleep(stall_s)
        simulated, steady = call_for(0.2)
        assert 0 < simulated <= steady + 2 * step_ns
    bridge.close()


def test_messages_are_those_of_the_robot_file(bench: Bench) -> None:
    scan, odom, truth = bench.of(SCAN)[0], bench.of(ODOM)[0], bench.of(TRUTH)[0]
    assert len(scan.ranges) == ROBOT.lidar.beams and scan.header.frame_id == ROBOT.lidar.frame_id
    assert (odom.header.frame_id, odom.child_frame_id) == ("odom", "base_link")
    assert truth.header.frame_id == "odom"
    goal = bench.of(GOAL_POSE)
    assert len(goal) == 1 and goal[0].header.frame_id == "odom"
    assert (goal[0].pose.position.x, goal[0].pose.position.y) == pytest.approx((10.0, 0.0), abs=1e-3)
    obstacles = bench.of(OBSTACLES)[-1]
    assert obstacles.channels[0].name == "radius"
    assert len(obstacles.points) == len(obstacles.channels[0].values) > 40


def channels_of(message) -> dict[str, np.ndarray]:
    return {channel.name: np.array(channel.values) for channel in message.channels}


def places_of(message) -> np.ndarray:
    return np.array([(point.x, point.y) for point in message.points]).reshape(-1, 2)


def test_walls_are_shown_where_they_stand_seen_from_the_start_of_the_odometry(context: Context) -> None:
    bench = Bench(context, world="offices:3", noise=False)
    (message,) = bench.of(WALLS)
    sim = bench.bridge.simulator
    bench.close()
    walls, shown, yaw = sim.world.walls_m, channels_of(message), sim.world.start[2]
    assert message.header.frame_id == "odom" and len(walls) > 4
    np.testing.assert_allclose([sim.odom_to_world(*place) for place in places_of(message)], walls[:, :2], atol=1e-4)
    np.testing.assert_allclose(shown["half_length"], walls[:, 2], rtol=1e-6)
    np.testing.assert_allclose(shown["half_thickness"], walls[:, 3], rtol=1e-6)
    np.testing.assert_allclose(np.cos(2.0 * (shown["yaw"] + yaw - walls[:, 4])), 1.0, atol=1e-4)


def test_what_moves_is_shown_ten_times_a_second_and_goes_as_its_velocity_says(context: Context) -> None:
    bench = Bench(context, world="pedestrians:2:0.9", noise=False)
    bench.run(0.65)
    sim = bench.bridge.simulator
    messages = bench.of(MOVERS)
    stamps = np.array([stamp_of(message) for message in messages])
    standing = bench.of(OBSTACLES)[-1]
    bench.close()
    assert len(messages) >= 5 and np.all(np.diff(stamps) % ns(0.1) == 0)
    assert len(standing.points) == len(sim.world.cylinders_m)
    moved, told = [], []
    for before, after in itertools.pairwise(messages):
        shown = channels_of(before)
        np.testing.assert_allclose(shown["radius"], [mover.radius_m for mover in sim.world.movers], rtol=1e-6)
        elapsed_s = (stamp_of(after) - stamp_of(before)) / NS
        moved.append((places_of(after) - places_of(before)) / max(elapsed_s, 1e-9))
        told.append(np.stack([shown["vx"], shown["vy"]], axis=1))
    assert np.abs(moved).max() > 0.1
    assert np.median(np.abs(np.array(moved) - told)) < 0.01  # who turned in between went otherwise


def test_a_world_with_a_route_gives_it_as_a_plan_and_no_goal(context: Context) -> None:
    bench = Bench(context, world="track:4", noise=False)
    (message,) = bench.of(PLAN)
    goals, sim = bench.of(GOAL_POSE), bench.bridge.simulator
    bench.close()
    plan = plan_from_message(message, 9.0, History(), 0)
    assert goals == []
    assert plan.speed_mps == pytest.approx(sim.world.route.speed_mps, rel=1e-6)
    np.testing.assert_allclose([sim.odom_to_world(*p) for p in plan.points_m], sim.world.route.points_m, atol=1e-9)


def test_two_bridges_with_the_same_seed_measure_the_same_bits(context: Context) -> None:
    seen = []
    for _ in range(2):
        made = Bench(context, world="clutter:2", seed=5)
        made.run(0.3)
        seen.append({stamp_of(m): scan_from_message(m).ranges_m.tobytes() for m in made.of(SCAN)})
        made.close()
    common = seen[0].keys() & seen[1].keys()
    assert len(common) >= 5
    assert all(seen[0][stamp] == seen[1][stamp] for stamp in common)


@pytest.mark.parametrize("cmd_vel_type", ["TwistStamped", "Twist"])
def test_commands_drive_the_robot_and_silence_stops_it(context: Context, cmd_vel_type: str) -> None:
    bench = Bench(context, world="empty", noise=False, cmd_vel_type=cmd_vel_type)
    bench.command = Command(0, 1.0, 0.0)
    bench.run(1.0)
    assert odom_from_message(bench.of(ODOM)[-1]).speed_mps == pytest.approx(1.0, abs=0.1)
    bench.command = None
    silent_ns = bench.now_ns()
    bench.run(1.2)
    bench.close()
    actuation = ROBOT.actuation
    stop_s = actuation.action_delay_s + actuation.command_timeout_s + 1.0 / actuation.timeout_brake_mps2 + 0.3
    after = [odom_from_message(m) for m in bench.of(TRUTH)]
    moving = [o for o in after if silent_ns + ns(0.03) < o.stamp_ns < silent_ns + ns(actuation.command_timeout_s)]
    assert moving and all(o.speed_mps > 0.85 for o in moving)
    at_rest = [o for o in after if o.stamp_ns > silent_ns + ns(stop_s)]
    assert at_rest and all(abs(o.speed_mps) < 0.06 for o in at_rest)  # the tyres spring back a few millimetres
    assert max(o.x_m for o in at_rest) - min(o.x_m for o in at_rest) < 0.02


def shows(fault: str, ranges: np.ndarray, first: np.ndarray) -> bool:
    """Whether ranges, of a scan after ``first``, look as the fault makes them."""
    beams = ROBOT.lidar.beams
    if fault == "nan":
        return bool(np.all(np.isnan(ranges)))
    if fault == "blank":
        return bool(np.all(ranges == np.inf))
    if fault == "half_blind":
        return bool(np.all(ranges[beams // 2 :] == np.inf) and np.any(np.isfinite(ranges)))
    if fault == "frozen":
        return ranges.tobytes() == first.tobytes()
    if fault == "noise":
        return float(np.std(np.diff(ranges[np.isfinite(ranges)]))) > 0.4
    if fault == "half_invalid":
        return 0.4 < float(np.mean(~np.isnan(ranges))) < 0.5
    if fault == "wrong_count":
        return len(ranges) == beams - 1
    return bool(np.any(np.isfinite(ranges)))  # how a rotated scan looks is tested apart


def test_every_lidar_fault_is_seen_and_ends(bench: Bench) -> None:
    bench.command = Command(0, 0.5, 0.3)  # so that good scans differ from each other
    bench.run(0.3)
    for fault in LIDAR_FAULTS[1:]:
        assert bench.set(lidar_fault=fault) == []
        since_ns = bench.forget()
        bench.run(0.15)
        heard = [scan_from_message(m) for m in bench.of(SCAN)]
        behind_ns = {"old_stamp": FUTURE_NS, "repeated_stamp": since_ns}.get(fault, 0)  # good scans were long ago
        scans = [scan for scan in heard if scan.stamp_ns > since_ns - behind_ns]
        assert bool(scans) == (fault != "silent"), fault
        for scan in scans:
            late = scan.stamp_ns - bench.now_ns() > FUTURE_NS // 2
            assert late == (fault == "future_stamp")
            assert (scan.stamp_ns <= since_ns) == (fault in ("old_stamp", "repeated_stamp")), fault
            assert (scan.frame_id != ROBOT.lidar.frame_id) == (fault == "wrong_frame"), fault
            assert shows(fault, scan.ranges_m, scans[0].ranges_m), fault
    assert bench.set(lidar_fault="none") == []
    bench.forget()
    bench.run(0.15)
    good = scan_from_message(bench.of(SCAN)[-1]).ranges_m
    assert len(good) == ROBOT.lidar.beams and np.any(np.isfinite(good)) and not np.any(np.isnan(good))


def test_a_rotated_lidar_sees_the_world_turned_by_a_quarter_of_its_fan(bench: Bench) -> None:
    good = scan_from_message(bench.of(SCAN)[-1]).ranges_m
    bench.set(lidar_fault="rotated")
    bench.forget()
    bench.run(0.1)
    turned = scan_from_message(bench.of(SCAN)[-1]).ranges_m  # the robot stands and there is no noise
    np.testing.assert_allclose(turned, np.roll(good, ROBOT.lidar.beams // 4), atol=1e-3)


def test_every_odometry_fault_is_seen_while_the_truth_goes_on(bench: Bench) -> None:
    bench.command = Command(0, 0.5, 0.0)
    bench.run(0.5)
    for fault in ODOM_FAULTS[1:]:
        assert bench.set(odom_fault=fault) == []
        bench.forget()
        bench.run(0.12)
        odoms = [odom_from_message(m) for m in bench.of(ODOM)][1:]
        true = odom_from_message(bench.of(TRUTH)[-1])
        assert bool(odoms) == (fault != "silent"), fault
        for odom in odoms:
            assert {
                "nan": math.isnan(odom.x_m) and math.isnan(odom.speed_mps),
                "jump": odom.x_m - true.x_m > 0.8,
                "future_stamp": odom.stamp_ns - true.stamp_ns > FUTURE_NS // 2,
                "frozen": odom.x_m == odoms[0].x_m and true.x_m - odom.x_m > 0.01,
                "dead": abs(odom.x_m - odoms[0].x_m) < 1e-3 and odom.speed_mps == 0.0 and true.x_m - odom.x_m > 0.01,
                "pose_frozen": odom.x_m == odoms[0].x_m and odom.speed_mps > 0.4 and true.x_m - odom.x_m > 0.01,
            }[fault], fault


def test_a_stopped_clock_stops_only_the_clock(bench: Bench) -> None:
    assert bench.set(clock_fault="stop") == []
    bench.forget()
    bench.run(0.2)
    clocks = len(bench.of(CLOCK))
    bench.run(0.2)
    assert len(bench.of(CLOCK)) == clocks
    assert bench.of(SCAN) and bench.of(ODOM)
    bench.set(clock_fault="none")
    bench.run(0.1)
    assert stamp_of(bench.of(CLOCK)[-1]) > stamp_of(bench.of(ODOM)[0])


def test_a_clock_that_jumps_goes_on_from_there(bench: Bench) -> None:
    bench.run(CLOCK_JUMP_NS / NS)  # it cannot jump back to before zero
    for fault, sign in (("forward", 1), ("back", -1)):
        assert bench.set(clock_fault=fault) == []
        bench.forget()
        bench.run(0.1)
        off_ns = stamp_of(bench.of(CLOCK)[-1]) - stamp_of(bench.of(TRUTH)[-1])
        assert abs(off_ns - sign * CLOCK_JUMP_NS) < FUTURE_NS // 10
    bench.set(clock_fault="none")


def test_an_obstacle_ahead_is_seen_by_the_lidar_touched_and_cleared(bench: Bench) -> None:
    middle = ROBOT.lidar.beams // 2
    bench.place("base_link", 1.2, 0.0)
    bench.wait(lambda: len(bench.of(OBSTACLES)) == 2)
    bench.forget()
    bench.run(0.1)
    seen = scan_from_message(bench.of(SCAN)[-1]).ranges_m[middle]
    assert seen == pytest.approx(1.2 - 0.15 - ROBOT.lidar.x_m, abs=0.01)
    bench.command = Command(0, 1.0, 0.0)
    bench.wait(lambda: any(contact_from_message(m).touching for m in bench.of(CONTACT)))
    bench.command = None
    bench.run(0.2)  # a contact ends nothing
    assert bench.trigger("clear_obstacles").message == "removed 1"
    bench.forget()
    bench.run(0.1)
    assert not scan_from_message(bench.of(SCAN)[-1]).ranges_m[middle] < 1.2


def test_an_obstacle_is_placed_in_the_frame_of_the_odometry_and_refused_elsewhere(bench: Bench) -> None:
    bench.place("map", 1.0, 0.0)
    bench.place("base_link", 0.1, 0.0)  # inside the robot
    bench.place("odom", math.nan, 0.0)
    bench.place("odom", 2.0, 1.0)
    bench.wait(lambda: len(bench.of(OBSTACLES)) == 2)
    before, after = bench.of(OBSTACLES)
    assert len(after.points) == len(before.points) + 1
    assert (after.points[-1].x, after.points[-1].y) == pytest.approx((2.0, 1.0), abs=1e-3)


def test_a_restart_puts_the_robot_to_the_start_of_the_world_that_is_set_and_time_goes_on(bench: Bench) -> None:
    bench.command = Command(0, 1.0, 0.5)
    bench.run(0.6)
    bench.command = None
    assert bench.set(world="clutter:1", seed=3) == []
    old_goal, before_ns = bench.of(GOAL_POSE)[-1], bench.now_ns()
    answer = bench.trigger("restart")
    assert answer.success and "clutter_1" in answer.message
    bench.wait(lambda: len(bench.of(GOAL_POSE)) == 2 and len(bench.of(OBSTACLES)) == 2)
    bench.run(0.2)
    goal = bench.of(GOAL_POSE)[-1]
    began_ns = stamp_of(goal)
    assert began_ns > before_ns
    assert goal.pose.position.x != old_goal.pose.position.x
    for topic in (CLOCK, SCAN, ODOM, TRUTH, IMU):
        stamps = [stamp_of(message) for message in bench.of(topic)]
        assert stamps == sorted(set(stamps)), topic.name
    fresh = [odom_from_message(m) for m in bench.of(ODOM) if stamp_of(m) >= began_ns]
    assert all(math.hypot(odom.x_m, odom.y_m) < 0.01 and abs(odom.yaw_rad) < 0.01 for odom in fresh)
    assert not contact_from_message(bench.of(CONTACT)[-1]).touching


def test_a_restart_in_an_unknown_world_is_refused_and_the_run_goes_on(bench: Bench) -> None:
    bench.set(world="maze:1")
    answer = bench.trigger("restart")
    assert not answer.success and "maze:1" in answer.message and "clutter:SEED" in answer.message
    bench.run(0.1)
    assert len(bench.of(GOAL_POSE)) == 1


def test_parameters_that_are_unknown_out_of_range_or_not_live_are_refused_by_name(
    bench: Bench, context: Context
) -> None:
    assert "lidar_fault" in bench.set(lidar_fault="broken")[0]
    assert "read-only" in bench.set(real_time_factor=0.5)[0]
    with pytest.raises(ParameterError, match="real_time_factor"):
        SimBridge(["--ros-args", "-p", "real_time_factor:=2.0"], context)
    with pytest.raises(ParameterError, match="unknown parameter speed"):
        SimBridge(["--ros-args", "-p", "speed:=2.0"], context)


def test_a_bridge_without_a_world_or_robot_refuses_to_start(context: Context) -> None:
    for parameter, says in (("world:=barn:nowhere:3", "world_3"), ("robot:=tank", "unknown robot 'tank'")):
        bridge = SimBridge(["--ros-args", "-p", parameter], context)
        why = start(bridge)
        bridge.close()
        assert why is not None and says in why
