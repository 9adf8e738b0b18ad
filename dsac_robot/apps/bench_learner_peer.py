"""A peer's SAC, timed in its own interpreter, for ``bench learner --peers``: ``bench_learner_peer.py NAME DELAY``.

NAME is sb3 or sbx, as they come (ReLU), or sb3_gelu or sbx_gelu, with the activation that ours has.

It stands alone, for it runs in a scratch environment that has the peer and not this package. Each line read asks for so
many updates; each line written is JSON with the seconds that they took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

OBSERVATION, ACTION, BATCH, HIDDEN, STORED = 17, 6, 256, (256, 256, 256), 100_000


def make_model(name: str, delay: int) -> Any:
    """The peer's SAC with a filled replay. SB3 steps everything at each update, SBX the actor every ``delay``."""
    import gymnasium
    import numpy as np

    class Spaces(gymnasium.Env):
        """Only its spaces are used: nothing steps here."""

        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return np.zeros(OBSERVATION, np.float32), {}

        def step(self, action: Any) -> Any:
            raise NotImplementedError("this environment is never stepped")

    from stable_baselines3.common.logger import configure

    settings: dict[str, Any] = {"batch_size": BATCH, "buffer_size": STORED, "learning_rate": 1e-4, "seed": 0}
    settings["policy_kwargs"] = {"net_arch": list(HIDDEN)}
    peer, _, activation = name.partition("_")
    if peer == "sb3":
        import torch
        from stable_baselines3 import SAC

        torch.set_num_threads(1)
        if activation:
            settings["policy_kwargs"]["activation_fn"] = torch.nn.GELU
        settings["device"] = "cpu"
    else:
        import flax.linen
        from sbx import SAC

        def gelu(x: Any) -> Any:
            return flax.linen.gelu(x, approximate=False)

        settings["policy_delay"] = delay
        if activation:
            settings["policy_kwargs"]["activation_fn"] = gelu
    model = SAC("MlpPolicy", Spaces(), **settings)
    model.set_logger(configure(None, []))
    rng = np.random.default_rng(0)
    buffer = model.replay_buffer
    buffer.observations[:] = rng.standard_normal(buffer.observations.shape)
    buffer.next_observations[:] = rng.standard_normal(buffer.next_observations.shape)
    buffer.actions[:] = rng.uniform(-1.0, 1.0, buffer.actions.shape)
    buffer.rewards[:] = rng.standard_normal(buffer.rewards.shape)
    buffer.full = True
    model._current_progress_remaining = 1.0  # what learn() would have set
    return model


def main() -> None:
    """Serve until the input ends."""
    name, delay = sys.argv[1], int(sys.argv[2])
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, whatever threads there are
    model = make_model(name, delay)
    for line in sys.stdin:
        updates = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        model.train(gradient_steps=updates, batch_size=BATCH)
        if name.startswith("sbx"):
            import jax

            jax.block_until_ready(model.policy.qf_state.params)
        told = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
