"""Which small defects can be planted in a file."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

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
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Mutant:
    """One defect: its file and line, the outermost function that it is in by its qualified name,
    what was changed into what, and the changed tree."""

    path: Path
    line: int
    function: str
    was: str
    now: str
    tree: ast.Module

    @property
    def change(self) -> str:
        return f"{self.was} → {self.now}"

    @property
    def source(self) -> str:
        return ast.unparse(self.tree)

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.change}"


def mutants(path: Path) -> list[Mutant]:
    """All defects to be planted in a file."""
    tree = ast.parse(path.read_text())
    found = []
    for function, name in _functions(tree.body, ""):
        for node in _touched(function):
            for replacement in _replacements(node):
                changed = ast.fix_missing_locations(_with(tree, node, replacement))
                was, now = (ast.unparse(part) for part in (node, replacement))
                found.append(Mutant(path, node.lineno, name, was, now, changed))  # pyright: ignore
    return found


def _functions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[ast.AST, str]]:
    """The functions of a module and of its classes, by qualified name."""
    for node in body:
        if isinstance(node, FUNCTIONS) and node.name not in UNTOUCHED:
            yield node, prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")


def _touched(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below one that may change: no annotation, default or decorator, and no docstring
    or message of an error."""
    for name, field in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or (
            name == "args" and not isinstance(node, ast.Call)
        ):
            continue
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, ast.JoinedStr | ast.AnnAssign | ast.Import | ast.ImportFrom):
                continue
            if isinstance(child, ast.AST):
                yield child
                if not isinstance(child, ast.Raise):
                    yield from _touched(child)


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
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        # Without it there is no object to be wrong.
        and ast.unparse(node) != "super().__init__()"
    ):
        yield ast.Pass()


def _is_text(node: ast.BinOp) -> bool:
    parts = (node.left, node.right)
    return any(
        isinstance(part, ast.JoinedStr)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in parts
    )


def _with(tree: ast.Module, node: ast.AST, replacement: ast.AST) -> ast.Module:
    """A copy of the tree with one node replaced."""
    memo: dict[int, object] = {id(node): replacement}
    return copy.deepcopy(tree, memo)
