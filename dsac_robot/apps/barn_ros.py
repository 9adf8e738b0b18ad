"""BARN runs through the real ROS 2 graph: simulated robot, policy, monitor and guard as nodes, at most in real time.

The simulator's truth judges. The clock of a run starts when all nodes are up. Trials differ by the seed of the noise
alone: the simulated robot on topics starts exactly where the world says.
"""

from __future__ import annotations

import argparse
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.barn_runs import GOAL_TOLERANCE_M, TIME_LIMIT_S, Job, Run, run_of
from dsac_robot.core.reasons import Level
from dsac_robot.core.values import NS

if TYPE_CHECKING:
    from dsac_robot.nodes.compose import Composition

TRACE_S = 0.1


def work(jobs: Iterator[Job]) -> Iterator[Run]:
    """Do runs in this process, one after the other, each with fresh nodes on a ROS domain of its own."""
    import rclpy

    from dsac_robot.apps.barn_picture import write_picture
    from dsac_robot.core.robot import load_robot
    from dsac_robot.nodes.run import init
    from sim.worlds import read_barn_world

    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randrange(1, 100)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    init(["dsac-robot"])
    try:
        for job in jobs:
            world = read_barn_world(Path(job.folder), job.world)
            done = _Judge(_composed(job)).drive()
            result = run_of(job, world, done)
            if job.pictures and result.outcome != "success":
                write_picture(job, world, done, load_robot(job.robot))
            yield result
    finally:
        rclpy.try_shutdown()


def _composed(job: Job) -> Composition:
    """The nodes of ``dsac-robot up --sim`` in this world."""
    from dsac_robot.apps.up_cmd import node_class, node_specs
    from dsac_robot.nodes.compose import compose

    given = argparse.Namespace(
        robot=job.robot, bundle=job.bundle, allow_unsigned=job.allow_unsigned, no_monitor=not job.monitor
    )
    world = f"barn:{Path(job.folder).resolve()}:{job.world}"
    specs = node_specs(given, job.guard, sim=True, world=world, record=None)
    wishes = {spec.name: dict(spec.parameters) for spec in specs}
    wishes["sim_bridge"]["seed"] = job.seed
    files = [file for spec in specs for file in spec.files]
    return compose([node_class(spec.name) for spec in specs], files, parameters=wishes)


class _Judge:
    """Drives once and watches: the robot's true pose, and who was in command."""

    def __init__(self, composition: Composition) -> None:
        self._composition = composition
        self._level_s = np.zeros(len(Level))
        self._reasons: dict[str, int] = {}
        self._rows: list[tuple[float, ...]] = []
        self._outcome = "timeout"
        self._path_m = 0.0

    def drive(self) -> Any:
        """Bring up, drive until the run ends, close. # -> Drive"""
        from dsac_robot.apps.closed_loop import CAUSED_MPS, Drive

        try:
            self._composition.bring_up()
            self._bridge, self._guard = (self._composition.nodes[n] for n in ("sim_bridge", "safety_guard"))
            self._began_ns = self._seen_ns = self._bridge.simulated_ns
            self._last = self._bridge.simulator.pose
            self._composition.spin(self._going)
            sim = self._bridge.simulator
            caused = sim.touched and sim.touch_speed_mps > CAUSED_MPS
            return Drive(
                self._outcome,
                (self._seen_ns - self._began_ns) / NS,
                caused,
                sim.touch_speed_mps,
                self._path_m,
                tuple(float(t) for t in self._level_s),
                self._reasons,
                0,
                0,
                np.array(self._rows).reshape(-1, 7),
                np.zeros((0, 0), np.float32),
                np.zeros((0, 2), np.float32),
                np.zeros((0, 0)),
            )
        finally:
            self._composition.close()

    def _going(self) -> bool:
        """Look at the robot; False when the run is over."""
        sim, now_ns = self._bridge.simulator, self._bridge.simulated_ns
        if now_ns == self._seen_ns:
            return True
        decision, here = self._guard.decision, sim.pose
        self._level_s[decision.level] += (now_ns - self._seen_ns) / NS
        self._reasons[decision.reason.name] = self._reasons.get(decision.reason.name, 0) + 1
        self._path_m += math.dist(here[:2], self._last[:2])
        self._seen_ns, self._last = now_ns, here
        elapsed_s = (now_ns - self._began_ns) / NS
        if not self._rows or elapsed_s - self._rows[-1][0] >= TRACE_S:
            self._rows.append((elapsed_s, *here, sim.twist[0], float(decision.level), float(decision.reason)))
        if sim.touched:
            self._outcome = "contact"
        elif math.dist(here[:2], sim.world.goal_m) < GOAL_TOLERANCE_M:
            self._outcome = "success"
        return self._outcome == "timeout" and elapsed_s < TIME_LIMIT_S
