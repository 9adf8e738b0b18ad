"""Mutants of the guard's decision and of the wire protocol: how many of them a fast part of the tests kills.

    python benchmarks/mutants.py --count 120 --seconds 600 --out build/mutants.jsonl --json benchmarks/mutants.json

A mutant is one source file with one small change: a comparison shifted or turned, an operator or a min / max swapped, a
condition negated, a number moved, a returned or assigned value replaced by None. Mutants are drawn by seed, alike from
both groups; what has been tried is kept in ``--out`` (by file digest), so that a run can be stopped and gone on with.
Each is tried in a process of its own, forked where numpy and pytest are there already: the tests of its group run until
the first one fails. A mutant that hangs counts as killed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import importlib.abc
import importlib.machinery
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GROUPS = {
    "guard": (
        ("action", "guard", "guard_check", "guard_docking", "guard_inputs", "guard_motion", "guard_sensed"),
        ("test_action", "test_guard_faults", "test_guard_laws", "test_guard_docking", "test_guard"),
    ),
    "wire": (("protocol", "protocol_fields", "protocol_messages"), ("test_protocol", "test_protocol_spec")),
}
TARGET = 0.9
MUTANT_S_MAX = 300.0
COMPARE = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
BINARY = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitXor: ast.BitOr,
}  # fmt: skip
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
    for module in GROUPS[group][0]:
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
    """The module's tree with the change in it."""
    tree = ast.parse(source_of(mutant.module))
    node = list(ast.walk(tree))[mutant.node]
    return ast.fix_missing_locations(_Replace(node, changes(node)[mutant.change][1]).visit(tree))


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


def tests_pass(group: str, mutant: Mutant | None) -> bool:
    """Run the group's tests in a fork, on the mutant or on the code as it is."""
    child = os.fork()
    if child == 0:
        import pytest

        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        if mutant is not None:
            path = ROOT / "dsac_robot" / "core" / f"{mutant.module}.py"
            sys.meta_path.insert(0, _Finder(f"dsac_robot.core.{mutant.module}", mutated(mutant), path))
        files = [str(ROOT / "tests" / "core" / f"{name}.py") for name in GROUPS[group][1]]
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *files])) != 0)
    end = time.monotonic() + MUTANT_S_MAX
    while time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            return code == 0
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def main() -> int:
    """Try mutants until ``--count`` of them are known or the time is up; report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=120, help="mutants to try, half of each group (default: 120)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="stop after so long (default: 3600)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--group", choices=sorted(GROUPS), action="append", help="only this group")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl", help="what has been tried")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if the target is missed")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import hypothesis  # noqa: F401  # once, before all forks
    import numpy  # noqa: F401

    from dsac_robot.apps.figures import Figure, report, status, write_json

    digest = hashlib.sha256("".join(source_of(m) for g in GROUPS.values() for m in g[0]).encode()).hexdigest()[:12]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if args.out.exists():
        rows = [json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]
        known = {(r["module"], r["node"], r["change"]): r for r in rows if r["digest"] == digest}
    end, results = time.monotonic() + args.seconds, []
    groups = args.group or sorted(GROUPS)
    drawn = []
    for group in groups:
        everything = mutants_of(group)
        drawn.append(random.Random(args.seed).sample(everything, min(len(everything), args.count // len(groups))))
        if not tests_pass(group, None):
            print(f"the tests of {group} fail without any mutant: mend them first", file=sys.stderr)
            return 2
    for mutant in (m for pair in zip(*drawn, strict=False) for m in pair):
        row = known.get((mutant.module, mutant.node, mutant.change))
        if row is None and time.monotonic() < end:
            row = {**vars(mutant), "digest": digest, "killed": not tests_pass(mutant.group, mutant)}
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{'killed  ' if row['killed'] else 'SURVIVED'} {mutant.module}:{mutant.line}  {mutant.text}",
                flush=True,
            )
        if row is not None:
            results.append(row)
    figures = []
    for group in groups:
        mine = [r["killed"] for r in results if r["group"] == group]
        figures.append(Figure(f"mutants_killed_{group}", sum(mine) / max(1, len(mine)), "", TARGET))
        figures.append(Figure(f"mutants_tried_{group}", float(len(mine))))
    for figure in figures:
        print(f"{figure.name} {figure.value:.3g}")
    write_json(args.json, report(figures, survivors=[r for r in results if not r["killed"]], seed=args.seed))
    return status(figures, args.strict)


if __name__ == "__main__":
    sys.exit(main())
