"""`make mutants`: small defects planted in flowkit's mathematics, one by one, and how many of them
the checks and tests notice.

    python tests/mutants.py [FILE ...] [--minutes M] [--sample N] [--seed S] [--checks]

Every mutant of a file is a process of its own, forked once PyTorch is imported, in which the file
is imported with the defect. It runs the checks of the examples that call the function in question,
the fewest first, and then the tests that name what the file defines. What nobody notices is a
survivor; those that can't be noticed, or needn't, are in tests/survivors.toml with a reason.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.util
import json
import math
import os
import random
import re
import resource
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("elementwise", "layers", "combine", "density", "ops/coupling", "ops/linear")
PARTS_OF_OPS = ("reference.py", "scale.py")
EXAMPLES_PER_MUTANT = 3
TEST_FILES_PER_MUTANT = 3
SLOW_TESTS = {"kernels", "ahead_of_time", "gpu_messages", "sizes", "layers", "with_pytorch"}
SLOW_TESTS |= {"foreign", "interop", "docstrings"}
SLOW_CHECKS = {"check_compiles", "check_exports", "check_copies"}
SECONDS = 120
"""What computes for longer than this hangs, which is noticed too."""

OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {
    "sum": "mean",
    "amax": "amin",
    "ones_like": "zeros_like",
    "tril": "triu",
    "inverse": "forward",
}
UNTOUCHED = {"examples", "extra_repr", "__repr__"}
"""Functions that are no mathematics."""


@dataclass(frozen=True)
class Mutant:
    """One defect: its file, where it is, what was changed into what, and the changed source."""

    path: Path
    line: int
    function: int | None
    was: str
    now: str
    source: str

    @property
    def change(self) -> str:
        return f"{self.was} → {self.now}"

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.change}"


def mutants(path: Path) -> list[Mutant]:
    """All defects to be planted in a file."""
    tree = ast.parse(path.read_text())
    found = []
    for node, function in _touched(tree, None):
        for replacement in _replacements(node):
            changed = _with(tree, node, replacement)
            was, now = (ast.unparse(part) for part in (node, replacement))
            source = ast.unparse(ast.fix_missing_locations(changed))
            found.append(Mutant(path, node.lineno, function, was, now, source))  # pyright: ignore
    return found


def _touched(node: ast.AST, function: int | None) -> Iterator[tuple[ast.AST, int | None]]:
    """Every node that may change, and the first line of the function it is in."""
    for name, field in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and not isinstance(
            node, ast.Call
        ):
            continue
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, ast.FunctionDef) and child.name in UNTOUCHED:
                continue
            # What an error says, a default in a class, and a docstring.
            if isinstance(child, ast.JoinedStr | ast.AnnAssign | ast.Import | ast.ImportFrom):
                continue
            if isinstance(child, ast.AST):
                inside = function
                if isinstance(child, ast.FunctionDef):
                    lines = [child.lineno, *(d.lineno for d in child.decorator_list)]
                    inside = min(lines)
                if inside is not None:
                    yield child, inside
                if not isinstance(child, ast.Raise):
                    yield from _touched(child, inside)


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        if type(node.op) in OPERATORS and not _is_text(node):
            yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div) and not _is_text(node):
            yield node.left
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        if not isinstance(node.operand, ast.Constant):
            yield node.operand
        elif isinstance(node.operand.value, int | float):
            yield ast.Constant(node.operand.value)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        yield ast.Compare(node.left, [OPERATORS[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(OPERATORS[type(node.op)](), node.values)
        yield node.values[0]
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int):
            yield ast.Constant(node.value + 1)
        elif isinstance(node.value, float):
            yield ast.Constant(1.5 * node.value + 0.01)
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.Attribute(node.value, NAMES[node.attr], node.ctx)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.If) and not isinstance(node.test, ast.Compare | ast.BoolOp):
        yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.Raise) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()


def _is_text(node: ast.BinOp) -> bool:
    parts = (node.left, node.right)
    return any(
        isinstance(part, ast.JoinedStr)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in parts
    )


def _with(tree: ast.AST, node: ast.AST, replacement: ast.AST) -> ast.AST:
    """A copy of the tree with one node replaced."""
    memo: dict[int, object] = {id(node): replacement}
    return copy.deepcopy(tree, memo)


class Planted(importlib.abc.MetaPathFinder):
    """Imports one module from a changed source."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = module_of(mutant.path)

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.name:
            return None
        loader = _Changed(fullname, str(self.mutant.path))
        loader.changed = self.mutant.source
        return importlib.util.spec_from_file_location(fullname, self.mutant.path, loader=loader)


class _Changed(SourceFileLoader):
    changed: str

    def get_code(self, fullname: str):
        return compile(self.changed, self.path, "exec", dont_inherit=True)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def in_a_process(work: Callable[[], object], seconds: int = SECONDS) -> object:
    """What `work` returns in a forked process; "raises …", or "hangs" where it takes longer than
    `seconds` of the processor, however busy that is with others."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result"
        child = os.fork()
        if not child:
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            used = math.ceil(time.process_time())
            resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, used + seconds))
            try:
                answer = work()
            except BaseException as error:
                answer = f"raises {type(error).__name__}: {str(error)[:300]}"
            result.write_text(json.dumps(answer))
            os._exit(0)
        os.waitpid(child, 0)
        return json.loads(result.read_text()) if result.exists() else "hangs"


def calls_of_examples() -> dict[str, list[int]]:
    """Which of all examples call which function, by "path:line of its def"."""
    from flowkit.testing import Draw, all_examples, random_inputs, randomized

    called: dict[str, list[int]] = {}
    for number, (_, example) in enumerate(all_examples(["flowkit"])):
        lines: set[str] = set()

        def see(frame, event, argument, lines=lines):
            if event == "call" and frame.f_code.co_filename.startswith(str(ROOT / "flowkit")):
                lines.add(f"{frame.f_code.co_filename}:{frame.f_code.co_firstlineno}")

        sys.setprofile(see)
        try:
            layer = randomized(example, 0)
            x, cond = random_inputs(example, Draw(2))
            y, _ = layer.double()(x, cond)
            layer.inverse(y, cond)
            layer.given(cond)(x)
            layer.fold()(x, cond)
            layer.shape(example.shape)
        finally:
            sys.setprofile(None)
        for line in lines:
            called.setdefault(line, []).append(number)
    return called


def noticed_by(mutant: Mutant | None, examples: list[int], tests: list[str]) -> str:
    """Who notices a mutant (None: whether anybody complains without one); "" if nobody does."""
    if mutant is not None:
        sys.meta_path.insert(0, Planted(mutant))
    from unittest import SkipTest

    from flowkit.testing import all_checks, all_examples

    checks = [check for check in all_checks() if check.__name__ not in SLOW_CHECKS]
    checks.sort(key=lambda check: check.__name__ not in ("check_round_trip", "check_logdet"))
    known = all_examples(["flowkit"])
    for check in checks:
        for number in examples:
            try:
                check(known[number][1])
            except SkipTest:
                continue
            except Exception:
                return f"{check.__name__} of {known[number][0].__name__}"
    import pytest

    os.chdir(ROOT)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:logging", "-m", "not slow"]
    for name in tests:
        if pytest.main([*options, name]) not in (0, 5):
            return name
    return ""


def tests_of(path: Path) -> list[str]:
    """The test files that name most often what a file defines."""
    defined = [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    ]
    words = re.compile(r"\b(" + "|".join([*defined, re.escape(module_of(path))]) + r")\b")
    counted = Counter()
    for test in sorted((ROOT / "tests" / "flowkit").glob("test_*.py")):
        if test.stem.removeprefix("test_") not in SLOW_TESTS:
            counted[str(test)] = len(words.findall(test.read_text()))
    return [name for name, count in counted.most_common(TEST_FILES_PER_MUTANT) if count]


def files() -> list[Path]:
    """What mutants are made of."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / "flowkit" / folder).rglob("*.py")):
            if path.name != "__init__.py" and (
                not folder.startswith("ops") or path.name in PARTS_OF_OPS
            ):
                found.append(path)
    return found


def reasons() -> dict[tuple[str, str], str]:
    """Why a survivor may be one, by its file and change."""
    with (ROOT / "tests" / "survivors.toml").open("rb") as file:
        entries = tomllib.load(file).get("survivor", [])
    return {(entry["file"], entry["change"]): entry["why"] for entry in entries}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="all of them if none is named")
    parser.add_argument("--minutes", type=float, help="stop after so many")
    parser.add_argument("--sample", type=int, help="so many of each file, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checks", action="store_true", help="run the checks alone, no tests")
    options = parser.parse_args()
    end = time.monotonic() + 60 * (options.minutes or 1e9)

    import torch

    # Imported before the fork, for all children.
    for name in ("hypothesis", "safetensors.torch", "pytest", "normflows", "zuko"):
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)

    torch.set_num_threads(1)
    called = in_a_process(calls_of_examples, 600)
    if not isinstance(called, dict):
        print(f"expected the examples to run without a mutant, got: {called}")
        return 1
    known, draw = reasons(), random.Random(options.seed)
    caught, survived, excused = 0, [], 0
    for path in [path.resolve() for path in options.files] or files():
        found, tests = mutants(path), [] if options.checks else tests_of(path)
        if options.sample is not None and options.sample < len(found):
            found = sorted(draw.sample(found, options.sample), key=lambda mutant: mutant.line)
        started, before, sound = time.monotonic(), caught, None
        for number, mutant in enumerate(found):
            if time.monotonic() > end:
                found = found[:number]
                break
            examples = called.get(f"{path}:{mutant.function}", [])[:EXAMPLES_PER_MUTANT]
            who = in_a_process(lambda m=mutant, e=examples: noticed_by(m, e, []))
            if not who:
                if sound is None:
                    # Only then is it known that it isn't the mutant which they complain about.
                    sound = [
                        t for t in tests if not in_a_process(lambda t=t: noticed_by(None, [], [t]))
                    ]
                who = in_a_process(lambda m=mutant, t=sound: noticed_by(m, [], t))
            caught += bool(who)
            if not who:
                why = known.get((str(path.relative_to(ROOT)), mutant.change))
                excused += why is not None
                survived.append((mutant, why))
                print(f"  survives: {mutant}" + (f"  ({why})" if why else ""), flush=True)
        seconds = time.monotonic() - started
        print(
            f"{path.relative_to(ROOT)}: {caught - before} of {len(found)} caught, {seconds:.0f} s",
            flush=True,
        )
        if time.monotonic() > end:
            print(f"stopped after {options.minutes:g} minutes")
            break
    total = caught + len(survived)
    share = caught / max(1, total - excused)
    print(
        f"{caught} of {total} mutants caught, {excused} survive for a reason that is known: "
        f"{share:.1%} of the others"
    )
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
