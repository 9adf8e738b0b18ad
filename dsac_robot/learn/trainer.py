"""The training loop: environments step in other processes while the learner updates; progress, scalars, checkpoints.

A run folder holds ``recipe.yaml`` (all settings), ``progress.csv``, ``eval.csv`` and ``eval_episodes.csv`` (episodes
with the mode of the policy, every ``eval_updates``), TensorBoard events, ``checkpoint.pt`` (all state, replaced
atomically) and ``actors/`` (the actor alone, every ``snapshot_updates``).
"""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from dsac_robot.core.params import param
from dsac_robot.core.values import Floats32
from dsac_robot.learn import checkpoint
from dsac_robot.learn.dsac_t import DsacT
from dsac_robot.learn.evaluation import Evaluation, append_row
from dsac_robot.learn.health import Health, HealthConfig
from dsac_robot.learn.n_step import NStep
from dsac_robot.learn.networks import Actor
from dsac_robot.learn.replay import Replay
from dsac_robot.learn.seeds import Stream, seed_of


class VectorEnv(Protocol):
    """What the loop needs of a vector environment with same-step autoreset (``sim.vector`` has one)."""

    num_envs: int

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]: ...
    def step_async(self, actions: Any) -> None: ...
    def step_wait(self) -> tuple[Any, Any, Any, Any, dict[str, Any]]: ...
    def state(self) -> list[dict[str, Any]]: ...
    def restore(self, state: list[dict[str, Any]]) -> Any: ...


@dataclass(frozen=True)
class TrainerConfig:
    """How a run goes; one update follows each step of all environments."""

    updates: int = param(150_000, unit="updates", low=1, high=10**9, help="stop after so many in all")
    minutes: float = param(0.0, unit="min", low=0.0, high=1e6, help="stop after so long in this session; 0: no limit")
    environments: int = param(8, unit="", low=1, high=4096, help="environments stepped together")
    workers: int = param(1, unit="processes", low=1, high=1024, help="processes that the environments are spread over")
    updates_per_step: int = param(1, unit="", low=1, high=64, help="updates after each step of all environments")
    batch: int = param(256, unit="", low=1, high=65536, help="transitions of one update")
    replay: int = param(600_000, unit="", low=1000, high=10**8, help="transitions kept")
    warmup_steps: int = param(8_000, unit="steps", low=1, high=10**7, help="random actions before the first update")
    checkpoint_minutes: float = param(5.0, unit="min", low=0.1, high=1e4, help="time between checkpoints")
    snapshot_updates: int = param(10_000, unit="updates", low=100, high=10**8, help="between copies of the actor")
    eval_updates: int = param(10_000, unit="updates", low=0, high=10**9, help="between evaluations; 0: none")
    eval_episodes: int = param(10, unit="episodes", low=1, high=1000, help="of one evaluation, always the same starts")
    seed: int = param(0, unit="", low=0, high=2**31 - 1, help="of everything")
    health: HealthConfig = field(default_factory=HealthConfig)


@dataclass
class _Recent:
    """Outcomes of the last episodes."""

    returns: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    outcomes: deque[str] = field(default_factory=lambda: deque(maxlen=200))

    def rate(self, outcome: str) -> float:
        return self.outcomes.count(outcome) / len(self.outcomes) if self.outcomes else 0.0

    def mean_return(self) -> float:
        return float(np.mean(self.returns)) if self.returns else 0.0


class Trainer:
    """Trains ``learner`` on ``envs`` into the folder ``out``; ``run`` returns when the budget is spent.

    ``evaluate`` (an ``Evaluator``) judges the actor every ``eval_updates``; without it there are no evaluations.
    """

    def __init__(
        self,
        learner: DsacT,
        envs: VectorEnv,
        replay: Replay,
        config: TrainerConfig,
        out: Path,
        evaluate: Callable[[Actor], Evaluation] | None = None,
    ) -> None:
        self.learner, self.envs, self.replay, self.config, self.out = learner, envs, replay, config, out
        self._evaluate = evaluate if config.eval_updates else None
        self._evaluated_at = -1
        self._rng = np.random.default_rng(config.seed + 1)
        self._recent = _Recent()
        self._episode_returns = np.zeros(envs.num_envs)
        self.steps = 0
        self._metrics: dict[str, float] = {}
        self._n_step = NStep(learner.config.n_step, learner.config.gamma, envs.num_envs)
        self._health = Health(config.health, out)
        self._observation: Floats32 | None = None  # None: the environments have not been reset

    def run(self) -> bool:
        """Step and update until ``updates`` or ``minutes`` is reached; saves on the way out, on Ctrl-C as well.

        Returns whether the budget is spent: False after Ctrl-C or SIGTERM.
        """
        from torch.utils.tensorboard import SummaryWriter

        config = self.config
        (self.out / "actors").mkdir(parents=True, exist_ok=True)
        writer = SummaryWriter(str(self.out))
        started = last_line = last_save = time.monotonic()
        first_update = self.learner.updates
        if self._observation is None:
            self._observation, _ = self.envs.reset(seed=seed_of(config.seed, Stream.ENVIRONMENTS, self.steps))
        stop = _StopSignals()
        with stop:
            if first_update == 0:
                self._evaluation(writer, 0.0)
            while self.learner.updates < config.updates and not stop.asked:
                now = time.monotonic()
                if config.minutes and now - started > 60.0 * config.minutes:
                    break
                before = self.learner.updates
                self._observation = self._step(self._observation)
                if self._evaluation_due(before):
                    self._evaluation(writer, now - started)
                if now - last_line > 5.0:
                    last_line = now
                    rate = (self.learner.updates - first_update) / max(now - started, 1e-9)
                    self._report(writer, rate, now - started)
                if now - last_save > 60.0 * config.checkpoint_minutes:
                    last_save = now
                    self.save()
            elapsed_s = time.monotonic() - started
            self._report(writer, (self.learner.updates - first_update) / max(elapsed_s, 1e-9), elapsed_s)
            if stop.asked:
                print("\nstopped: saving", file=sys.stderr)
            else:
                self._evaluation(writer, elapsed_s)
        self.save()
        writer.close()
        return not stop.asked

    def _step(self, observation: Floats32) -> Floats32:
        action = self._act(observation)
        self.envs.step_async(action)
        try:
            if self.replay.size >= min(self.config.warmup_steps, self.replay.capacity):  # while the environments step
                for _ in range(self.config.updates_per_step):
                    self._update()
        finally:  # also where an update fails: no answer is left in the pipes
            following, reward, terminated, truncated, infos = self.envs.step_wait()
        ended = terminated | truncated
        final = following
        if ended.any():  # same-step autoreset: the last observation of an episode is in infos
            final = following.copy()
            for i in np.flatnonzero(ended):
                final[i] = infos["final_obs"][i]
        self._health.check_step(final, reward, self.steps)
        made = self._n_step.add(observation, action, reward, final, terminated, truncated)
        if made is not None:
            self.replay.add(*made)
        self._episode_returns += reward
        for i in np.flatnonzero(ended):
            self._recent.returns.append(float(self._episode_returns[i]))
            self._recent.outcomes.append(str(infos["final_info"][i].get("outcome", "")))
            self._episode_returns[i] = 0.0
        self.steps += self.envs.num_envs
        return np.asarray(following, np.float32)

    def _act(self, observation: Floats32) -> Floats32:
        if self.steps < self.config.warmup_steps:
            return self._rng.uniform(-1.0, 1.0, (len(observation), self.replay.action_dim)).astype(np.float32)
        with torch.no_grad():
            return np.asarray(self.learner.actor.sample(torch.from_numpy(observation))[0])

    def _update(self) -> None:
        batch = self.replay.sample(self.config.batch)
        metrics = self.learner.update(batch)
        self._health.check_update(self.learner, batch, metrics)
        if self.learner.updates % 100 == 0:
            self._metrics |= {name: float(value) for name, value in metrics.items()}
            for alert in self._health.alerts(self.learner.updates, self._metrics):
                append_row(self.out / "alerts.csv", vars(alert))
                print(
                    f"\nALERT: {alert.name} = {alert.value:g} at update {alert.updates}: {alert.meaning}",
                    file=sys.stderr,
                )
        if self.learner.updates % self.config.snapshot_updates == 0:
            path = self.out / "actors" / f"actor_{self.learner.updates:08d}.pt"
            checkpoint.save_atomically(
                {"actor": self.learner.actor.state_dict(), "updates": self.learner.updates}, path
            )

    def _evaluation_due(self, before: int) -> bool:
        every = self.config.eval_updates
        return every > 0 and self.learner.updates // every > before // every

    def _evaluation(self, writer: Any, elapsed_s: float) -> None:
        """Evaluate the actor and log it, once at most at each number of updates."""
        updates = self.learner.updates
        if self._evaluate is None or self._evaluated_at == updates:
            return
        self._evaluated_at = updates
        result = self._evaluate(self.learner.actor)
        summary = result.summary()
        for name, value in summary.items():
            writer.add_scalar(f"eval/{name}", value, updates)
        where = {"updates": updates, "steps": self.steps, "elapsed_s": round(elapsed_s, 1)}
        append_row(self.out / "eval.csv", where | summary)
        for episode, outcome in enumerate(result.outcomes):
            told = {"return": result.returns[episode], "length": result.lengths[episode], "cost": result.costs[episode]}
            row = {"updates": updates, "episode": episode, **told, "outcome": outcome}
            append_row(self.out / "eval_episodes.csv", row)
        ends = f" | success {summary['success']:.0%}" if any(result.outcomes) else ""
        print(
            f"update {updates:>7} | evaluation: return {summary['return']:.2f} "
            f"({summary['return_min']:.2f} to {summary['return_max']:.2f}){ends}",
            file=sys.stderr,
        )

    def _report(self, writer: Any, rate: float, elapsed_s: float) -> None:
        updates = self.learner.updates
        scalars = {
            "return": self._recent.mean_return(),
            "success": self._recent.rate("success"),
            "collisions": self._recent.rate("contact"),
            "timeouts": self._recent.rate("timeout"),
            **self._metrics,
            "updates_per_s": rate,
            "steps": float(self.steps),
        }
        for name, value in scalars.items():
            writer.add_scalar(name, value, updates)
        row = {"updates": updates, "elapsed_s": round(elapsed_s, 1)} | {n: scalars.get(n, "") for n in COLUMNS}
        append_row(self.out / "progress.csv", row)
        left = self.config.updates - updates
        left_s = left / rate if rate > 0 else float("inf")
        if self.config.minutes:
            left_s = min(left_s, 60.0 * self.config.minutes - elapsed_s)
        text = (
            f"update {updates:>7} | return {scalars['return']:6.2f} | success {scalars['success']:4.0%} | "
            f"collisions {scalars['collisions']:4.0%} | sigma {self._metrics.get('sigma', 0.0):5.2f} | "
            f"alpha {self._metrics.get('alpha', 0.0):6.4f} | {rate:5.1f} updates/s | left {_clock(left_s)}"
        )
        print("\r" + text if sys.stderr.isatty() else text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr)
        sys.stderr.flush()

    def save(self) -> None:
        """Write ``checkpoint.pt``: all that the next step depends on. Never leaves a broken file, and never replaces a
        good state by one that is not finite (Unhealthy)."""
        self._health.check_state(self.learner)
        state = {
            "learner": self.learner.state_dict(),
            "replay": self.replay.state_dict(),
            "steps": self.steps,
            "rng": self._rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "environments": self.envs.state() if self._observation is not None else None,
            "observation": self._observation,
            "n_step": self._n_step.state_dict(),
            "episode_returns": self._episode_returns,
            "returns": list(self._recent.returns),
            "outcomes": list(self._recent.outcomes),
            "metrics": self._metrics,
            "health": self._health.state_dict(),
        }
        checkpoint.save_atomically(state, self.out / "checkpoint.pt")

    def load(self) -> None:
        """Continue from ``checkpoint.pt`` as if the run had never stopped, environments in mid-episode included.

        Raises FileNotFoundError if there is none, ParameterError if it is damaged. With another number of environments,
        or ones that do not repeat themselves, it says so and goes on with what there is.
        """
        state = checkpoint.load(self.out / "checkpoint.pt")
        self.learner.load_state_dict(state["learner"])
        self.replay.load_state_dict(state["replay"])
        self.steps = state["steps"]
        self._rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        self._recent.returns.extend(state["returns"])
        self._recent.outcomes.extend(state["outcomes"])
        self._metrics = state["metrics"]
        self._health.load_state_dict(state["health"])
        if state["environments"] is not None and len(state["environments"]) == self.envs.num_envs:
            self._observation = self.envs.restore(state["environments"])
            self._episode_returns = state["episode_returns"]
            self._n_step.load_state_dict(state["n_step"])
            if not np.array_equal(self._observation, state["observation"]):
                print("the environments do not repeat themselves: the resumed run differs", file=sys.stderr)
        elif state["environments"] is not None:
            print(
                f"{self.envs.num_envs} environments, {len(state['environments'])} when it was saved: "
                "new episodes begin",
                file=sys.stderr,
            )


COLUMNS = (
    *("return", "success", "collisions", "timeouts", "q", "sigma", "entropy", "alpha", "actor_loss"),
    *("updates_per_s", "steps"),
)


class _StopSignals:
    """Notes SIGINT and SIGTERM while it is entered, so that the loop ends at a whole step and saves."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.asked = True


def _clock(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
