"""The closed-loop half of the parity gate: does what was exported drive as what was trained?

The torch policy and the exported model each drive the same seeded episodes of the training task, their commands rounded
to ``RESOLUTION``. The outcome must be the same in every episode, and the mean differences of return and cost within
bounds that chance alone passes in 999 of 1000 gates (docs/bundle.md: how they were found).

A drive on wheels that slip is chaotic: one flipped last bit ends, in some three episodes of a hundred, in another
outcome, whoever computes. Where outcomes differ, torch drives that episode again with its own commands jittered by one
step of the resolution. An episode that torch itself then ends in different ways is undecided: it says nothing of the
export, is left out of the comparison, counted in the card, and there may be only a few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsac_robot.apps.parallel import run_all
from dsac_robot.core.params import ParameterError
from dsac_robot.core.robot import Robot, load_robot
from dsac_robot.core.values import Floats32

if TYPE_CHECKING:
    from dsac_robot.apps.bundling import Trained
    from sim.task_env import TaskEnv

EPISODES = 20
FIRST_SEED = 20_000_000  # beyond those of training and of the calibration drives
RESOLUTION = 1e-3  # m/s and rad/s: coarser than float32's rounding, finer than a base follows
RETURN_MAX = 0.5  # mean difference of the returns; an episode that succeeds returns about 16, a contact about -10
COST_MAX = 1.0  # mean difference of the costs: steps with an obstacle too near
RETURN_COUNTED, COST_COUNTED = 3.0, 5.0  # the most that one episode counts: jitter alone once made 53 steps of cost
JITTERED = 4  # drives of torch that decide whether an episode is decided
UNDECIDED_MAX = 4
TORCH_FILE, MODEL_FILE = "torch.pt", "policy.onnx"

Commands = Callable[[Floats32], Floats32]  # observation (D,) -> command (2,)


@dataclass(frozen=True)
class Job:
    """One seed, driven by both."""

    folder: str  # holds TORCH_FILE and MODEL_FILE
    robot: str
    recipe: dict[str, Any]
    task: str
    seed: int


@dataclass(frozen=True)
class Ending:
    """What came of one drive."""

    outcome: str
    total: float  # return
    cost: float


@dataclass(frozen=True)
class Episode:
    """One seed: how torch and the exported model ended, and how torch did when jittered (only where they differ)."""

    seed: int
    torch: Ending
    exported: Ending
    jittered: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """The outcomes differ, and torch's own is certain."""
        return self.torch.outcome != self.exported.outcome and self.decided

    @property
    def decided(self) -> bool:
        """Torch ends the episode in one way only, as far as was tried."""
        return set(self.jittered) <= {self.torch.outcome}


def closed_loop(
    trained: Trained, policy_onnx: bytes, robot: str, folder: Path, processes: int, episodes: int = EPISODES
) -> dict[str, float]:
    """Drive both and compare; figures for ``card.recorded.parity``. ``folder`` is for files between processes.

    Raises ParameterError naming the seeds or the figure where the gate is not passed.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.save(trained.deployed, folder / TORCH_FILE)
    (folder / MODEL_FILE).write_bytes(policy_onnx)
    recipe = dict(trained.recorded.recipe)
    jobs = [Job(str(folder), robot, recipe, trained.task, FIRST_SEED + i) for i in range(episodes)]
    return verdict(list(run_all(work, jobs, processes)))


def verdict(episodes: Sequence[Episode]) -> dict[str, float]:
    """The figures of the gate. Raises ParameterError where it is not passed."""
    differing = sorted(episode.seed for episode in episodes if episode.differs)
    if differing:
        raise ParameterError(
            f"parity gate: the exported policy ends {len(differing)} of {len(episodes)} episodes otherwise than torch "
            f"(seeds {', '.join(map(str, differing))}); export with --precision fp32, or look at the model"
        )
    decided = [episode for episode in episodes if episode.decided]
    undecided = len(episodes) - len(decided)
    if undecided > UNDECIDED_MAX:
        raise ParameterError(
            f"parity gate: {undecided} of {len(episodes)} episodes end by chance; at most {UNDECIDED_MAX} may: "
            "the policy is not fit to be compared, train it longer"
        )
    figures = {"closed_loop_episodes": float(len(episodes)), "closed_loop_undecided": float(undecided)}
    for name, limit, counted, of in (
        ("return", RETURN_MAX, RETURN_COUNTED, "total"),
        ("cost", COST_MAX, COST_COUNTED, "cost"),
    ):
        differences = [getattr(episode.exported, of) - getattr(episode.torch, of) for episode in decided]
        figures[f"closed_loop_{name}_difference"] = mean = float(np.mean(np.clip(differences, -counted, counted)))
        figures[f"closed_loop_{name}_difference_max"] = limit
        if not abs(mean) <= limit:  # NaN is no parity
            raise ParameterError(
                f"parity gate: the mean {name} of the exported policy differs by {mean:+.3f} from torch's; "
                f"the limit is {limit}"
            )
    return figures


def work(jobs: Iterator[Job]) -> Iterator[Episode]:
    """Drive in this process; policies are loaded once."""
    from dsac_robot.apps.train_cmd import make_env, read_recipe

    env: TaskEnv | None = None
    for job in jobs:
        if env is None:
            robot = load_robot(job.robot)
            env = make_env(robot, job.task, read_recipe(job.recipe, "recipe", job.task))
            by_torch, exported = commands_of(Path(job.folder), robot, env)
        reference, found = drive(env, by_torch, job.seed), drive(env, exported, job.seed)
        jittered: tuple[str, ...] = ()
        if reference.outcome != found.outcome:
            rngs = [np.random.default_rng([job.seed, i]) for i in range(JITTERED)]
            jittered = tuple(drive(env, by_torch, job.seed, rng).outcome for rng in rngs)
        yield Episode(job.seed, reference, found, jittered)


def commands_of(folder: Path, robot: Robot, env: TaskEnv) -> tuple[Commands, Commands]:
    """The commands of the torch policy, and those of the exported one through the runtime that the robot uses."""
    import torch

    from dsac_robot.learn.export import runtime_of, split_terms

    torch.set_num_threads(1)
    module = torch.load(folder / TORCH_FILE, weights_only=False)  # written by closed_loop
    specs = env.builder.specs
    runtime = runtime_of((folder / MODEL_FILE).read_bytes(), specs, "command", (2,), with_command=False)

    def by_torch(observation: Floats32) -> Floats32:
        terms = split_terms(specs, observation[None])
        with torch.no_grad():
            command: Floats32 = module(*(torch.from_numpy(term) for term in terms.values())).numpy()[0]
        return command

    def exported(observation: Floats32) -> Floats32:
        return runtime.run({name: term[0] for name, term in split_terms(specs, observation[None]).items()})

    return by_torch, exported


def drive(env: TaskEnv, commands: Commands, seed: int, jitter: np.random.Generator | None = None) -> Ending:
    """One episode; with ``jitter`` each command is moved by up to one step of the resolution."""
    observation, _ = env.reset(seed=seed)
    total = cost = 0.0
    while True:
        asked = np.asarray(commands(observation), np.float64)
        if jitter is not None:
            asked = asked + RESOLUTION * jitter.uniform(-1.0, 1.0, 2)
        command = RESOLUTION * np.round(asked / RESOLUTION)
        observation, reward, terminated, truncated, info = env.step(env.actions.to_action(command).astype(np.float64))
        total += reward
        cost += info["cost"]
        if terminated or truncated:
            return Ending(str(info["outcome"]), total, cost)
