"""Mutants of the firmware's state machine and frame parser: how many of them the fast tests of the C that ships kill.

    python benchmarks/firmware_mutants.py --seconds 600 --json benchmarks/firmware_mutants.json

A mutant is ``firmware/core/machine.c`` or ``wire.c`` with one small change: a comparison shifted or turned, an operator
swapped, a condition negated, a number moved, a return value replaced, or a statement left out. It is compiled into the
host's shared library (with the undefined-behaviour sanitizer, and warnings allowed), and tests/firmware's fast tests
run on that until the first fails. What has been tried is kept in ``--out`` (by digest of sources and tests), so that a
run can be stopped and gone on with. A mutant whose optimised object file is the original's is the same program: it is
counted as such and not tried. One that does not compile is no mutant. One that crashes or hangs counts as killed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRMWARE = ROOT / "firmware"
FILES = ("machine", "wire")
TESTS = ("wire", "machine", "machine_rules", "base")
TARGET = 0.9
MUTANT_S_MAX = 60.0
SWAPS = {
    "==": ("!=",), "!=": ("==",), "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
    "&&": ("||",), "||": ("&&",), "+": ("-",), "-": ("+",), "*": ("/",), "%": ("*",), "&": ("|",), "|": ("&",),
    "^": ("|",), "<<": (">>",), ">>": ("<<",), "+=": ("-=",), "|=": ("=",), "^=": ("=",), "!": ("",), "~": ("",),
    "++": ("--",), "true": ("false",), "false": ("true",), "?": ("",),
}  # fmt: skip
TOKEN = re.compile(
    r"(?P<number>\b(?:0x[0-9A-Fa-f]+|\d+)u?\b)|(?P<word>[A-Za-z_]\w*)|"
    r"(?P<op>->|<<|>>|<=|>=|==|!=|&&|\|\||\+=|-=|\|=|\^=|\+\+|--|[-+*%&|^<>!~?=;:,.(){}\[\]/])"
)
BLANK = re.compile(r'/\*.*?\*/|^\s*#[^\n]*(?:\\\n[^\n]*)*|"[^"\n]*"', re.S | re.M)
STATEMENT = re.compile(r"^ +(?P<text>(?!return\b|else\b|static\b|const\b)[^\n{};]*;)$", re.M)
DECLARATION = re.compile(r"^(?:\w+_t|int|bool|size_t|unsigned)\b(?! *\()[ *\w]+(?:\[\w+\])? *(?:=|;)")


@dataclass(frozen=True)
class Mutant:
    """Characters ``begin`` to ``end`` of a file of firmware/core, replaced by ``new``."""

    module: str
    line: int
    begin: int
    end: int
    old: str
    new: str

    def applied(self, source: str) -> str:
        """The source with the change in it."""
        return source[: self.begin] + self.new + source[self.end :]


def blanked(source: str) -> str:
    """The source with comments, preprocessor lines and strings made spaces, of the same length."""
    return BLANK.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), source)


def changes(source: str) -> Iterator[tuple[int, int, str]]:
    """(begin, end, new text) of each change within a function."""
    plain, depth, before = blanked(source), 0, ""
    body = [0] * len(plain)
    for at, char in enumerate(plain):
        depth += (char == "{") - (char == "}")
        body[at] = depth
    for match in TOKEN.finditer(plain):
        text, begin, end = match[0], match.start(), match.end()
        unary = text in "-*&" and (before == "" or before in "(,=;{}[<>+-*/&|!?:" or before in ("return", "&&", "||"))
        if body[begin] and match["number"]:
            yield begin, end, f"({text} + 1)" if text.endswith("u") else str(int(text, 0) + 1)
        elif body[begin] and text in SWAPS and not unary and not _pointer(plain, begin, end):
            for new in SWAPS[text]:
                yield from _ternary(plain, begin) if text == "?" else [(begin, end, new)]
        before = text
    for match in STATEMENT.finditer(plain):
        if body[match.start("text")] and not DECLARATION.match(match["text"]):
            yield match.start("text"), match.end("text"), ";"
    for match in re.finditer(r"\breturn ([^;{}]+);", plain):
        if body[match.start()] and match[1] not in ("0", "true", "false", "result"):
            yield match.start(1), match.end(1), "0"
    for match in re.finditer(r"\bif \(([^{}]+)\) \{", plain):
        yield match.start(1), match.end(1), f"!({source[match.start(1) : match.end(1)]})"


def _pointer(plain: str, begin: int, end: int) -> bool:
    """Whether a star or ampersand belongs to a type or an address: no space after it."""
    return plain[begin:end] in ("*", "&") and plain[end] != " "


def _ternary(plain: str, begin: int) -> Iterator[tuple[int, int, str]]:
    """The two values of a conditional expression on one line, swapped."""
    match = re.compile(r"\? ([^?:;]+) : ([^?:;,]+?)(?=[;,]|\);)").match(plain, begin)
    if match:
        yield begin, match.end(), f"? {match[2]} : {match[1]}"


def source_of(module: str) -> str:
    """A file of firmware/core."""
    return (FIRMWARE / "core" / f"{module}.c").read_text(encoding="utf-8")


def mutants() -> list[Mutant]:
    """All mutants, each once."""
    made = {}
    for module in FILES:
        source = source_of(module)
        for begin, end, new in changes(source):
            old = source[begin:end]
            made[module, begin, end, new] = Mutant(module, source.count("\n", 0, begin) + 1, begin, end, old, new)
    return list(made.values())


class Workshop:
    """Compiles mutants, with all other objects made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._includes = [f"-I{FIRMWARE / name}" for name in ("core", "hal", "generated", "ports/cortexm")]
        self._others = {}
        for path in [*sorted((FIRMWARE / "core").glob("*.c")), FIRMWARE / "ports" / "host" / "host.c"]:
            if not self.compile(path, folder / f"{path.stem}.o", SANITIZED):
                raise SystemExit(f"{path} does not compile")
            self._others[path.stem] = folder / f"{path.stem}.o"
        self._plain = {module: self._optimised(source_of(module)) for module in FILES}

    def compile(self, source: Path, made: Path, flags: list[str]) -> bool:
        """Whether it compiled."""
        common = ["-std=c11", "-w", "-fPIC", "-ffp-contract=off", "-DROBOT_JACKAL", "-DGIT_HASH=0u", "-DGIT_DIRTY=0u"]
        command = ["cc", *common, *flags, *self._includes, "-c", "-o", str(made), str(source)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _optimised(self, source: str) -> bytes | None:
        path = self._folder / "mutant.c"
        path.write_text(source, encoding="utf-8")
        made = path.with_suffix(".o2")
        return made.read_bytes() if self.compile(path, made, ["-O2", "-g0"]) else None

    def build(self, mutant: Mutant | None) -> Path | str:
        """The library of a mutant (None: of the code as it is), or why there is none."""
        objects = dict(self._others)
        if mutant is not None:
            made = self._optimised(mutant.applied(source_of(mutant.module)))
            if made is None:
                return "does not compile"
            if made == self._plain[mutant.module]:
                return "same program"
            objects[mutant.module] = self._folder / "mutant.o"
            self.compile(self._folder / "mutant.c", objects[mutant.module], SANITIZED)
        library = self._folder / f"{mutant.module}_{mutant.begin}.so" if mutant else self._folder / "base.so"
        subprocess.run(["cc", "-shared", *SANITIZED, "-o", library, *objects.values()], check=True)
        return library


SANITIZED = ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"]


def tests_pass(library: Path) -> bool:
    """Run the fast tests in a fork, on this library."""
    child = os.fork()
    if child == 0:
        import pytest

        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.environ["FIRMWARE_LIBRARY"] = str(library)
        files = [str(ROOT / "tests" / "firmware" / f"test_{name}.py") for name in TESTS]
        os._exit(int(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *files])) != 0)
    end = time.monotonic() + MUTANT_S_MAX
    while time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            return code == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def digest() -> str:
    """Of all that decides whether a mutant lives."""
    folder = ROOT / "tests" / "firmware"
    paths = [folder / "rig.py", folder / "model.py", *(folder / f"test_{name}.py" for name in TESTS)]
    content = "".join(map(source_of, FILES)) + "".join(path.read_text(encoding="utf-8") for path in paths)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def main() -> int:
    """Try mutants until all are known or the time is up; report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="mutants to try at most (default: all)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="stop after so long (default: 3600)")
    parser.add_argument("--seed", type=int, default=0, help="their order (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "firmware_mutants.jsonl", help="what has been tried"
    )
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument(
        "--keep-killed", action="store_true", help="tests were only added: what was killed stays killed"
    )
    parser.add_argument("--strict", action="store_true", help="exit status 1 if the target is missed")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    # Once, before all forks: what the tests import, and that the first failure is enough
    import hypothesis

    import tests.firmware.model
    import tests.firmware.rig  # noqa: F401
    from dsac_robot.apps.figures import Figure, report, status, write_json

    hypothesis.settings.register_profile("first_failure", phases=[hypothesis.Phase.generate])
    hypothesis.settings.load_profile("first_failure")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

    now, known = digest(), {}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.out.exists():
        for row in map(json.loads, args.out.read_text(encoding="utf-8").splitlines()):
            if row["digest"] == now or (args.keep_killed and row["fate"] != "survived"):
                known[tuple(row[key] for key in ("module", "begin", "end", "new"))] = row
    workshop = Workshop(args.out.parent / "firmware_mutants")
    library = workshop.build(None)
    if not isinstance(library, Path) or not tests_pass(library):
        print("the tests fail without any mutant: mend them first", file=sys.stderr)
        return 2
    end, rows, everything = time.monotonic() + args.seconds, [], mutants()
    for mutant in random.Random(args.seed).sample(everything, min(args.count, len(everything))):
        row = known.get((mutant.module, mutant.begin, mutant.end, mutant.new))
        if row is None and time.monotonic() < end:
            made = workshop.build(mutant)
            fate = made if isinstance(made, str) else "survived" if tests_pass(made) else "killed"
            if isinstance(made, Path):
                made.unlink()
            row = {**asdict(mutant), "digest": now, "fate": fate}
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if fate == "survived":
                print(f"SURVIVED {mutant.module}.c:{mutant.line}  {mutant.old}  ->  {mutant.new}", flush=True)
        if row is not None:
            rows.append(row)
    figures = []
    for module in FILES:
        fates = [row["fate"] for row in rows if row["module"] == module]
        killed, survived = fates.count("killed"), fates.count("survived")
        figures += [
            Figure(f"mutants_killed_{module}", killed / max(1, killed + survived), "", TARGET),
            Figure(f"mutants_tried_{module}", killed + survived),
            Figure(f"mutants_same_program_{module}", fates.count("same program")),
        ]
    for figure in figures:
        print(f"{figure.name} {figure.value:.4g}")
    survivors = [{k: row[k] for k in ("module", "line", "old", "new")} for row in rows if row["fate"] == "survived"]
    write_json(args.json, report(figures, survivors=survivors, of=len(everything), known=len(rows)))
    return status(figures, args.strict)


if __name__ == "__main__":
    sys.exit(main())
