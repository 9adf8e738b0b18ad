"""Gates on the C: generated headers, both sanitizers with coverage, static analysis, and budgets of size and stack."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

from dsac_robot.apps.bench_firmware import image_figures, instruction_figures
from tests.firmware.rig import FIRMWARE, ROBOT, image, make

LINES_MIN, BRANCHES_MIN = 100.0, 95.0
ROOT = FIRMWARE.parent
CORE = sorted(str(path.relative_to(FIRMWARE)) for path in (FIRMWARE / "core").glob("*.c"))
pytestmark = pytest.mark.slow


def generator() -> ModuleType:
    """generate_headers.py as a module; firmware/ is no Python package."""
    spec = importlib.util.spec_from_file_location("generate_headers", FIRMWARE / "generate_headers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources_of_stack() -> list[Path]:
    """What the compiler wrote about each function's stack."""
    make("qemu", "stm32f4")
    return sorted((FIRMWARE / "build" / ROBOT).rglob("*.su"))


def run(*command: str, cwd: Path = FIRMWARE, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_generated_headers_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert generator().main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_header_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = generator()
    monkeypatch.setattr(module, "GENERATED", tmp_path)
    assert module.main(["--check"]) == 1
    assert "robot_limits.h is stale" in capsys.readouterr().err


def test_under_the_address_sanitizer_the_same_tests_pass_and_cover_the_core() -> None:
    flags = "-O0 --coverage -fsanitize=address"  # the other sanitizer would add branches of its own
    preload = run("cc", "-print-file-name=libasan.so").strip()
    build = FIRMWARE / "build" / "coverage"
    shutil.rmtree(build, ignore_errors=True)  # it may have been built with other flags
    tests = [f"tests/firmware/test_{name}.py" for name in ("wire", "base", "machine", "machine_rules")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    env = {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": str(ROOT), "FIRMWARE_TAG": "coverage"}
    run(*command, cwd=ROOT, FIRMWARE_HOST_FLAGS=flags, **env)
    data = sorted(str(path) for path in build.glob("*.gcda") if not path.name.endswith("host.gcda"))
    report = run("gcov", "-b", "-n", *data)
    files = re.findall(
        r"File 'core/(\w+\.c)'\nLines executed:([\d.]+)% of (\d+)\nBranches executed:[^\n]*\n"
        r"Taken at least once:([\d.]+)% of (\d+)",
        report,
    )
    assert {name for name, *_ in files} == {Path(path).name for path in CORE}
    taken = sum(float(percent) * int(count) for *_, percent, count in files)
    assert {name: float(lines) for name, lines, *_ in files if float(lines) < LINES_MIN} == {}
    assert taken / sum(int(count) for *_, count in files) >= BRANCHES_MIN


def test_the_compilers_analyzer_finds_nothing() -> None:
    flags = ["-std=c11", "-O2", "-fanalyzer", "-Wall", "-Wextra", "-Werror", f"-DROBOT_{ROBOT.upper()}"]
    for source in CORE:
        run("cc", *flags, "-Icore", "-Ihal", "-Igenerated", "-c", "-o", "/dev/null", source)


def test_misra_findings_are_no_more_than_they_were() -> None:
    out = run(
        "cppcheck",
        "--addon=misra",
        "--enable=warning,performance,portability",
        "--std=c11",
        "--inline-suppr",
        "-q",
        "--template={id}",
        f"-DROBOT_{ROBOT.upper()}",
        "-Icore",
        "-Ihal",
        "-Igenerated",
        *CORE,
    )
    counts: dict[str, int] = {}
    for line in out.split():
        counts[line] = counts.get(line, 0) + 1
    recorded = dict(line.split() for line in (FIRMWARE / "misra_ratchet.txt").read_text().splitlines())
    assert {k: v for k, v in counts.items() if v > int(recorded.get(k, 0))} == {}


def test_images_fit_their_budgets_of_flash_ram_and_stack() -> None:
    kinds = [line.split("\t")[2] for path in sources_of_stack() for line in path.read_text().splitlines()]
    figures = image_figures(FIRMWARE, ROBOT)
    assert set(kinds) <= {"static"}
    assert [figure for figure in figures if not figure.ok] == []


def test_no_control_period_and_no_frame_takes_more_instructions_than_its_budget() -> None:
    figures = {figure.name: figure for figure in instruction_figures(ROBOT)}
    assert (figures["tick_max"].ok, figures["frame_max"].ok) == (True, True), figures
    assert figures["tick_plain"].value > 300  # it has counted something
    assert figures["tick_plain"].value < figures["tick_odometry"].value < figures["tick_status"].value


def test_the_image_uses_no_heap() -> None:
    symbols = run("arm-none-eabi-nm", str(image("stm32f4.elf")))
    assert not re.search(r"\b(malloc|_malloc_r|free|calloc|realloc|sbrk|_sbrk)\b", symbols)


def test_no_function_of_the_image_can_call_itself_through_direct_calls() -> None:
    calls: dict[str, set[str]] = {}
    name = ""
    for line in run("arm-none-eabi-objdump", "-d", str(image("stm32f4.elf"))).splitlines():
        if begin := re.match(r"[0-9a-f]+ <([\w.]+)>:", line):
            name = begin[1]
            calls[name] = set()
        elif call := re.search(r"\tbl?x?(?:\.w)?\t[0-9a-f]+ <([\w.]+)>", line):  # a jump to a function is a tail call
            calls[name].add(call[1])
    assert len(calls) > 50 and sum(map(len, calls.values())) > 50
    list(TopologicalSorter(calls).static_order())  # raises CycleError, naming the cycle
