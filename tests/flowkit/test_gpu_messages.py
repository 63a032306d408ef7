"""What a test expects of an error on a GPU stands in the sources: where there is none, it is
skipped, and nobody would notice a message that was reworded."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MARKS = ("needs_gpu", "cuda.is_available")


def strings(source):
    """Every text in a module as it is written: the parts of an f-string joined by {…}."""
    tree = ast.parse(source)
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside.update(id(part) for part in node.values)
            yield "".join(
                part.value if isinstance(part, ast.Constant) else "{…}" for part in node.values
            )
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            yield node.value


def expectations(source):
    """(test, line, pattern) of every `match=` in the tests that only a GPU runs."""
    for test in ast.parse(source).body:
        decorators = [ast.unparse(d) for d in getattr(test, "decorator_list", ())]
        if any(mark in decorator for mark in MARKS for decorator in decorators):
            for node in ast.walk(test):
                if isinstance(node, ast.keyword) and node.arg == "match":
                    yield test.name, node.value.lineno, ast.literal_eval(node.value)


SOURCES = [
    text
    for folder in ("flowkit", "plugins/llflow")
    for path in sorted((ROOT / folder).rglob("*.py"))
    for text in strings(path.read_text())
]
EXPECTED = [
    pytest.param(pattern, id=f"{path.stem}:{line} {test}")
    for path in sorted((ROOT / "tests").rglob("*.py"))
    for test, line, pattern in expectations(path.read_text())
]


def stands_in(pattern, texts):
    return any(re.search(pattern, text) for text in texts)


@pytest.mark.parametrize("pattern", EXPECTED)
def test_a_message_expected_on_a_gpu_stands_in_the_sources(pattern):
    assert stands_in(pattern, SOURCES)


def test_there_are_such_messages():
    assert EXPECTED


def test_a_message_that_was_reworded_is_found():
    source = """
@needs_gpu
def test_it():
    with pytest.raises(ValueError, match=r"expected torch\\.get_float32"):
        ...

def test_here():
    with pytest.raises(ValueError, match="never looked for"):
        ...
"""
    assert list(expectations(source)) == [("test_it", 4, r"expected torch\.get_float32")]
    assert not stands_in(r"expected torch\.get_float32", SOURCES)
    written = 'raise ValueError(f"{who}: expected {n} " f"samples, got {m}")'
    assert stands_in("expected .* samples, got", strings(written))
    assert not stands_in("expected .* images", strings(written))
