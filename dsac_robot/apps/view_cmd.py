"""``dsac-robot view``: watch one drive of a bundle, in a window or as a video.

The drive is the one that ``barn`` scores: policy, monitor and guard in process, with the classes that the nodes use.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac_robot.core.files import share_path
from dsac_robot.core.params import ParameterError
from dsac_robot.core.reasons import Level, OodLevel, Reason
from dsac_robot.core.robot import Robot, load_robot

if TYPE_CHECKING:
    from dsac_robot.apps.closed_loop import Drive, Moment
    from dsac_robot.apps.video import VideoWriter
    from sim.render import Caption, SceneRenderer
    from sim.worlds import World

LEVEL_COLOURS = {
    Level.DRIVE: (0.13, 0.66, 0.36),
    Level.LIMITED: (0.95, 0.70, 0.10),
    Level.FALLBACK: (0.92, 0.47, 0.10),
    Level.STOP: (0.83, 0.18, 0.18),
    Level.EMERGENCY: (0.55, 0.05, 0.30),
}
FRAME_HZ = 25
LINGER_FRAMES = 25  # of the last picture, so that a player shows how it ended
OPEN_S = 1.0  # for a window to show the start
CLOSE_S = 10.0  # for it to be gone


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("view")
    parser.add_argument("bundle", nargs="?", help="bundle directory (default: the shipped one)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--world",
        default="clutter:0",
        metavar="NAME",
        help="as of `up --sim` (default: clutter:0)",
    )
    where.add_argument("--world-file", type=Path, metavar="FILE", help="a world_N.world of a BARN directory")
    parser.add_argument("--robot", default="jackal", help="robot name or .yaml file (default: jackal)")
    parser.add_argument("--seed", type=int, default=0, help="of noise (default: 0)")
    parser.add_argument("--profile", choices=("static", "dynamic"), default="static", help="the guard's parameter file")
    parser.add_argument("--camera", choices=("chase", "top"), default="chase", help="default: chase")
    parser.add_argument("--size", default="1280x720", metavar="WxH", help="of the video (default: 1280x720)")
    parser.add_argument("--seconds", type=float, default=100.0, help="simulated time at most (default: 100)")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write an MP4 instead of opening a window")
    parser.add_argument("--allow-unsigned", action="store_true", help="take a bundle without a trusted signature")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Drive once and show it."""
    size = parse_size(args.size)
    if not 0.1 <= args.seconds <= 1000.0:
        raise ParameterError(f"--seconds {args.seconds} is outside [0.1, 1000]")
    if args.seed < 0:
        raise ParameterError(f"--seed {args.seed} must be at least 0")
    if args.video is None:
        need_display()
    robot, world = load_robot(args.robot), choose_world(args.world, args.world_file)

    def go(observer: Callable[[Moment], None]) -> Drive:
        from dsac_robot.apps.barn_cmd import guard_params
        from dsac_robot.apps.closed_loop import LoopParams, drive
        from dsac_robot.bundle.deployed import DeployedMonitor, DeployedPolicy, load_bundle

        bundle = load_bundle(
            args.bundle or share_path("config", "bundles", "navigate_jackal"), allow_unsigned=args.allow_unsigned
        )
        policy = DeployedPolicy(bundle, robot)
        monitor = DeployedMonitor(bundle, robot) if bundle.card.monitor else None
        params = LoopParams(time_limit_s=args.seconds)
        return drive(robot, world, args.seed, policy, monitor, guard_params(args.profile), params, observer=observer)

    if args.video is None:
        done = watch(go, robot, world)
    else:
        done = film(go, robot, world, args.video, size, args.camera)
        print(f"wrote {args.video}")
    print(f"{world.name}: {done.outcome} after {done.time_s:.1f} s and {done.path_m:.1f} m")
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from ``1280x720``. Raises ParameterError for anything else, odd numbers and out of range."""
    from sim.render import SIZE_MAX

    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise ParameterError(f"--size {text!r} is not of the form 1280x720")
    size = int(width), int(height)
    if not all(64 <= got <= most and got % 2 == 0 for got, most in zip(size, SIZE_MAX, strict=True)):
        raise ParameterError(f"--size {text} must be even and in [64x64, {SIZE_MAX[0]}x{SIZE_MAX[1]}]")
    return size


def choose_world(name: str, file: Path | None) -> World:
    """The world that the arguments name. Raises ParameterError naming the argument and what is wrong with it."""
    from sim.worlds import WorldError, load_world, read_barn_world

    try:
        if file is None:
            return load_world(name)
        number = file.stem.removeprefix("world_")
        if file.suffix != ".world" or not number.isdecimal():
            raise ParameterError(f"--world-file {file}: the name must be world_N.world, as in a BARN directory")
        return read_barn_world(file.parent, int(number))
    except WorldError as error:
        raise ParameterError(f"--world{'' if file is None else '-file'}: {error}") from error


def need_display() -> None:
    """Raise ParameterError where no window can be opened."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ParameterError(
            "view opens a window, and there is no display here (DISPLAY is not set): give --video FILE.mp4 instead"
        )


def caption(moment: Moment) -> Caption:
    """What is written into the picture."""
    from sim.render import Caption

    reason = "" if moment.reason == Reason.NONE else moment.reason.name.lower().replace("_", " ")
    verdict = "" if moment.verdict in (None, OodLevel.OK) else f"   monitor: {OodLevel(moment.verdict).name.lower()}"
    lines = (
        f"{moment.time_s:5.1f} s   {moment.sim.twist[0]:5.2f} m/s",
        f"sent {moment.sent.speed_mps:5.2f} m/s   {moment.sent.yaw_rate_radps:5.2f} rad/s",
        (reason or "as the policy asks") + verdict,
    )
    return Caption(moment.level.name, LEVEL_COLOURS[moment.level], lines)


class Film:
    """An observer that draws the drive, ``FRAME_HZ`` pictures a simulated second."""

    def __init__(self, renderer: SceneRenderer, writer: VideoWriter, robot: Robot) -> None:
        self._renderer, self._writer, self._robot = renderer, writer, robot
        self._trail: list[tuple[float, float, tuple[float, float, float]]] = []
        self._scan: Any = None
        self._points: Any = None
        self._due_s = 0.0
        self._last: Any = None

    def __call__(self, moment: Moment) -> None:
        """Look at one guard period."""
        from sim.render import scan_points

        pose = moment.sim.pose
        if moment.scan is not None and moment.scan is not self._scan:
            self._scan, self._points = moment.scan, scan_points(moment.scan, self._robot, pose)
        if moment.time_s + 1e-9 < self._due_s:
            return
        self._due_s += 1.0 / FRAME_HZ
        self._trail.append((pose[0], pose[1], LEVEL_COLOURS[moment.level]))
        self._last = self._renderer.frame(moment.sim, self._points, self._trail, caption(moment))
        self._writer.add(self._last)

    def linger(self) -> None:
        """Hold the last picture."""
        for _ in range(LINGER_FRAMES if self._last is not None else 0):
            self._writer.add(self._last)


def film(
    go: Callable[[Callable[[Moment], None]], Drive],
    robot: Robot,
    world: World,
    path: Path,
    size: tuple[int, int],
    camera: str,
) -> Drive:
    """Drive and write an MP4."""
    from dsac_robot.apps.video import VideoWriter
    from sim.render import RenderError, SceneRenderer

    try:
        renderer = SceneRenderer(robot, world, size, camera)
    except RenderError as error:
        raise ParameterError(f"--video: {error}") from error
    try:
        with VideoWriter(path, size, FRAME_HZ) as writer:
            pictures = Film(renderer, writer, robot)
            done = go(pictures)
            pictures.linger()
    finally:
        renderer.close()
    return done


def watch(go: Callable[[Callable[[Moment], None]], Drive], robot: Robot, world: World) -> Drive:
    """Drive in MuJoCo's own viewer, not faster than real time. Once the window is closed the drive ends unseen."""
    import mujoco.viewer

    from sim.render import Stage

    stage, before = Stage(robot, world), set(threading.enumerate())
    with mujoco.viewer.launch_passive(stage.model, stage.data, show_left_ui=False, show_right_ui=False) as window:
        with window.lock():
            window.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            window.cam.trackbodyid = stage.model.body("base").id
            window.cam.distance, window.cam.elevation = 4.0, -35.0
        window.sync()
        time.sleep(OPEN_S)
        began = time.monotonic()

        def observer(moment: Moment) -> None:
            if window.is_running():
                with window.lock():
                    stage.follow(moment.sim)
                window.sync()
                time.sleep(max(0.0, began + moment.time_s - time.monotonic()))

        done = go(observer)
        if window.is_running():
            time.sleep(LINGER_FRAMES / FRAME_HZ)
    # The viewer's own thread is still closing the window. Where Python ends meanwhile, both end GLFW and one waits for
    # good.
    for thread in set(threading.enumerate()) - before:
        thread.join(CLOSE_S)
    return done
