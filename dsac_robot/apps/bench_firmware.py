"""``dsac-robot bench firmware``: what the images cost, and how hard the link's code has been tried."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsac_robot.apps.figures import Figure, report, status, write_json

BAD_INPUT = 2
FLASH_BYTES_MAX, RAM_BYTES_MAX, STACK_FRAME_BYTES_MAX = 24_000, 8_000, 400
TICK_INSTRUCTIONS_MAX, FRAME_INSTRUCTIONS_MAX = 25_000, 15_000  # of 840,000 cycles that a control period has at 168 MHz
FUZZ_INPUT_BYTES_MAX = 600
MUTANTS = "firmware_mutants.json"


def register(subparsers: Any) -> None:
    """Add the benchmark."""
    parser = subparsers.add_parser("firmware", help="size, stack and instructions of the images; fuzzing; mutants")
    parser.add_argument("--robot", default="jackal", help="robot of config/robots that the firmware is built for")
    parser.add_argument("--fuzz-seconds", type=int, default=60, help="of libFuzzer; 0: none (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of libFuzzer")
    parser.add_argument("--save-corpus", action="store_true", help="write what reaches new code to tests/firmware")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a target is missed")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from dsac_robot.apps.firmware_gdb import DebuggerError
    from dsac_robot.apps.firmware_qemu import FirmwareError, firmware_folder

    try:
        folder = firmware_folder()
        if args.fuzz_seconds > 0:
            _check_fuzzer()
        figures = image_figures(folder, args.robot)
        figures += instruction_figures(args.robot)
        if args.fuzz_seconds > 0:
            figures += fuzz_figures(folder, args.robot, args.fuzz_seconds, args.seed, args.save_corpus)
        figures += mutant_figures(folder.parent / "benchmarks" / MUTANTS)
    except (FirmwareError, DebuggerError, OSError) as error:
        print(f"dsac-robot: {error}", file=sys.stderr)
        return BAD_INPUT
    for figure in figures:
        verdict = {True: "ok", False: "MISSED", None: ""}[figure.ok]
        print(f"{figure.name:34} {figure.value:12.6g} {figure.unit:12} {verdict}")
    write_json(args.json, report(figures, robot=args.robot, fuzz_seconds=args.fuzz_seconds, seed=args.seed))
    return status(figures, args.strict)


def _make(folder: Path, *targets: str, robot: str) -> None:
    from dsac_robot.apps.firmware_qemu import FirmwareError

    command = ["make", "-s", "-C", str(folder), *targets, f"ROBOT={robot}"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise FirmwareError(f"{' '.join(command)} failed:\n{made.stderr.strip()[-2000:]}")


def _check_fuzzer() -> None:
    """Raise FirmwareError, naming the packages, where clang or its fuzzer's run-time library is missing."""
    from dsac_robot.apps.firmware_qemu import FirmwareError

    if shutil.which("clang") is not None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n ? 0 : 0; }\n")
            command = ["clang", "-fsanitize=fuzzer,address,undefined", str(source), "-o", str(Path(folder, "probe"))]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return
    raise FirmwareError(
        "clang with libFuzzer is not installed: sudo apt-get install clang libclang-rt-14-dev (the number is that of "
        "`clang --version`), or leave the fuzzing out with --fuzz-seconds 0"
    )


def image_figures(folder: Path, robot: str) -> list[Figure]:
    """Flash and RAM of the hardware image, and the largest stack frame of one function."""
    from dsac_robot.apps.firmware_qemu import firmware_image

    firmware_image(robot)  # names the tools that are missing
    _make(folder, "qemu", "stm32f4", robot=robot)
    build = folder / "build" / robot
    size = subprocess.run(
        ["arm-none-eabi-size", str(build / "stm32f4.elf")], capture_output=True, text=True, check=True
    )
    text, data, bss = map(int, size.stdout.splitlines()[1].split()[:3])
    rows = [line.split("\t") for path in sorted(build.rglob("*.su")) for line in path.read_text("utf-8").splitlines()]
    return [
        Figure("flash", text + data, "bytes", FLASH_BYTES_MAX, at_least=False),
        Figure("ram_static", data + bss, "bytes", RAM_BYTES_MAX, at_least=False),
        Figure("stack_frame_max", max(int(row[1]) for row in rows), "bytes", STACK_FRAME_BYTES_MAX, at_least=False),
    ]


def instruction_figures(robot: str) -> list[Figure]:
    """Executed instructions of control periods and received frames, and the most of each against its budget."""
    from dsac_robot.apps.firmware_instructions import count_instructions
    from dsac_robot.apps.firmware_qemu import firmware_image

    counted = count_instructions(firmware_image(robot))
    unit = "instructions"
    return [
        *(Figure(name, value, unit) for name, value in asdict(counted).items()),
        Figure("tick_max", counted.tick_max, unit, TICK_INSTRUCTIONS_MAX, at_least=False),
        Figure("frame_max", counted.frame_max, unit, FRAME_INSTRUCTIONS_MAX, at_least=False),
    ]


def fuzz_figures(folder: Path, robot: str, seconds: int, seed: int, save: bool) -> list[Figure]:
    """Run libFuzzer from the saved corpus. A finding is left in the firmware's build folder, and named."""
    _make(folder, "fuzz", robot=robot)
    tests, build = folder.parent / "tests" / "firmware", folder / "build" / robot
    with tempfile.TemporaryDirectory() as temporary:
        found, saved = Path(temporary, "found"), Path(temporary, "saved")
        found.mkdir()
        saved.mkdir()
        for number, line in enumerate((tests / "corpus.txt").read_text("utf-8").split()):
            (saved / f"{number}").write_bytes(bytes.fromhex(line))
        command = [str(build / "fuzz_link"), f"-max_len={FUZZ_INPUT_BYTES_MAX}"]
        options = [f"-max_total_time={seconds}", f"-seed={seed}", "-print_final_stats=1", f"-artifact_prefix={build}/"]
        sources = [str(saved), str(tests / "corpus")]
        ran = subprocess.run(
            [*command, *options, str(found), *sources], capture_output=True, text=True, errors="replace", check=False
        )
        if save:
            merged = Path(temporary, "merged")
            merged.mkdir()
            subprocess.run([*command, "-merge=1", str(merged), str(found), *sources], capture_output=True, check=True)
            inputs = sorted((path.read_bytes() for path in merged.iterdir()), key=lambda data: (len(data), data))
            (tests / "corpus.txt").write_text("".join(f"{data.hex()}\n" for data in inputs if data), "utf-8")
    counted = re.search(r"number_of_executed_units: (\d+)", ran.stderr)
    covered = re.findall(r"cov: (\d+)", ran.stderr)
    if ran.returncode != 0:
        print(ran.stderr[-3000:], file=sys.stderr)
    return [
        Figure("fuzz_executions", int(counted[1]) if counted else 0, "inputs"),
        Figure("fuzz_edges_covered", int(covered[-1]) if covered else 0, "edges"),
        Figure("fuzz_findings", float(ran.returncode != 0), "", 0, at_least=False),
    ]


def mutant_figures(path: Path) -> list[Figure]:
    """What benchmarks/firmware_mutants.py has written last; nothing where it has not been run."""
    if not path.is_file():
        print(f"{path} is not there: python benchmarks/firmware_mutants.py --json {path}", file=sys.stderr)
        return []
    rows = json.loads(path.read_text("utf-8"))["figures"]
    return [Figure(row["name"], row["value"], row["unit"], row["target"]) for row in rows]
