"""Who may notice a defect: the cases of the checks and tests that call the function it is in."""

from __future__ import annotations

import inspect
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from mutation.defects import ROOT, Mutant
from mutation.planting import in_a_process

FLOWKIT = str(ROOT / "flowkit") + "/"
CALLS = ROOT / "runs" / "mutation" / "calls.jsonl"
LAYERS, OTHERS = "test_layers.py", "test_maps_and_densities.py"
"""Where the checks are run on layers, and on elementwise maps and densities."""
MESSAGES = "test_messages.py"
"""What is said is tested there, whoever says it."""
TEST_FILES = 4
"""So many test files are asked beside, those that name most often what a file defines."""
FIRST_CHECKS = ("keeps_its_word", "round_trip", "logdet", "fold", "given", "shapes")
NOT_ASKED = ("compiles", "exports")
"""Checks that take long for what they notice."""
OTHER_TESTS = ("kernels", "ahead_of_time", "gpu_messages", "docstrings", "peers", "testing")
OTHER_TESTS += ("foreign", "with_pytorch", "sizes")
"""Test files that are about something else than flowkit's mathematics, or take long likewise."""


@dataclass(frozen=True)
class Seen:
    """What an example does without a defect: seconds of the processor, and the functions of flowkit
    that it calls, each as "file:qualified name"; no function if it fails."""

    seconds: float
    functions: frozenset[str]


class Outcome:
    """A pytest plug-in that hears whether a case fails."""

    def __init__(self) -> None:
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed


def runs(item: pytest.Item, after: pytest.Item | None = None) -> bool:
    """Whether a case holds. `after`: the case that comes next, which may share what is set up."""
    outcome = Outcome()
    item.config.pluginmanager.register(outcome)
    try:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
    finally:
        item.config.pluginmanager.unregister(outcome)
    return not outcome.failed


class Witnesses:
    """All cases, and which of them call which function: seen once, and kept in a file."""

    def __init__(self, items: list[pytest.Item]) -> None:
        self.checks: dict[str, dict[str, pytest.Item]] = defaultdict(dict)
        self.tests: dict[str, list[pytest.Item]] = defaultdict(list)
        for item in items:
            case = item.get_closest_marker("flowkit_case")
            if case is not None and item.path.name == LAYERS:
                key = f"{case.kwargs['layer']}, {case.kwargs['example']}"
                if key.startswith("flowkit.") and case.kwargs["check"] not in NOT_ASKED:
                    self.checks[key][case.kwargs["check"]] = item
            elif item.path.name == OTHERS and "keeps_its_word" in item.name:
                self.checks[item.nodeid]["keeps_its_word"] = item
            elif item.path.stem.removeprefix("test_") not in OTHER_TESTS:
                self.tests[item.path.name].append(item)
        self.known = _read()
        self.sound: set[pytest.Item] = set()
        self.broken: set[pytest.Item] = set()

    def checks_of(self, mutant: Mutant) -> list[pytest.Item]:
        """The checks' cases that call the function that a mutant is in, of each check the cheapest
        example first."""
        name = f"{mutant.path.relative_to(ROOT)}:{mutant.function}"
        self._see_examples()
        calling = [key for key in self.checks if name in self.known[key].functions]
        calling.sort(key=lambda key: (len(self.known[key].functions), self.known[key].seconds))
        return [item for key in calling for item in _first(self.checks[key])]

    def tests_of(self, mutant: Mutant) -> list[pytest.Item]:
        """The tests in the files that name what the mutant's file defines, those first that name
        the function or its class, or anything else that the file defines; where a refusal is
        missing, those that expect one."""
        first = re.compile(rf"\b({'|'.join(mutant.function.split('.'))})\b")
        any_of, refusal = words_of(mutant.path), re.match("raise|.*require_|.*refuse", mutant.was)
        items = [item for file in naming_tests(mutant.path) for item in self.tests[file]]

        def rank(item: pytest.Item) -> tuple[bool, ...]:
            text = f"{item.name} {inspect.getsource(item.function)}"  # pyright: ignore
            found = not first.search(item.name), not first.search(text), not any_of.search(text)
            return bool(refusal) and "raises" not in text, *found

        return sorted(items, key=rank)

    def _see_examples(self) -> None:
        missing = [key for key in self.checks if key not in self.known]
        if missing:
            found = in_a_process(lambda: [_calls(self._use_of(key)) for key in missing], 300)
            self._learn(missing, found)

    def _use_of(self, key: str) -> Callable[[], object]:
        (item, *_) = self.checks[key].values()
        parameters = item.callspec.params  # pyright: ignore[reportAttributeAccessIssue]
        return (
            partial(_use, parameters["check"].example)
            if "check" in parameters
            else partial(runs, item)
        )

    def _learn(self, keys: list[str], found: Any) -> None:
        """What was seen; where the process that saw it ended, that none calls anything."""
        if not isinstance(found, list):
            found = [(0.0, [])] * len(keys)
        CALLS.parent.mkdir(parents=True, exist_ok=True)
        with CALLS.open("a") as file:
            for key, (seconds, functions) in zip(keys, found, strict=True):
                self.known[key] = Seen(seconds, frozenset(functions))
                file.write(json.dumps([key, seconds, functions, _digest(functions)]) + "\n")


def _first(by_check: dict[str, pytest.Item]) -> list[pytest.Item]:
    order = {check: number for number, check in enumerate(FIRST_CHECKS)}
    return [by_check[c] for c in sorted(by_check, key=lambda c: order.get(c, len(order)))]


def _calls(use: Callable[[], object]) -> tuple[float, list[str]]:
    """How long a use of something takes, and which functions of flowkit it calls; none if it
    fails."""
    called: set[str] = set()

    def see(frame, event, argument):
        code = frame.f_code
        if code.co_filename.startswith(FLOWKIT):
            function = code.co_qualname.partition(".<locals>")[0]
            called.add(f"{code.co_filename[len(str(ROOT)) + 1 :]}:{function}")

    sys.settrace(see)
    started = time.process_time()
    try:
        use()
    except Exception:
        called.clear()
    finally:
        sys.settrace(None)
    return time.process_time() - started, sorted(called)


def _use(example: Any) -> None:
    """What the checks do with a layer, once."""
    from flowkit import Reversible, initialize
    from flowkit.reversible import KEEP
    from flowkit.testing import Draw, random_inputs, randomized

    layer = randomized(example, 0).double()
    x, cond = random_inputs(example, Draw(2))
    y, _ = layer(x, cond)
    layer.inverse(y, cond)
    layer.given(cond)(x)
    layer.given(cond).inverse(y)
    folded = layer.fold()
    folded(x, cond)
    folded.inverse(y, cond)
    layer.shape(example.shape)
    if any(hasattr(module, "initialize_from") for module in layer.modules()):
        with suppress(ValueError):
            initialize(layer, x, cond)
    for keep in KEEP:
        with suppress(RuntimeError, ValueError):
            value, _ = Reversible(layer, keep=keep)(x.requires_grad_(), cond)  # pyright: ignore
            value.sum().backward()


def naming_tests(path: Path) -> list[str]:
    """The test files that name what a file defines, those first that do so most often."""
    words = words_of(path)
    counted = Counter()
    for test in sorted((ROOT / "tests" / "flowkit").glob("test_*.py")):
        if test.stem.removeprefix("test_") not in OTHER_TESTS and test.name not in (LAYERS, OTHERS):
            counted[test.name] = len(words.findall(test.read_text()))
    naming = [name for name, count in counted.most_common(TEST_FILES) if count]
    # The checks of all layers come last: they are many, and those that call it were asked before.
    return [*naming, *({MESSAGES} - {*naming}), LAYERS]


def words_of(path: Path) -> re.Pattern[str]:
    """What a file defines, and its own name."""
    defined = re.findall(r"^(?:class|def) (\w+)", path.read_text(), re.MULTILINE)
    return re.compile(r"\b(" + "|".join([*defined, path.stem]) + r")\b")


def _read() -> dict[str, Seen]:
    """What was seen and still holds: some function was called, and its file hasn't changed."""
    known = {}
    if CALLS.exists():
        for line in CALLS.read_text().splitlines():
            key, seconds, functions, *digest = json.loads(line)
            if functions and digest == [_digest(functions)]:
                known[key] = Seen(seconds, frozenset(functions))
    return known


def _digest(functions: Iterable[str]) -> str:
    """Tells whether one of the files with these functions has changed."""
    files = sorted({ROOT / function.partition(":")[0] for function in functions})
    content = b"".join(file.read_bytes() for file in files if file.exists())
    return sha256(content).hexdigest()[:16]
