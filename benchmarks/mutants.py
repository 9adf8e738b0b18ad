"""Mutants of the guard's decision and of the wire protocol: how many of them a fast part of the tests kills.

    python benchmarks/mutants.py --out build/mutants.jsonl --json benchmarks/mutants.json

A mutant is one source file with one small change: a comparison shifted or turned, an operator or a min / max swapped, a
condition negated, a number moved, a choice turned. Mutants are drawn by seed, as many of each group; each is tried in a
process of its own, forked where all that takes long is imported already: the tests of its group run until the first one
fails. One that hangs, crashes or asks for too much memory counts as killed.

What has been tried is kept in ``--out``, so that a run can be stopped and gone on with: a killed mutant for as long as
its module and the test that killed it stay as they are, one that survived as long as its module and all the tests do.

Of compiled loops those that a change reaches are compiled anew, and none is taken from Numba's cache that should not be
(see ``_reached``).
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import importlib.abc
import importlib.machinery
import itertools
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Group:
    """Modules of core, and the tests of tests/core that judge their mutants, the fastest first."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    slow: tuple[str, ...] = ()  # words in the names of tests left out


GROUPS = {
    "guard": Group(
        (
            "action",
            "guard",
            "guard_check",
            "guard_docking",
            "guard_inputs",
            "guard_motion",
            "guard_odom",
            "guard_pace",
            "guard_sensed",
        ),
        (
            "test_action",
            "test_guard_check",
            "test_guard_sensed",
            "test_guard_faults",
            "test_guard_pace",
            "test_guard_odom",
            "test_guard_laws",
            "test_guard_docking",
            "test_guard_fallback",
        ),
        ("among_random_posts", "each_further_try", "along_the_curve"),
    ),
    "guard_loops": Group(("guard_loops",), ("test_guard_loops", "test_guard_geometry", "test_guard_memory")),
    "guard_memory": Group(
        ("guard_fallback", "guard_geometry", "guard_memory"),
        ("test_guard_geometry", "test_guard_view", "test_guard_fallback_rules", "test_guard_memory"),
    ),
    "wire": Group(("protocol", "protocol_fields", "protocol_messages"), ("test_protocol_spec", "test_protocol")),
}
LOOPS = "guard_loops"  # compiled
PLUGIN = "_hypothesis_pytestplugin"
TARGET = 0.9
SLOWER = 5.0  # a mutant under which the tests take so many times as long hangs
COMPILE_S = 60.0  # and what Numba may take on top
MEMORY_BYTES = 6 << 30  # address space of one try: a mutant may ask for any array
COMPARE = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
BINARY = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitXor: ast.BitOr,
}  # fmt: skip
UNCACHED = ast.parse('__import__("numba").njit(error_model="numpy")', mode="eval").body
SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum"}


@dataclass(frozen=True)
class Mutant:
    """One change: of which node of which file (in the order of ``ast.walk``), and which of the changes of that node."""

    group: str
    module: str
    node: int
    change: int
    line: int
    text: str


def changes(node: ast.AST) -> list[tuple[str, ast.AST]]:
    """What may be put in a node's place, with a word on each."""
    made: list[tuple[str, ast.AST]] = []
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in COMPARE.get(type(op), ()):
                new = copy.deepcopy(node)
                new.ops[i] = other()
                made.append((f"{ast.unparse(node)}  ->  {ast.unparse(new)}", new))
    elif isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        new_op = copy.deepcopy(node)
        new_op.op = BINARY[type(node.op)]()
        made.append((f"{ast.unparse(node)}  ->  {ast.unparse(new_op)}", new_op))
    elif isinstance(node, ast.BoolOp):
        new_bool = copy.deepcopy(node)
        new_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        made.append((f"{ast.unparse(node)}  ->  {ast.unparse(new_bool)}", new_bool))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        made.append((f"{ast.unparse(node)}  ->  {ast.unparse(node.operand)}", node.operand))
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        new_value = ast.Constant(node.value + 1)
        made.append((f"{node.value}  ->  {new_value.value}", new_value))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        made.append((f"{node.value}  ->  {not node.value}", ast.Constant(not node.value)))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if name in SWAPPED:
            new_call = copy.deepcopy(node)
            if isinstance(new_call.func, ast.Name):
                new_call.func.id = SWAPPED[name]
            elif isinstance(new_call.func, ast.Attribute):
                new_call.func.attr = SWAPPED[name]
            made.append((f"{ast.unparse(node)}  ->  {ast.unparse(new_call)}", new_call))
    elif isinstance(node, ast.IfExp):
        turned = ast.IfExp(node.test, node.orelse, node.body)
        made.append((f"{ast.unparse(node)}  ->  {ast.unparse(turned)}", turned))
    return made


def sites(tree: ast.Module) -> Iterator[tuple[int, ast.AST]]:
    """Nodes inside functions, numbered; not annotations, defaults, decorators or texts of errors."""
    inside: set[int] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for statement in function.body:
                inside |= {id(node) for node in ast.walk(statement)}
    left_out: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef):
            parts = [node.args, node.returns, *node.decorator_list]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.JoinedStr):
            parts = [node]
        left_out |= {id(inner) for part in parts if part is not None for inner in ast.walk(part)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in inside and id(node) not in left_out:
            yield number, node


def source_of(module: str) -> str:
    """The source of a module of core."""
    return (ROOT / "dsac_robot" / "core" / f"{module}.py").read_text(encoding="utf-8")


def mutants_of(group: str) -> list[Mutant]:
    """All mutants of a group."""
    made = []
    for module in GROUPS[group].modules:
        for number, node in sites(ast.parse(source_of(module))):
            for i, (text, _) in enumerate(changes(node)):
                made.append(Mutant(group, module, number, i, getattr(node, "lineno", 0), text))
    return made


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.copy_location(self._new, node) if node is self._old else super().generic_visit(node)


def mutated(mutant: Mutant) -> ast.Module:
    """The module's tree with the change in it, and nothing of it taken from Numba's cache that the change reaches."""
    tree = ast.parse(source_of(mutant.module))
    node = list(ast.walk(tree))[mutant.node]
    reached = _reached(tree, node)
    tree = _Replace(node, changes(node)[mutant.change][1]).visit(tree)
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name in reached:
            function.decorator_list = [
                UNCACHED if isinstance(word, ast.Name) and word.id == "compiled" else word
                for word in function.decorator_list
            ]
    return ast.fix_missing_locations(tree)


def _reached(tree: ast.Module, node: ast.AST) -> set[str]:
    """Names of the function with the node in it and of all functions that call it, directly or not.

    Numba knows what it compiled before by the file's stamp and the function's code without its constants, and does not
    look at what the function calls: from its cache a mutant would be the code as it is.
    """
    functions = {
        function.name: list(ast.walk(function)) for function in tree.body if isinstance(function, ast.FunctionDef)
    }
    reached = {name for name, inner in functions.items() if any(part is node for part in inner)}
    while True:
        more = {
            name
            for name, inner in functions.items()
            if any(isinstance(part, ast.Name) and part.id in reached for part in inner)
        }
        if more <= reached:
            return reached
        reached |= more


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the mutated module in the place of the real one."""

    def __init__(self, name: str, tree: ast.Module, path: Path) -> None:
        self._name, self._tree, self._path = name, tree, path

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(self._path))

    def exec_module(self, module: object) -> None:
        exec(compile(self._tree, str(self._path), "exec"), vars(module))  # the point of the whole


class _Watch:
    """Tells through a pipe which test failed."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def pytest_runtest_logreport(self, report: object) -> None:
        """Of a phase of a test."""
        if getattr(report, "failed", False):
            os.write(self._pipe, (str(getattr(report, "nodeid", "")) + "\n").encode())

    pytest_collectreport = pytest_runtest_logreport  # a module that cannot be imported


def forget(kept: set[str]) -> None:
    """Forget the imports of the package, but these."""
    for name in set(sys.modules) - kept:
        if name.startswith("dsac_robot."):
            del sys.modules[name]


def prepare() -> None:
    """Import once, before all forks, what takes long: the tests' tools, and the loops, with what Numba has cached."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in ("pytest", PLUGIN, "hypothesis.strategies", f"dsac_robot.core.{LOOPS}"):
        importlib.import_module(name)
    kept = set(sys.modules)
    from dsac_robot.core.guard_check import Checker, compile_loops
    from dsac_robot.core.guard_types import GuardParams
    from dsac_robot.core.robot import load_robot

    compile_loops(Checker.of(GuardParams(), load_robot("jackal")))
    forget(kept)


def files_of(group: str) -> list[Path]:
    """The test files of a group."""
    return [ROOT / "tests" / "core" / f"{name}.py" for name in GROUPS[group].tests]


def run_tests(group: str, mutant: Mutant | None, limit_s: float) -> tuple[bool, str]:
    """Run the group's tests in a fork, on the mutant or on the code as it is: whether they pass, which one failed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        import hypothesis
        import pytest

        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # what fails need not be made small
        hypothesis.settings.register_profile("mutants", phases=phases, database=None)
        hypothesis.settings.load_profile("mutants")
        if mutant is not None:
            if mutant.module == LOOPS:
                forget(set())
            path = ROOT / "dsac_robot" / "core" / f"{mutant.module}.py"
            sys.meta_path.insert(0, _Finder(f"dsac_robot.core.{mutant.module}", mutated(mutant), path))
        words = ["-x", "-q", "-p", "no:cacheprovider", "-p", PLUGIN, "--hypothesis-seed=0", f"--rootdir={ROOT}"]
        if GROUPS[group].slow:
            words += ["-k", f"not ({' or '.join(GROUPS[group].slow)})"]
        os._exit(int(pytest.main([*words, *map(str, files_of(group))], plugins=[_Watch(write)])) != 0)
    os.close(write)
    end, code = time.monotonic() + limit_s, None
    while code is None and time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        code = status if done else None
        time.sleep(0.02)
    if code is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(read, encoding="utf-8") as pipe:
        failed = pipe.read().splitlines()
    return code == 0, failed[0] if failed else "crash" if code is not None else "hangs"


def digest(*paths: Path) -> str:
    """Of files."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def stamp(mutant: Mutant, failed: str) -> str:
    """Digest of what a result rests on: the module, and the test that failed, or all tests where none did."""
    one = ROOT / failed.split("::")[0]
    tests = [one] if failed.endswith(".py") or "::" in failed else files_of(mutant.group)
    return digest(ROOT / "dsac_robot" / "core" / f"{mutant.module}.py", *tests)


def tried(mutant: Mutant, limit_s: float) -> dict[str, Any]:
    """The row of one mutant."""
    begun = time.monotonic()
    passed, failed = run_tests(mutant.group, mutant, limit_s)
    row = {**vars(mutant), "killed": not passed, "by": "" if passed else failed}
    row |= {"stamp": stamp(mutant, row["by"]), "seconds": round(time.monotonic() - begun, 1)}
    word = "killed  " if row["killed"] else "SURVIVED"
    print(f"{word} {row['seconds']:5.1f} s {mutant.module}:{mutant.line}  {mutant.text}  {row['by']}", flush=True)
    return row


def main() -> int:
    """Try mutants until ``--count`` of them are known or the time is up; report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="mutants to try of each group (default: 100)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="stop after so long (default: 3600)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--group", choices=sorted(GROUPS), action="append", help="only this group")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl", help="what has been tried")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if the target is missed")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from dsac_robot.apps.figures import Figure, report, status, write_json

    prepare()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if args.out.exists():
        for line in args.out.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            known[row["group"], row["module"], row["node"], row["change"]] = row
    end, results = time.monotonic() + args.seconds, []
    groups, drawn, limits = args.group or sorted(GROUPS), [], {}
    for group in groups:
        everything = mutants_of(group)
        drawn.append(random.Random(args.seed).sample(everything, min(len(everything), args.count)))
        begun = time.monotonic()
        passed, failed = run_tests(group, None, 10 * COMPILE_S)
        if not passed:
            print(f"{failed} fails without any mutant: mend it first", file=sys.stderr)
            return 2
        limits[group] = COMPILE_S + SLOWER * (time.monotonic() - begun)
        print(f"{group}: {len(everything)} mutants; the tests take {time.monotonic() - begun:.1f} s", flush=True)
    for mutant in (m for turn in itertools.zip_longest(*drawn) for m in turn if m is not None):
        row = known.get((mutant.group, mutant.module, mutant.node, mutant.change))
        if row is not None and row["stamp"] != stamp(mutant, row["by"]):
            row = None
        if row is None and time.monotonic() < end:
            row = tried(mutant, limits[mutant.group])
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if row is not None:
            results.append(row)
    figures = []
    for group in groups:
        mine = [r["killed"] for r in results if r["group"] == group]
        figures.append(Figure(f"mutants_killed_{group}", sum(mine) / max(1, len(mine)), "", TARGET))
        figures.append(Figure(f"mutants_tried_{group}", float(len(mine))))
    for figure in figures:
        print(f"{figure.name} {figure.value:.3g}")
    survivors = [f"{r['module']}.py:{r['line']}  {r['text']}" for r in results if not r["killed"]]
    write_json(args.json, report(figures, survivors=survivors, seed=args.seed))
    return status(figures, args.strict)


if __name__ == "__main__":
    sys.exit(main())
