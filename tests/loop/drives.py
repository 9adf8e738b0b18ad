"""Episodes of the navigate environment, with every sample that its observations, rewards and costs came from."""

from dataclasses import dataclass, field, replace

import numpy as np

from dsac_robot.core.history import MissingSampleError
from dsac_robot.core.values import Command, Contact, Floats32, Goal, Odom, Sample, Scan, ns
from sim.navigate import COMMAND_PERIOD_S, NavigateEnv

GRID_NS = ns(COMMAND_PERIOD_S)  # odometry, commands and ticks all fall on it


@dataclass
class Drive:
    """One episode: what was sensed and sent, in order of stamps, and the environment's own transition log."""

    samples: list[Sample] = field(default_factory=list)
    asked: list[Command] = field(default_factory=list)  # by the driver, at each tick but the last
    ticks_ns: list[int] = field(default_factory=list)  # T + 1
    observations: list[Floats32] = field(default_factory=list)  # T + 1
    actions: list[Command] = field(default_factory=list)  # the newest sent at tick t + 1
    rewards: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    outcome: str = "cut"

    def later(self, offset_ns: int) -> list[Sample]:
        """The samples as if the episode had begun at ``offset_ns``."""
        return [replace(sample, stamp_ns=sample.stamp_ns + offset_ns) for sample in self.samples]


class _Log:
    """Takes the new samples out of the environment's history, by its public face."""

    def __init__(self, env: NavigateEnv, drive: Drive) -> None:
        self._env, self._drive, self._seen = env, drive, set[tuple[type, int]]()
        self._at_ns = 0

    def until(self, tick_ns: int) -> None:
        for stamp_ns in range(self._at_ns, tick_ns + 1, GRID_NS):
            for kind in (Goal, Command, Odom, Scan):
                try:
                    sample = self._env.history.newest(kind, stamp_ns)
                except MissingSampleError:
                    continue
                if (kind, sample.stamp_ns) not in self._seen:
                    self._seen.add((kind, sample.stamp_ns))
                    self._drive.samples.append(sample)
        self._at_ns = tick_ns + GRID_NS


def drive_env(env: NavigateEnv, seed: int, steps_max: int, gain: float = 1.0, noise: float = 0.2) -> Drive:
    """Drive towards the goal with a heading controller and noise, until the end or ``steps_max``.

    A ``gain`` of 0 drives straight on into whatever is there.
    """
    made, rng = Drive(), np.random.default_rng(seed)
    period_ns = ns(env.layout.control_period_s)
    observation, _ = env.reset(seed=seed)
    log, tick_ns = _Log(env, made), (env.layout.frames - 1) * period_ns
    log.until(tick_ns)
    made.ticks_ns.append(tick_ns)
    made.observations.append(observation)
    for _ in range(steps_max):
        odom, goal = env.history.newest(Odom, tick_ns), env.history.newest(Goal, tick_ns)
        bearing = np.arctan2(goal.y_m - odom.y_m, goal.x_m - odom.x_m) - odom.yaw_rad
        turn = gain * 2.0 * np.sin(bearing) + noise * rng.normal()
        action = env.actions.to_action(np.array([1.5 + noise * rng.normal(), turn]))
        asked = env.actions.to_command(action)
        made.asked.append(Command(tick_ns, float(asked[0]), float(asked[1])))
        observation, reward, terminated, truncated, info = env.step(action)
        tick_ns += period_ns
        if env.sim.touched:
            made.samples.append(Contact(tick_ns, True))
        log.until(tick_ns)
        made.ticks_ns.append(tick_ns)
        made.observations.append(observation)
        made.actions.append(env.history.newest(Command, tick_ns))
        made.rewards.append(reward)
        made.costs.append(info["cost"])
        if terminated or truncated:
            made.outcome = info["outcome"]
            break
    return made
