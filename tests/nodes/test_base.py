"""The base's node on real topics and a real socket: it arms, drives, tells, and lets go."""

import math
import os
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from std_srvs.srv import Trigger

from dsac_robot.core.base_link import Phase
from dsac_robot.core.firmware_params import limits_crc
from dsac_robot.core.protocol_enums import Fault, State
from dsac_robot.core.reasons import Reason
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Command
from dsac_robot.nodes import topics
from dsac_robot.nodes.base import BaseNode
from dsac_robot.nodes.base_port import PortError, check_port_name, open_port
from dsac_robot.nodes.compose import compose
from dsac_robot.nodes.converters import command_to_message
from dsac_robot.nodes.states import BaseState, base_from_message, base_to_message
from tests.nodes.base_server import BaseServer

ROBOT = load_robot("jackal")
PATIENCE_S = 30.0  # for a machine under load
OK = TransitionCallbackReturn.SUCCESS


class Bench:
    """The node, the served peer, and somebody who listens and commands."""

    def __init__(self, context: Context, server: BaseServer, **parameters) -> None:
        given = {"port": server.url, "connect_timeout_s": 20.0, **parameters}
        self.server, self.composition = server, compose([BaseNode], parameters={"base": given}, context=context)
        self.base: BaseNode = self.composition.nodes["base"]
        self.listener = Node("listener", context=context)
        self.composition.executor.add_node(self.listener)
        self.heard: dict[str, list] = {}
        for topic in (topics.ODOM, topics.IMU, topics.BATTERY_STATE, topics.BASE_STATE, topics.DIAGNOSTICS):
            kept = self.heard.setdefault(topic.name, [])
            self.listener.create_subscription(topic.type, topic.name, kept.append, topic.qos)
        self.commands = self.listener.create_publisher(topics.CMD_VEL.type, "cmd_vel", topics.CMD_VEL.qos)

    def until(self, done: Callable[[], bool], what: str, each: Callable[[], None] = lambda: None) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            if done():
                return
            each()
            next_s = time.monotonic() + 0.01
            while time.monotonic() < next_s:
                self.composition.executor.spin_once(timeout_sec=0.01)
        raise AssertionError(f"never: {what}; {self.base.link.phase.name} {self.base.link.stopped_because}")

    def up(self) -> "Bench":
        assert self.base.trigger_configure() == OK
        assert self.base.trigger_activate() == OK, self.base.refusal
        self.until(lambda: self.commands.get_subscription_count() > 0, "the node hears commands")
        return self

    def command(self, speed: float, turn: float) -> None:
        now_ns = self.listener.get_clock().now().nanoseconds
        self.commands.publish(command_to_message(Command(now_ns, speed, turn)))

    def drive(self, speed: float, turn: float, metres: float) -> None:
        """Until one wheel has gone so far."""
        began, radius = list(self.server.turns), ROBOT.base.wheel_radius_m

        def there() -> bool:
            return max(abs(a - b) for a, b in zip(self.server.turns, began, strict=True)) * radius > metres

        self.until(there, "the wheels turn", lambda: self.command(speed, turn))

    def call(self, name: str) -> Trigger.Response:
        client = self.listener.create_client(Trigger, f"base/{name}")
        self.until(client.service_is_ready, name)
        future = client.call_async(Trigger.Request())
        self.until(future.done, f"{name} answers")
        return future.result()

    @property
    def state(self) -> BaseState:
        return base_from_message(self.heard["base/state"][-1])

    def until_reason(self, reason: Reason) -> None:
        self.until(lambda: self.heard["base/state"] != [] and self.state.reason == reason, reason.name)

    def close(self) -> None:
        self.composition.executor.remove_node(self.listener)
        self.listener.destroy_node()
        self.composition.close()


@pytest.fixture
def server() -> Iterator[BaseServer]:
    made = BaseServer(ROBOT)
    yield made
    made.close()


@pytest.fixture
def make(context: Context, server: BaseServer) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def build(**parameters) -> Bench:
        made.append(Bench(context, server, **parameters))
        return made[-1]

    yield build
    for bench in made:
        bench.close()


def test_activation_arms_commands_turn_the_wheels_and_odometry_tells_where_it_went(make, server: BaseServer) -> None:
    bench = make().up()
    assert server.peer.state == State.ACTIVE
    bench.drive(1.0, 0.0, 1.0)
    left, right = (turn * ROBOT.base.wheel_radius_m for turn in server.turns)
    assert left == pytest.approx(right, abs=0.02)
    bench.until(lambda: bench.heard["odom"][-1].pose.pose.position.x > 0.95, "odometry has come as far")
    odom = bench.heard["odom"][-1]
    assert (odom.header.frame_id, odom.child_frame_id) == ("odom", "base_link")
    covariance = odom.pose.covariance.reshape(6, 6)
    assert 0.0 < covariance[0, 0] < 0.01 and covariance[5, 5] > 0.0 and covariance[2, 2] > 0.0
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in bench.heard["odom"]]
    assert stamps == sorted(set(stamps))
    assert 0 <= bench.listener.get_clock().now().nanoseconds - stamps[-1] < 10**9
    bench.until_reason(Reason.NONE)


def test_imu_and_battery_come_in_si_units(make) -> None:
    bench = make().up()
    bench.until(lambda: bench.heard["imu"] and bench.heard["battery_state"], "imu and battery")
    imu, battery = bench.heard["imu"][-1], bench.heard["battery_state"][-1]
    assert imu.linear_acceleration.z == pytest.approx(9.80665)
    assert imu.orientation_covariance[0] == -1.0
    assert battery.voltage == pytest.approx(25.0)
    assert math.isnan(battery.percentage)


def test_a_wrong_curve_is_never_driven_where_the_wheels_are_too_slow(make, server: BaseServer) -> None:
    bench = make().up()
    bench.drive(4.0, 2.0, 0.5)
    last = server.peer.commands[-1]
    fastest = bench.base._wheel_radps_max
    assert max(last.left_mradps, last.right_mradps) <= 1000 * fastest + 1
    ratio = (4.0 - ROBOT.effective_track_m) / (4.0 + ROBOT.effective_track_m)
    assert last.left_mradps / last.right_mradps == pytest.approx(ratio, rel=1e-3)


def test_commands_that_are_old_are_not_sent(make, server: BaseServer) -> None:
    bench = make().up()
    bench.drive(0.5, 0.0, 0.05)

    def old() -> None:
        stamp = bench.listener.get_clock().now().nanoseconds - 150_000_000
        bench.commands.publish(command_to_message(Command(stamp, 2.0, 0.0)))

    bench.until(lambda: bench.base.link.commands_dropped["stale"] >= 3, "dropped", old)
    assert all(c.left_mradps < 10_000 for c in server.peer.commands)


def test_silence_of_the_guard_is_silence_on_the_wire_and_only_arm_goes_on(make, server: BaseServer) -> None:
    bench = make().up()
    bench.drive(0.5, 0.0, 0.05)
    server.timeout_us = 200_000
    bench.until(lambda: bench.base.link.phase == Phase.READY, "the base stops by itself")
    server.timeout_us = 60_000_000
    assert "no fresh command" in bench.base.link.stopped_because
    bench.until_reason(Reason.BASE_NOT_ARMED)
    count = len(server.peer.commands)
    for _ in range(30):
        bench.command(1.0, 0.0)
        bench.composition.executor.spin_once(timeout_sec=0.02)
    assert len(server.peer.commands) == count
    assert bench.call("arm").success
    bench.drive(0.5, 0.0, 0.05)


def test_deactivation_disarms(make, server: BaseServer) -> None:
    bench = make().up()
    bench.drive(0.5, 0.0, 0.05)
    assert bench.base.trigger_deactivate() == OK
    assert server.peer.state == State.IDLE
    refused = bench.call("arm")
    assert not refused.success
    assert "not active" in refused.message
    assert bench.base.trigger_activate() == OK


def test_the_end_of_the_node_disarms(make, server: BaseServer) -> None:
    bench = make().up()
    bench.drive(0.5, 0.0, 0.05)
    bench.base.close()
    assert server.peer.state == State.IDLE


def test_a_pulled_cable_is_plugged_in_again_without_arming(make, server: BaseServer) -> None:
    bench = make().up()
    bench.drive(0.5, 0.0, 0.05)
    server.cut()
    bench.until(lambda: server.connections == 2 and bench.base.link.phase == Phase.READY, "ready again")
    bench.until_reason(Reason.BASE_NOT_ARMED)
    before = bench.heard["odom"][-1].pose.pose.position.x
    assert bench.call("arm").success
    bench.drive(0.5, 0.0, 0.1)
    bench.until(lambda: bench.heard["odom"][-1].pose.pose.position.x > before + 0.05, "odometry goes on")


def test_an_e_stop_needs_clear_and_arm(make, server: BaseServer) -> None:
    bench = make().up()
    assert bench.call("estop").success
    bench.until_reason(Reason.BASE_ESTOP)
    assert not bench.call("arm").success
    assert bench.call("clear").success
    bench.until_reason(Reason.BASE_NOT_ARMED)
    assert bench.call("arm").success
    bench.until_reason(Reason.NONE)


def test_faults_have_names_in_the_diagnostics(make, server: BaseServer) -> None:
    bench = make().up()
    with server.lock:
        server.peer.faults = Fault.ENCODER_STALL_LEFT | Fault.IMU_LOST
        server.peer.go(State.FAULT)

    def values() -> dict[str, str]:
        statuses = [s for m in bench.heard["/diagnostics"] for s in m.status if s.name == "/base: base"]
        return {v.key: v.value for v in statuses[-1].values} if statuses else {}

    bench.until(lambda: values().get("faults") == "ENCODER_STALL_LEFT, IMU_LOST", "the faults' names")
    told = values()
    assert told["state"] == "FAULT"
    assert told["build"] == b"buildid1".hex()
    assert float(told["round_trip_ms"]) < 1000.0
    assert int(told["received_bad_crc"]) == 0
    bench.until_reason(Reason.BASE_FAULT)


REFUSALS = [
    ({"firmware_build": b"other__1".hex()}, {}, [b"other__1".hex(), b"buildid1".hex()]),
    ({}, {"proto": 3}, ["version 3", "host 1"]),
    ({}, {"limits_crc": 0x22}, ["0x00000022", f"{limits_crc(ROBOT):#010x}"]),
]


@pytest.mark.parametrize(("parameters", "hello", "named"), REFUSALS, ids=["build", "version", "limits"])
def test_activation_refuses_the_wrong_firmware_by_naming_both(make, server, parameters, hello, named) -> None:
    with server.lock:
        server.peer.hello = replace(server.peer.hello, **hello)
    bench = make(**parameters)
    assert bench.base.trigger_configure() == OK
    assert bench.base.trigger_activate() != OK
    for text in named:
        assert text in bench.base.refusal
    assert server.peer.state == State.IDLE


def test_activation_without_a_base_says_so(make, server: BaseServer) -> None:
    server.close()
    bench = make(connect_timeout_s=0.5)
    assert bench.base.trigger_configure() == OK
    began = time.monotonic()
    assert bench.base.trigger_activate() != OK
    assert server.url in bench.base.refusal
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("port", ["socket://nowhere", "socket://h:99999", "ttyACM0", ""])
def test_a_port_that_cannot_be_is_refused_at_configure(make, port: str) -> None:
    bench = make(port=port)
    assert bench.base.trigger_configure() != OK
    assert repr(port) in bench.base.refusal
    with pytest.raises(PortError):
        check_port_name(port)


def test_a_serial_device_carries_all_256_bytes_both_ways(tmp_path) -> None:
    ours, theirs = os.openpty()
    tty.setraw(ours)
    port = open_port(os.ttyname(theirs), 921600)
    data = bytes(range(256))
    port.write(data)
    assert os.read(ours, 4096) == data
    os.write(ours, data)
    port.wait(1.0)
    assert port.read() == data
    assert port.read() == b""
    port.close()
    os.close(ours)
    os.close(theirs)
    with pytest.raises(PortError, match="not a serial port"):
        open_port(os.devnull, 921600)
    with pytest.raises(PortError, match="no serial speed 12345"):
        open_port("/dev/ttyS0", 12345)
    with pytest.raises(PortError, match="dialout"):
        open_port(str(tmp_path / "none"), 921600)


def test_a_reader_that_stalls_costs_whole_frames_and_never_blocks(server: BaseServer) -> None:
    with server.lock:  # the server stands still
        port = open_port(server.url, 0)
        for _ in range(200_000):
            port.write(b"\x05abcd\x00" * 20)
            if port.dropped:
                break
        assert port.dropped % 20 == 0 and port.dropped > 0
    port.close()


@pytest.mark.parametrize("reason", [Reason.NONE, Reason.BASE_ESTOP])
def test_the_base_s_state_comes_back_from_its_message(reason: Reason) -> None:
    state = BaseState(123_000_000_456, reason, 7, 2, 0x41, True)
    assert base_from_message(base_to_message(state)) == state
