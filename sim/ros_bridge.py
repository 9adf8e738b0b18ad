"""The simulated robot on real topics: MuJoCo paced by the steady clock, for the nodes that run on the machine.

    ros2 run dsac_robot sim_bridge --ros-args -p world:=clutter:7
    python -m sim.ros_bridge --ros-args -p world:=clutter:7

It publishes what the machine's drivers would (``scan``, ``odom``, ``imu``, ``contact``), ``/clock``, the world's goal
(or its route, on ``plan``), and for reports and displays the truth: where the robot, what stands and what moves are. It
takes ``cmd_vel``. Simulated time never runs faster than the steady clock: where the
machine stalls it falls behind, and it never leaps.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PointStamped, TwistStamped
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from dsac_robot.core.params import ParameterError, param
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import Contact, Goal, Imu, Odom, Sample, Scan, ns
from dsac_robot.nodes.converters import (
    ConversionError,
    Frames,
    contact_to_message,
    goal_to_message,
    imu_to_message,
    odom_to_message,
    plan_to_message,
    scan_to_message,
    stamp_to_message,
    twist_from_message,
)
from dsac_robot.nodes.lifecycle import LifecycleParams, StackNode
from dsac_robot.nodes.run import spin
from dsac_robot.nodes.topics import (
    CLOCK,
    CONTACT,
    GOAL_POSE,
    IMU,
    ODOM,
    PLAN,
    SCAN,
    Topic,
    cmd_vel_topic,
)
from sim.faults import CLOCK_FAULTS, CLOCK_JUMP_NS, LIDAR_FAULTS, ODOM_FAULTS, faulty_odom, faulty_scan
from sim.firmware_plant import FirmwarePlant
from sim.motors import MotorPlant
from sim.ros_truth import (
    MOVERS,
    OBSTACLES,
    PLACE_OBSTACLE,
    TRUTH,
    WALLS,
    movers_cloud,
    place_asked,
    standing_cloud,
    walls_cloud,
)
from sim.simulator import SimParams, Simulator
from sim.worlds import WorldError, load_world

STEP_S = 0.01  # of simulated time, between two messages on /clock
MOVERS_NS = ns(0.1)  # between two messages on sim/movers
FIRST_NS = ns(1.0)  # simulated time starts here: in ROS a time of 0 means that there is no clock yet


@dataclass(frozen=True)
class SimBridgeParams(LifecycleParams):
    """Parameters of the simulated robot."""

    autostart: bool = param(True, unit="", help="configure and activate at start, as a robot's drivers do")
    robot: str = param("jackal", unit="", help="robot of config/robots, or the path of a .yaml file")
    world: str = param("clutter:0", unit="", help="as sim.worlds.load_world takes it; read at start and ~/restart")
    seed: int = param(0, unit="", low=0, high=2**31 - 1, help="seed of the noise; read at start and ~/restart")
    real_time_factor: float = param(1.0, unit="", low=0.01, high=1.0, help="simulated over real time, at most")
    noise: bool = param(True, unit="", help="sensor noise; read at start and ~/restart")
    goal_from_world: bool = param(True, unit="", help="publish the world's goal, or its route, at start and ~/restart")
    firmware_plant: str = param(
        "", unit="", help="HOST:PORT of the firmware's plant port: it drives bare motors, and odom and imu are its own"
    )
    cmd_vel_type: str = param("TwistStamped", unit="", choices=("TwistStamped", "Twist"), help="type of cmd_vel")
    lidar_fault: str = param("none", unit="", choices=LIDAR_FAULTS, help="what is wrong with the lidar")
    odom_fault: str = param("none", unit="", choices=ODOM_FAULTS, help="what is wrong with the odometry")
    clock_fault: str = param(
        "none", unit="", choices=CLOCK_FAULTS, help="stop: no /clock, all else goes on; forward, back: it jumps by 5 s"
    )


LIVE = ("world", "seed", "noise", "goal_from_world", "lidar_fault", "odom_fault", "clock_fault")


class SimBridge(StackNode):
    """The node ``sim_bridge``. Simulated time stands still until it is active, and while it is not."""

    def __init__(self, arguments: list[str] | None = None, context: Any = None) -> None:
        super().__init__("sim_bridge", SimBridgeParams, live=LIVE, arguments=arguments, context=context)

    def configure(self) -> None:
        params = self._params()
        self._robot = load_robot(params.robot)
        self._frames = Frames()
        self._step_ns = ns(STEP_S)
        self._period_ns = round(self._step_ns / params.real_time_factor)
        self._due_ns = 0  # of the steady clock
        self._now_ns = FIRST_NS - self._step_ns  # simulated ROS time
        self._firmware = _plant_port(params.firmware_plant)
        try:
            self._begin(params)
        except WorldError as error:
            raise ParameterError(f"{self.get_fully_qualified_name()}: world: {error}") from error
        of_base = (ODOM, IMU) if self._firmware else ()
        self._topics = {
            topic.name: self.publisher(topic)
            for topic in (CLOCK, SCAN, ODOM, IMU, CONTACT, GOAL_POSE, PLAN, TRUTH, OBSTACLES, WALLS, MOVERS)
            if topic not in of_base
        }
        if not self._firmware:
            self.subscribe(cmd_vel_topic(params.cmd_vel_type), self._on_command)
        self.subscribe(PLACE_OBSTACLE, self._on_place_obstacle)
        self.service(Trigger, "~/clear_obstacles", self._on_clear_obstacles)
        self.service(Trigger, "~/restart", self._on_restart)
        # Twice as often as steps are due, so that a late call does not cost a whole period.
        self.steady_timer(0.5 * STEP_S / params.real_time_factor, self.on_timer)

    def cleanup(self) -> None:
        del self._sim
        if self._firmware:
            self._firmware.close()

    # Stepping.

    def _params(self) -> SimBridgeParams:
        return self.values(SimBridgeParams)

    def _now(self, name: str) -> Any:
        """One parameter as it is now: much quicker than all of them."""
        return self.get_parameter(name).value

    def _begin(self, params: SimBridgeParams) -> None:
        """Build the world and put the robot at its start; WorldError and no change if there is no such world."""
        world = load_world(params.world)
        sim_params = SimParams(noise=params.noise, imu=True)
        if self._firmware:
            self._plant = MotorPlant(self._robot, world, params.seed, sim_params)
            self._sim = self._plant.simulator
        else:
            self._sim = Simulator(self._robot, world, params.seed, sim_params)
        self._run_ns = 0  # simulated time within this run at the end of the next step
        self._begin_ns = self._now_ns + self._step_ns  # ROS time of the run's time 0
        self._fault_rng = np.random.default_rng(params.seed)
        self._good_scan: Scan | None = None
        self._good_odom: Odom | None = None
        self._announced = False

    @property
    def simulator(self) -> Simulator:
        """The simulator of the present run: its truth, for a judge in the same process."""
        return self._sim

    @property
    def simulated_ns(self) -> int:
        """Simulated ROS time after the last step."""
        return self._now_ns

    def on_timer(self) -> None:
        """Step once if a step is due by the steady clock. To be called at least once a period."""
        steady_ns = self.steady_ns()
        if self.active and steady_ns >= self._due_ns:
            # A step is due a period after the one before was; time lost beyond one period is not made up for.
            self._due_ns = max(self._due_ns + self._period_ns, steady_ns)
            self._step()

    def _step(self) -> None:
        samples = self._with_firmware() if self._firmware else self._sim.advance(self._run_ns)
        self._now_ns = self._begin_ns + self._run_ns
        self._run_ns += self._step_ns
        clock_fault = self._now("clock_fault")
        if clock_fault != "stop":
            shift_ns = {"forward": CLOCK_JUMP_NS, "back": -CLOCK_JUMP_NS}.get(clock_fault, 0)
            self._publish(CLOCK, Clock(clock=stamp_to_message(max(1, self._now_ns + shift_ns))))
        if not self._announced:
            self._announced = True
            self._announce()
        for sample in samples:
            self._publish_sample(sample)
        if self._sim.world.movers and (self._now_ns - self._begin_ns) % MOVERS_NS == 0:
            self._publish_movers()
        self._publish(TRUTH, self._odom_message(self._sim.true_odom()))

    def _with_firmware(self) -> list[Sample]:
        """Run to the end of the step in lockstep with the firmware, whose odometry and IMU stand for the sensors'."""
        assert self._firmware is not None
        samples = self._sim.advance(0) if self._run_ns == 0 else []
        while self._sim.time_ns < self._run_ns:
            drive = self._firmware.exchange(self._plant.state())
            duties = (drive.left_duty_e4, drive.right_duty_e4) if drive.enabled else (0, 0)
            samples += self._plant.step(*(1e-4 * duty for duty in duties))[1]
        return [sample for sample in samples if not isinstance(sample, Odom | Imu)]

    def _announce(self) -> None:
        """What is said once at the start of a run."""
        self._publish(CONTACT, contact_to_message(Contact(self._now_ns, False)))
        self._publish_obstacles()
        self._publish(WALLS, walls_cloud(self._sim, self._now_ns, self._frames))
        self._publish_movers()
        if self._now("goal_from_world"):
            world, to_odom = self._sim.world, self._sim.world_to_odom
            if world.route is not None:
                self._publish(PLAN, plan_to_message(world.route.plan(to_odom, self._now_ns), self._frames))
            else:
                self._publish(GOAL_POSE, goal_to_message(Goal(self._now_ns, *to_odom(*world.goal_m)), self._frames))

    # Publishing.

    def _publish(self, topic: Topic, message: Any) -> None:
        self._topics[topic.name].publish(message)

    def _publish_sample(self, sample: Sample) -> None:
        if isinstance(sample, Odom):
            fault = self._now("odom_fault")
            if fault == "none" or self._good_odom is None:
                self._good_odom = sample
            odom = faulty_odom(fault, sample, self._good_odom)
            if odom is not None:
                self._publish(ODOM, self._odom_message(odom))
        elif isinstance(sample, Scan):
            fault = self._now("lidar_fault")
            if fault == "none" or self._good_scan is None:
                self._good_scan = sample
            scan = faulty_scan(fault, sample, self._good_scan, self._fault_rng)
            if scan is not None:
                scan_message = scan_to_message(scan, self._robot.lidar)
                scan_message.header.stamp = stamp_to_message(self._begin_ns + scan.stamp_ns)
                self._publish(SCAN, scan_message)
        elif isinstance(sample, Imu):
            imu_message = imu_to_message(sample, self._frames.base)
            imu_message.header.stamp = stamp_to_message(self._begin_ns + sample.stamp_ns)
            self._publish(IMU, imu_message)
        elif isinstance(sample, Contact):
            contact = Contact(self._begin_ns + sample.stamp_ns, sample.touching)
            self._publish(CONTACT, contact_to_message(contact))
            self._log_contact(contact)

    def _odom_message(self, odom: Odom) -> Odometry:
        message = odom_to_message(odom, self._frames)
        message.header.stamp = stamp_to_message(self._begin_ns + odom.stamp_ns)
        return message

    def _log_contact(self, contact: Contact) -> None:
        if contact.touching:
            speed = abs(self._sim.twist[0])
            self.get_logger().warning(f"contact at {contact.stamp_ns} ns, moving at {speed:.2f} m/s")

    def _publish_obstacles(self) -> None:
        self._publish(OBSTACLES, standing_cloud(self._sim, self._now_ns, self._frames))

    def _publish_movers(self) -> None:
        self._publish(MOVERS, movers_cloud(self._sim, self._now_ns, self._frames))

    # Inputs.

    def _on_command(self, message: Any) -> None:
        """The base hears a command now, whatever its stamp: it has no clock of its own to judge stamps by."""
        twist = message.twist if isinstance(message, TwistStamped) else message
        self._sim.send(twist_from_message(twist, self._sim.time_ns))

    def _on_place_obstacle(self, message: PointStamped) -> None:
        world_m = place_asked(message, self._sim, self._frames)
        try:
            self._sim.place_obstacle(*world_m)
        except ValueError as error:
            raise ConversionError(f"{error} with ~/clear_obstacles") from error
        self._publish_obstacles()

    def _on_clear_obstacles(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, f"removed {self._sim.remove_all_obstacles()}"
        self._publish_obstacles()
        return response

    def _on_restart(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        params = self._params()
        if self._firmware:
            response.success, response.message = False, "the firmware's encoders cannot leap: start all again"
            return response
        try:
            self._begin(params)
        except WorldError as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.message = True, f"{self._sim.world.name}, seed {params.seed}"
        return response


def _plant_port(address: str) -> FirmwarePlant | None:
    """The plant port that the parameter names; None where it is empty. Raises ParameterError, PlantError."""
    if not address:
        return None
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ParameterError(f"firmware_plant = {address!r} must be HOST:PORT")
    return FirmwarePlant(host, int(port))


def main() -> int:
    """The simulated robot as a process; returns its exit status."""
    return spin(SimBridge)


if __name__ == "__main__":
    sys.exit(main())
