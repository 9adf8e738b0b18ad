"""Reports of small bags made of values: what is said and judged, and that the page needs nothing outside itself."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from dsac_robot.apps.cli import main
from dsac_robot.apps.report_cmd import make_report
from dsac_robot.apps.report_data import Recording, read_recording
from dsac_robot.apps.report_facts import Facts, facts_of, latency_of, shown, true_clearance_m, wall_clearance_m
from dsac_robot.apps.report_notes import END, EVENT, RUN, Expect, Note
from dsac_robot.apps.report_top_view import write_top_view
from dsac_robot.core.guard_types import Verdict
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import load_robot
from dsac_robot.core.values import NS, Command, Contact, Floats, Goal, Odom, Scan, ns
from dsac_robot.data.decode import GuardState
from dsac_robot.data.mcap_writer import BagTopic, BagWriter, OfferedQos
from tests.data.conftest import STORE, TYPES, header, message_of, serialized

ROBOT = load_robot("jackal")
STEP_NS = ns(0.02)
POSTS = np.array([[1.0, 0.6, 0.1], [2.0, -0.7, 0.1]])  # x, y, radius; beside the way
LATE_NS = ns(0.004)  # from a scan's reception to the command's
BRAKE_MPS2 = 4.0


class Drive:
    """Writes what a robot on a straight way along x would, tick by tick. Speeds in m/s, times in s."""

    def __init__(self, path: Path, simulated: bool = True) -> None:
        self.writer = BagWriter(path)
        self.simulated = simulated
        self.now_ns, self.x_m, self.tick = NS, 0.0, 0

    def put(self, topic: str, kind: str, data: bytes, log_ns: int | None = None) -> None:
        self.writer.add_topic(BagTopic(f"/{topic}", kind, (OfferedQos(),)))
        self.writer.write(f"/{topic}", data, self.now_ns if log_ns is None else log_ns)

    def add(self, topic: str, value: object, log_ns: int | None = None) -> None:
        self.put(topic, *serialized(value), log_ns)

    def note(self, kind: str, text: str, expect: Expect = Expect.NOTHING) -> None:
        pair = TYPES["diagnostic_msgs/msg/KeyValue"](key="expect", value=expect.value)
        status = TYPES["diagnostic_msgs/msg/DiagnosticStatus"](
            level=0, name=kind, message=text, hardware_id="", values=[pair]
        )
        message = TYPES["diagnostic_msgs/msg/DiagnosticArray"](header=header(self.now_ns, ""), status=[status])
        self.put("notes", "diagnostic_msgs/msg/DiagnosticArray", self._bytes(message))

    def obstacles(self, cylinders_m: Floats) -> None:
        points = [TYPES["geometry_msgs/msg/Point32"](x=x, y=y, z=0.0) for x, y, _ in cylinders_m]
        radii = TYPES["sensor_msgs/msg/ChannelFloat32"](name="radius", values=cylinders_m[:, 2].astype(np.float32))
        message = TYPES["sensor_msgs/msg/PointCloud"](
            header=header(self.now_ns, "odom"), points=points, channels=[radii]
        )
        self.put("sim/obstacles", "sensor_msgs/msg/PointCloud", self._bytes(message))

    def cloud(self, topic: str, places_m: Floats, **channels: Floats) -> None:
        """Places with a channel of one number each, as the simulated robot shows walls and what moves."""
        kind = TYPES["sensor_msgs/msg/ChannelFloat32"]
        message = TYPES["sensor_msgs/msg/PointCloud"](
            header=header(self.now_ns, "odom"),
            points=[TYPES["geometry_msgs/msg/Point32"](x=x, y=y, z=0.0) for x, y in places_m],
            channels=[kind(name=name, values=np.asarray(v, np.float32)) for name, v in channels.items()],
        )
        self.put(topic, "sensor_msgs/msg/PointCloud", self._bytes(message))

    @staticmethod
    def _bytes(message: object) -> bytes:
        return bytes(STORE.serialize_cdr(message, message.__msgtype__))

    def begin(self, title: str, expect: Expect) -> None:
        self.x_m = 0.0
        self.obstacles(POSTS)
        self.add("goal_pose", Goal(self.now_ns, 4.0, 0.0))
        self.note(RUN, title, expect)

    def step(
        self,
        speed_mps: float,
        level: Level = Level.DRIVE,
        reason: Reason = Reason.NONE,
        ood: OodLevel = OodLevel.OK,
        policy: bool = True,
    ) -> None:
        """20 ms at this speed."""
        stamp = self.now_ns
        odom = Odom.from_yaw(stamp, self.x_m, 0.0, 0.0, speed_mps, 0.0)
        self.add("odom", odom)
        if self.simulated:
            self.put("sim/truth", "nav_msgs/msg/Odometry", self._bytes(message_of(odom)[1]))
        judged = stamp - self.tick % 5 * STEP_NS
        if self.tick % 5 == 0:
            ranges = np.full(ROBOT.lidar.beams, 5.0, np.float32)
            scan = Scan(stamp, ranges, ROBOT.lidar.angle_min_rad, ROBOT.lidar.angle_increment_rad)
            self.add("scan", scan)
            if policy:
                self.add("policy/cmd_vel", Command(stamp, 1.0, 0.0), stamp + LATE_NS)
                self.add("ood/state", Verdict(stamp, stamp, ood, Reason.NONE, 0.5 + ood, 1.0, 2.0))
        self.add("cmd_vel", Command(stamp + 1, speed_mps, 0.0))
        self.add("safety/state", GuardState(stamp + 1, judged, level, reason, speed_mps, 0.0))
        self.tick += 1
        self.now_ns += STEP_NS
        self.x_m += speed_mps * STEP_NS / NS

    def brake(self, reason: Reason, ood: OodLevel = OodLevel.OK, policy: bool = True) -> None:
        """From 1 m/s to rest, and stay there for half a second."""
        for i in range(1, 38):
            self.step(max(0.0, 1.0 - BRAKE_MPS2 * 0.02 * i), Level.STOP, reason, ood, policy)


def drive_to_goal(drive: Drive, title: str = "To the goal") -> None:
    drive.begin(title, Expect.GOAL)
    drive.step(0.0, Level.EMERGENCY, Reason.OPERATOR_STOP)
    for i in range(200):
        drive.step(1.0, *((Level.LIMITED, Reason.CLEARANCE) if 40 <= i < 60 else (Level.DRIVE, Reason.NONE)))
    drive.note(END, title)


def broken(drive: Drive, expect: Expect, reason: Reason, ood: OodLevel = OodLevel.OK, policy: bool = True) -> None:
    drive.begin(f"Broken: {reason.name}", expect)
    for _ in range(50):
        drive.step(1.0)
    drive.note(EVENT, "something breaks")
    drive.add("teleop/cmd_vel", Command(drive.now_ns, 1.5, 0.0))
    for _ in range(5):
        drive.step(1.0, ood=ood, policy=policy)
    drive.brake(reason, ood, policy)
    drive.note(END, "")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drive = Drive(tmp_path_factory.mktemp("bags") / "drives")
    with drive.writer:
        drive_to_goal(drive)
        broken(drive, Expect.REST, Reason.COMMAND_STALE, policy=False)
        broken(drive, Expect.GUARD, Reason.NO_SAFE_COMMAND)
        broken(drive, Expect.MONITOR, Reason.OOD_ALARM, OodLevel.ALARM)
    return drive.writer.path


@pytest.fixture(scope="module")
def recording(bag: Path) -> Recording:
    return read_recording(bag)


def all_facts(recording: Recording) -> list[Facts]:
    return [facts_of(run, recording.robot) for run in recording.runs]


def test_runs_are_as_the_notes_say(recording: Recording) -> None:
    titles = [run.title for run in recording.runs]
    assert titles == ["To the goal", "Broken: COMMAND_STALE", "Broken: NO_SAFE_COMMAND", "Broken: OOD_ALARM"]
    assert [len(run.events) for run in recording.runs] == [0, 1, 1, 1]
    assert [command.speed_mps for run in recording.runs for command in run.teleop] == [1.5, 1.5, 1.5]
    assert all(run.goal == Goal(run.goal.stamp_ns, 4.0, 0.0) for run in recording.runs if run.goal)
    assert all(len(run.obstacles[-1].cylinders_m) == len(POSTS) for run in recording.runs)


def test_a_drive_is_measured_from_its_first_motion_to_the_goal(recording: Recording) -> None:
    facts = all_facts(recording)[0]
    assert facts.arrived and facts.outcome == "goal reached"
    assert facts.drive_s == pytest.approx(3.52, abs=0.021)  # 3.5 m to the edge of the goal, at 1 m/s
    assert facts.path_m == pytest.approx(3.52, abs=0.021)
    assert facts.speed_max_mps == 1.0
    assert facts.clearance_min_m == pytest.approx(0.6 - 0.1 - 0.215, abs=1e-6)  # beside the nearer post
    assert facts.reasons["LIMITED CLEARANCE"] == pytest.approx(0.4)
    assert sum(facts.in_command.values()) == pytest.approx(1.0)


def test_a_stop_is_measured_from_the_event(recording: Recording) -> None:
    stop = all_facts(recording)[1].stop
    assert stop is not None and stop.time_s is not None and stop.distance_m is not None
    assert stop.speed_mps == 1.0
    assert stop.time_s == pytest.approx(5 * 0.02 + 1.0 / BRAKE_MPS2, abs=0.021)
    assert stop.distance_m == pytest.approx(5 * 0.02 + 0.5 / BRAKE_MPS2, abs=0.021)


def test_each_run_shows_what_it_must(recording: Recording) -> None:
    for run, facts in zip(recording.runs, all_facts(recording), strict=True):
        verdict = shown(run, facts)
        assert verdict.ok, verdict.text
    assert "COMMAND_STALE" in shown(recording.runs[1], all_facts(recording)[1]).text


@pytest.mark.parametrize(
    ("expect", "reason", "ood", "why"),
    [
        (Expect.REST, Reason.CLEARANCE, OodLevel.OK, "nothing of it"),
        (Expect.GUARD, Reason.COMMAND_STALE, OodLevel.OK, "did not act"),
        (Expect.MONITOR, Reason.CLEARANCE, OodLevel.OK, "stayed calm"),
        (Expect.MONITOR, Reason.CLEARANCE, OodLevel.CAUTION, "does not heed"),
        (Expect.GOAL, Reason.CLEARANCE, OodLevel.OK, "no goal"),
    ],
)
def test_a_run_that_does_not_show_it_says_why(
    tmp_path: Path, expect: Expect, reason: Reason, ood: OodLevel, why: str
) -> None:
    drive = Drive(tmp_path / "bag")
    with drive.writer:
        broken(drive, expect, reason, ood)
    recording = read_recording(tmp_path / "bag")
    verdict = shown(recording.runs[0], facts_of(recording.runs[0], ROBOT))
    assert not verdict.ok and why in verdict.text


def test_a_touch_spoils_any_run(tmp_path: Path) -> None:
    drive = Drive(tmp_path / "bag")
    with drive.writer:
        drive.begin("Touch", Expect.GOAL)
        for _ in range(10):
            drive.step(1.0)
        drive.add("contact", Contact(drive.now_ns, True))
        drive.step(0.0)
    recording = read_recording(tmp_path / "bag")
    facts = facts_of(recording.runs[0], ROBOT)
    assert facts.touched and facts.outcome == "contact"
    assert not shown(recording.runs[0], facts).ok


def test_clearance_counts_walls_and_what_moves(tmp_path: Path) -> None:
    drive = Drive(tmp_path / "bag")
    with drive.writer:
        drive.begin("Past a wall", Expect.GOAL)
        wall = {"half_length": [3.0], "half_thickness": [0.05], "yaw": [0.0]}
        drive.cloud("sim/walls", np.array([[2.0, -0.5]]), **{name: np.array(v) for name, v in wall.items()})
        for i in range(150):
            if i == 100:  # a disc behind, coming nearer at 0.5 m/s
                mover = {"radius": [0.3], "vx": [0.5], "vy": [0.0]}
                values = {name: np.array(v) for name, v in mover.items()}
                drive.cloud("sim/movers", np.array([[drive.x_m - 1.2, 0.0]]), **values)
            drive.step(1.0 if i < 100 else 0.0)
    run = read_recording(tmp_path / "bag").runs[0]
    clearance = dict(facts_of(run, ROBOT).clearance)
    half_m = ROBOT.footprint[:, 1].max()
    assert min(c for s, c in clearance.items() if s < 1.9) == pytest.approx(0.45 - half_m, abs=1e-3)
    behind_m = 1.2 + ROBOT.footprint[:, 0].min() - 0.3
    assert clearance[max(clearance)] == pytest.approx(min(0.45 - half_m, behind_m - 0.5 * 0.98), abs=0.03)
    assert behind_m - 0.5 * 0.9 < 0.45 - half_m
    assert write_top_view(run, ROBOT, tmp_path / "top.png").stat().st_size > 10_000


def test_a_wall_is_as_far_as_the_nearest_corner_of_the_one_or_the_other() -> None:
    pose = Odom.from_yaw(0, 1.0, 2.0, math.pi / 2.0, 0.0, 0.0)
    x_max, y_max = ROBOT.footprint.max(axis=0)
    across = np.array([[1.0, 2.0 + x_max + 0.3, 5.0, 0.1, 0.0]])  # ahead: a side of the wall, corners of the robot
    assert wall_clearance_m(pose, across, ROBOT) == pytest.approx(0.2, abs=1e-6)
    pointing = np.array([[1.0 - y_max - 1.5, 2.0, 1.0, 0.01, 0.0]])  # to the left: the narrow end of the wall
    assert wall_clearance_m(pose, pointing, ROBOT) == pytest.approx(0.5, abs=1e-6)
    assert wall_clearance_m(pose, np.array([[1.0 - y_max - 0.9, 2.0, 1.0, 0.1, 0.0]]), ROBOT) == 0.0


def test_latency_is_counted_from_the_scan_that_a_command_was_made_of(recording: Recording) -> None:
    latency = latency_of(recording)
    assert len(latency.received_s) > 50
    np.testing.assert_allclose(latency.received_s, LATE_NS / NS)
    np.testing.assert_allclose(latency.sent_s, 1e-9)


def test_a_bag_without_notes_or_simulator_is_split_by_its_goals(tmp_path: Path) -> None:
    drive = Drive(tmp_path / "bag", simulated=False)
    with drive.writer:
        for x in (2.0, 2.0, 5.0):  # the same goal again begins nothing
            drive.add("goal_pose", Goal(drive.now_ns, x, 0.0))
            for _ in range(60):
                drive.step(1.0)
    recording, verdicts = make_report(tmp_path / "bag", tmp_path / "out")
    assert [run.title for run in recording.runs] == ["Goal 1 at (2.0, 0.0) m", "Goal 2 at (5.0, 0.0) m"]
    assert all(verdict.ok for verdict in verdicts)
    facts = facts_of(recording.runs[0], ROBOT)
    assert facts.clearance_min_m == pytest.approx(5.0 - 0.254 + 0.055, abs=0.2)  # as the lidar sees it


def test_the_page_is_self_contained_and_names_every_run(bag: Path, tmp_path: Path) -> None:
    recording, _ = make_report(bag, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert not re.search(r"https?://|@import|url\(", page)
    assert all(run.title in page for run in recording.runs)
    assert page.count("✓ shown") == len(recording.runs)
    assert page.count('src="data:image/png') == 2 * len(recording.runs) + 1
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert len(pictures) == 2 * len(recording.runs) + 2 and {"latency.png", "overview.png"} <= set(pictures)


def test_the_command_writes_figures_as_json(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    image = tmp_path / "docs" / "picture.png"
    assert main(["report", str(bag), "--out", str(out), "--json", str(out / "r.json"), "--image", str(image)]) == 0
    content = json.loads((out / "r.json").read_text())
    figures = {figure["name"]: figure for figure in content["figures"]}
    assert figures["runs"]["value"] == 4 and figures["contacts"]["ok"] is True
    assert figures["scan_to_policy_p50"]["value"] == pytest.approx(0.004)
    assert len(content["runs"]) == 4
    assert image.read_bytes().startswith(b"\x89PNG")
    assert str(out / "report.html") in capsys.readouterr().out


def test_clearance_is_to_the_surface_and_never_negative() -> None:
    pose = Odom.from_yaw(0, 1.0, 2.0, 0.5 * math.pi, 0.0, 0.0)
    ahead = np.array([[1.0, 3.0, 0.1]])
    assert true_clearance_m(pose, ahead, ROBOT) == pytest.approx(1.0 - 0.254 - 0.1)
    assert true_clearance_m(pose, np.array([[1.0, 2.0, 0.1]]), ROBOT) == 0.0


def test_notes_of_the_demo_and_of_the_report_are_one_format(recording: Recording) -> None:
    from dsac_robot.apps.demo_stage import note_to_message

    note = Note(5 * NS + 7, RUN, "A run", Expect.GUARD)
    message = note_to_message(note)
    status = message.status[0]
    assert (status.name, status.message) == (RUN, "A run")
    assert {pair.key: pair.value for pair in status.values} == {"expect": recording.runs[2].expect.value}
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 7)
