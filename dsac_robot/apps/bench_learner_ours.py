"""This project's learner, and plain matrix products, timed in an interpreter of their own for ``bench learner``.

``python -m dsac_robot.apps.bench_learner_ours NAME DELAY``. Each line read asks for so many updates (for ``sgemm`` and
``bf16gemm``: products); each line written is JSON with the seconds that they took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from dsac_robot.apps.bench_learner_peer import ACTION, BATCH, HIDDEN, OBSERVATION, STORED

PRODUCT = 1024  # of two square matrices of this size


def contestant(name: str, delay: int) -> Callable[[int], None]:
    """What runs so many updates (or products)."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if name in ("sgemm", "bf16gemm"):
        dtype = torch.float32 if name == "sgemm" else torch.bfloat16
        left, right = torch.randn(2, PRODUCT, PRODUCT).to(dtype)
        out = torch.empty_like(left)

        def multiply(count: int) -> None:
            for _ in range(count):
                torch.mm(left, right, out=out)

        return multiply
    return _learner(name, delay)


def _learner(name: str, delay: int) -> Callable[[int], None]:
    import numpy as np

    from dsac_robot.learn.dsac_t import DsacTConfig
    from dsac_robot.learn.policy import make_plain_learner
    from dsac_robot.learn.replay import Replay

    engine, precision = {"plain": ("plain", "fp32"), "fp32": ("fast", "fp32"), "bf16": ("fast", "bf16")}[name]
    settings = DsacTConfig(hidden=HIDDEN, policy_delay=delay, engine=engine, precision=precision)
    learner = make_plain_learner(OBSERVATION, ACTION, settings)
    replay, rng = Replay(STORED, OBSERVATION, ACTION, 0), np.random.default_rng(0)
    normal = [rng.standard_normal((STORED, OBSERVATION), np.float32) for _ in range(2)]
    action = rng.uniform(-1.0, 1.0, (STORED, ACTION)).astype(np.float32)
    reward = rng.standard_normal(STORED, np.float32)
    replay.add(normal[0], action, reward, normal[1], np.zeros(STORED, np.float32))

    def update(count: int) -> None:
        for _ in range(count):
            learner.update(replay.sample(BATCH))

    return update


def main() -> None:
    """Serve until the input ends."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, as the peers
    work = contestant(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        work(int(line))
        told = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
