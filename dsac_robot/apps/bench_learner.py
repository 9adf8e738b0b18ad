"""``dsac-robot bench learner``: updates a second against peers and the machine's arithmetic; sigma; reward scales.

Every contestant has a process of its own on the same core, and they take turns in short bursts: what else runs on the
machine falls on all of them. Times are CPU seconds, ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

from dsac_robot.apps.bench_learner_ours import PRODUCT
from dsac_robot.apps.bench_learner_peer import ACTION, BATCH, HIDDEN, OBSERVATION
from dsac_robot.apps.figures import Figure, report, status, write_json
from dsac_robot.core.params import ParameterError

PEERS = ("stable-baselines3==2.9.2", "sbx-rl==0.28.0", "jax==0.10.2")
PEER_NAMES = ("sb3", "sb3_gelu", "sbx", "sbx_gelu")  # their own default is ReLU
DELAY = 2  # of ours; SB3 steps everything at every update and cannot be told otherwise
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
SIGMA_HIDDEN = (128, 128, 128)
NOISES = (0.1, 1.0, 10.0, 100.0)
SCALES = (1.0, 0.01, 0.1, 10.0, 100.0)


def register(commands: Any) -> None:
    """Add the benchmark."""
    parser = commands.add_parser("learner", help="updates a second against peers and arithmetic; calibration of sigma")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--peers", action="store_true", help="against SB3 and SBX as well, installed in a scratch venv")
    what.add_argument("--sigma", action="store_true", help="instead: sigma on r ~ N(5, s), 20,000 updates (minutes)")
    what.add_argument("--scales", action="store_true", help="instead: rewards times 0.01 to 100, five seeds (minutes)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--updates", type=int, default=50, help="of one turn; with --sigma or --scales in all")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="keep the peers' venv here, and use it again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure; returns the exit status."""
    for name, value in (("--rounds", args.rounds), ("--updates", args.updates)):
        if value < 1:
            raise ParameterError(f"{name} {value} must be at least 1")
    if args.sigma:
        figures, more = sigma_figures(20_000 if args.updates == 50 else args.updates)
    elif args.scales:
        figures, more = scale_figures(2_000 if args.updates == 50 else args.updates)
    else:
        figures, more = speed(args)
    for figure in figures:
        verdict = "" if figure.ok is None else "  ok" if figure.ok else f"  missed: target {figure.target:g}"
        print(f"{figure.name:34} {figure.value:9.4g} {figure.unit}{verdict}")
    write_json(args.json, report(figures, cpu=cpu(), **more))
    return status(figures, args.strict)


# --- speed -----------------------------------------------------------------------------------------------------------


@dataclass
class Contestant:
    """A process that does so many updates when asked."""

    process: subprocess.Popen[str]
    asked: IO[str]
    told: IO[str]

    def take_turn(self, count: int) -> dict[str, float]:
        """CPU and wall seconds of ``count`` updates."""
        self.asked.write(f"{count}\n")
        self.asked.flush()
        line = self.told.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self.process.args))} ended; see its last words above")  # type: ignore[arg-type]
        seconds: dict[str, float] = json.loads(line)
        return seconds


@contextlib.contextmanager
def contestants(commands: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Contestant]]:
    """Start one process for each name; all are ended on the way out."""
    made: dict[str, Contestant] = {}
    try:
        for name, command in commands.items():
            ours = {"PYTHONPATH": ":".join(filter(None, sys.path))} if command[0] == sys.executable else {}
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | ONE_THREAD | ours
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            assert process.stdin is not None and process.stdout is not None
            made[name] = Contestant(process, process.stdin, process.stdout)
        yield made
    finally:
        for one in made.values():
            one.process.kill()
            one.process.communicate()


def mflop(delay: float, back: int = 1) -> float:
    """Million operations of the matrix products of one update: the nets' passes forward and back, twins counted twice.

    ``back``: how many products, each as large as a pass of one critic, the actor's step needs on its way back through
    the critics. Ours: 1, each sample goes through the lower one alone. SBX: 2, both. SB3: 4, with the critics' own
    gradients, which are thrown away. That the peers' critics have one output instead of two is not counted.
    """
    widths = HIDDEN[0] * HIDDEN[1] + HIDDEN[1] * HIDDEN[2]
    critic_first, actor_first = (OBSERVATION + ACTION) * HIDDEN[0], OBSERVATION * HIDDEN[0]
    critic = critic_first + widths + HIDDEN[2] * 2
    actor = actor_first + widths + HIDDEN[2] * 2 * ACTION
    targets = actor + 2 * critic
    critics = 2 * (3 * critic - critic_first)
    actors = 3 * actor - actor_first + (2 + back) * critic
    return 2.0 * BATCH * (targets + critics + actors / delay) / 1e6


MFLOP = {"ours": mflop(DELAY), "sb3": mflop(1, back=4), "sbx": mflop(DELAY, back=2)}


def speed(args: argparse.Namespace) -> tuple[list[Figure], dict[str, Any]]:
    """Updates a second of ours, of the peers, and what the machine's matrix products allow."""
    ours = [sys.executable, "-m", "dsac_robot.apps.bench_learner_ours"]
    names = {"fp32": DELAY, "bf16": DELAY, "plain": DELAY, "fp32_every": 1}
    commands = {name: [*ours, name.removesuffix("_every"), str(delay)] for name, delay in names.items()}
    commands |= {name: [*ours, name, "0"] for name in ("sgemm", "bf16gemm")}
    more: dict[str, Any] = {"batch": BATCH, "hidden": HIDDEN, "observation": OBSERVATION, "action": ACTION}
    with contextlib.ExitStack() as stack:
        if args.peers:
            folder = args.scratch or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers_")))
            python = install(folder)
            script = str(Path(__file__).with_name("bench_learner_peer.py"))
            commands |= {name: [str(python), script, name, str(DELAY)] for name in PEER_NAMES}
            more["peers"] = freeze(python)
        running = stack.enter_context(contestants(commands))
        counts = {name: 4 if name.endswith("gemm") else args.updates for name in running}
        for name, one in running.items():
            one.take_turn(counts[name])  # compiles, allocates, warms caches
        rounds = []
        for number in range(args.rounds):
            rounds.append({name: one.take_turn(counts[name]) for name, one in running.items()})
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    rates = [{name: counts[name] / seconds["cpu_s"] for name, seconds in turn.items()} for turn in rounds]
    more |= {"rounds": rounds, "counts": counts, "mflop": MFLOP}
    return speed_figures(rates, has_amx()), more


def speed_figures(rates: Sequence[Mapping[str, float]], amx: bool) -> list[Figure]:
    """The figures from updates (products for the gemms) per CPU second, a mapping for each round."""

    def over(above: str, below: str, factor: float = 1.0) -> float:
        return median(turn[above] / turn[below] * factor for turn in rates)

    names = [name for name in rates[0] if not name.endswith("gemm")]
    figures = [Figure(f"{name}_updates_per_s", median(turn[name] for turn in rates), "1/s") for name in names]
    gflop = 2.0 * PRODUCT**3 / 1e9
    for name in ("sgemm", "bf16gemm"):
        figures.append(Figure(f"{name}_gflop_per_s", median(turn[name] * gflop for turn in rates), "GFLOP/s"))
    limit = MFLOP["ours"] / 1e3 / gflop
    figures.append(Figure("fp32_of_sgemm_limit", over("fp32", "sgemm", limit), "", 0.6))
    figures.append(Figure("fp32_over_plain", over("fp32", "plain")))
    figures.append(Figure("bf16_over_fp32", over("bf16", "fp32")))
    if "sb3" in rates[0]:
        figures += [
            Figure("fp32_over_sb3", over("fp32", "sb3"), "", 2.0),
            Figure("fp32_over_sb3_same_schedule", over("fp32_every", "sb3")),
            Figure("fp32_over_sb3_same_activation", over("fp32", "sb3_gelu")),
            Figure("fp32_over_sb3_per_flop", over("fp32", "sb3", MFLOP["ours"] / MFLOP["sb3"])),
            Figure("fp32_over_sbx", over("fp32", "sbx"), "", 1.3),
            Figure("fp32_over_sbx_same_activation", over("fp32", "sbx_gelu")),
            Figure("fp32_over_sbx_per_flop", over("fp32", "sbx", MFLOP["ours"] / MFLOP["sbx"])),
            Figure("sbx_of_sgemm_limit", over("sbx", "sgemm", MFLOP["sbx"] / 1e3 / gflop)),
            Figure("bf16_over_sbx", over("bf16", "sbx"), "", 2.0 if amx else None),
        ]
    return figures


def install(folder: Path) -> Path:
    """The python of a venv in ``folder`` with the peers, made if it is not there. ParameterError if pip fails."""
    import torch

    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(PEERS)} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pins = [*PEERS, f"torch=={torch.__version__.partition('+')[0]}"]
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", *pins], capture_output=True, text=True)
        if done.returncode:
            raise ParameterError(f"--peers: pip cannot install {' '.join(pins)}: {done.stderr.strip()[-500:]}")
    return python


def freeze(python: Path) -> list[str]:
    """What the peers' venv holds of what matters."""
    listed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    wanted = ("stable_baselines3", "sbx", "jax", "flax", "torch", "numpy", "gymnasium")
    return [line for line in listed.split() if line.lower().replace("-", "_").startswith(wanted)]


def cpu() -> str:
    """The processor's name, with what it has for bf16."""
    lines = _cpuinfo()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    has = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags]
    return f"{model} ({', '.join(has)})"


def has_amx() -> bool:
    """Whether the CPU multiplies bf16 tiles (AMX)."""
    return any("amx_bf16" in line.split() for line in _cpuinfo())


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


# --- calibration -----------------------------------------------------------------------------------------------------


def sigma_figures(updates: int) -> tuple[list[Figure], dict[str, Any]]:
    """Sigma over s on r ~ N(5, s), over the last quarter; the paper's learning rates, networks half as wide."""
    import torch

    from dsac_robot.learn.calibration import one_step_sigma

    torch.set_num_threads(1)
    figures = []
    for noise in NOISES:
        found = one_step_sigma(noise, updates, updates // 4, hidden=SIGMA_HIDDEN)
        ratio = found.sigma / noise
        figures.append(Figure(f"sigma_over_s_{noise:g}", ratio, reference=0.685))
        figures.append(Figure(f"sigma_error_s_{noise:g}", abs(ratio - 1.0), "", 0.02, at_least=False))
        print(f"s = {noise:g}: sigma {found.sigma:.4g}, mean {found.q:.4g}", file=sys.stderr)
    return figures, {"updates": updates, "averaged_over": updates // 4, "hidden": SIGMA_HIDDEN}


def scale_figures(updates: int) -> tuple[list[Figure], dict[str, Any]]:
    """Interquartile mean over five seeds of the score on a small task, for each scale of the rewards, over scale 1."""
    import torch

    from dsac_robot.learn.calibration import reach_score

    torch.set_num_threads(1)
    scores: dict[str, dict[str, list[float]]] = {"on": {}, "off": {}}
    for adjusted, rows, scales in ((True, scores["on"], SCALES), (False, scores["off"], SCALES[-1:])):
        for scale in scales:
            rows[f"{scale:g}"] = [reach_score(scale, seed, updates, variance_adjusted=adjusted) for seed in range(5)]
            print(f"refinement 3 {adjusted}, scale {scale:g}: {rows[f'{scale:g}']}", file=sys.stderr)
    base = interquartile_mean(scores["on"]["1"])
    figures = [Figure("score_at_scale_1", base)]
    for scale in SCALES[1:]:
        figures.append(
            Figure(f"score_ratio_scale_{scale:g}", interquartile_mean(scores["on"][f"{scale:g}"]) / base, "", 0.9)
        )
    for name, values in scores["off"].items():
        figures.append(Figure(f"score_ratio_scale_{name}_without_refinement_3", interquartile_mean(values) / base))
    return figures, {"updates": updates, "seeds": 5, "scores": scores}


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half; of five values the outer two count nothing and the next a quarter less (as scipy's
    trim_mean does not: fractions are kept)."""
    ordered = sorted(values)
    cut = len(ordered) / 4.0
    weights = [min(max(min(k + 1, len(ordered) - cut) - max(k, cut), 0.0), 1.0) for k in range(len(ordered))]
    return sum(w * v for w, v in zip(weights, ordered, strict=True)) / sum(weights)
