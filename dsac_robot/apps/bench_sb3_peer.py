"""Stable-Baselines3's SAC on one task from one seed: ``python bench_sb3_peer.py JOB.json``, run by ``bench sb3``.

It stands alone: nothing of this package is imported. The run folder is in the form of ``dsac-robot train``, so that
``dsac-robot compare`` reads both. All settings but those of the job are Stable-Baselines3's own.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from typing import Any


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a line to a CSV file."""
    fresh = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(row))
        if fresh:
            table.writeheader()
        table.writerow(row)


def evaluate(model: Any, envs: list[Any], seed: int) -> dict[str, float]:
    """Whole episodes with the mode of the policy, environment i from ``seed + i``."""
    import numpy as np

    returns, lengths = np.zeros(len(envs)), np.zeros(len(envs))
    observations = [env.reset(seed=seed + i)[0] for i, env in enumerate(envs)]
    going = list(range(len(envs)))
    while going:
        actions, _ = model.predict(np.stack([observations[i] for i in going]), deterministic=True)
        still = []
        for i, action in zip(going, actions, strict=True):
            observations[i], reward, terminated, truncated, _ = envs[i].step(action)
            returns[i] += float(reward)
            lengths[i] += 1
            if not (terminated or truncated):
                still.append(i)
        going = still
    extremes = {"return_min": float(returns.min()), "return_max": float(returns.max())}
    return {"return": float(returns.mean()), "return_std": float(returns.std()), **extremes, "length": lengths.mean()}


def main() -> None:
    """Train and evaluate as the job says; ``run.json`` is there with status finished at the end."""
    import gymnasium
    import numpy as np
    import stable_baselines3
    import torch
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out, task, environments = Path(job["out"]), job["task"], int(job["environments"])
    for name in ("eval.csv", "progress.csv"):  # an interrupted run starts anew
        (out / name).unlink(missing_ok=True)
    torch.set_num_threads(1)
    train_envs = DummyVecEnv([lambda: Monitor(gymnasium.make(task)) for _ in range(environments)])
    train_envs.seed(int(job["env_seed"]))
    model = stable_baselines3.SAC(
        "MlpPolicy",
        train_envs,
        learning_starts=int(job["warmup_steps"]),
        batch_size=int(job["batch"]),
        train_freq=1,
        gradient_steps=1,
        seed=None,
        device="cpu",
    )
    model.set_random_seed(int(job["seed"]))
    envs = [gymnasium.make(task) for _ in range(int(job["eval_episodes"]))]
    started = time.monotonic()
    total, every = int(job["updates"]), int(job["eval_updates"])
    record = job["record"]
    record["sessions"][0]["versions"]["stable_baselines3"] = stable_baselines3.__version__
    for due in range(0, total + 1, every):
        steps = int(job["warmup_steps"]) + environments * due if due else 0
        if due:
            model.learn(steps - model.num_timesteps, reset_num_timesteps=False, log_interval=None)
        where = {"updates": due, "steps": model.num_timesteps, "elapsed_s": round(time.monotonic() - started, 1)}
        append(out / "eval.csv", where | evaluate(model, envs, int(job["eval_seed"])))
        recent = float(np.mean([episode["r"] for episode in model.ep_info_buffer or [{"r": float("nan")}]]))
        rate = model._n_updates / max(time.monotonic() - started, 1e-9)
        append(out / "progress.csv", where | {"return": recent, "updates_per_s": rate, "made": model._n_updates})
    record |= {"status": "finished", "updates": total, "steps": model.num_timesteps}
    record["sessions"][0] |= {"status": "finished", "wall_s": round(time.monotonic() - started, 1), "updates": total}
    (out / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
