"""`make mutants`: small defects planted in flowkit's mathematics, one by one, and how many of them
the checks and tests notice.

    python tests/mutants.py [FILE ...] [--share P] [--seed S] [--seconds T]
        [--minutes M] [--again] [--score]

Every mutant is a process of its own, forked from one in which all cases are collected; the defect
is planted in the function where it is. Then those cases run that call this function, the checks of
`flowkit.testing` before the tests, until one fails. Which case calls what is seen once, and kept in
runs/mutation. What nobody notices is a survivor; those that can't be noticed, or needn't, are in
tests/survivors.toml with a reason. What comes out is kept file by file in
benchmarks/results/mutants.json, and the sum in docs/features.md: a run goes on where the one before
stopped.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import sys
import time
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from mutation.defects import ROOT, Mutant, mutants
from mutation.planting import NotPlanted, functions_in_use, in_a_process, plant
from mutation.score import RECORD, reasons, recorded, score, table, write_down
from mutation.witnesses import Witnesses, runs

PARTS = ("elementwise", "layers", "combine", "density", "nets", "ops")
SINGLE = ("contract.py", "conditions.py", "statistics.py", "reversible.py")
NO_MATHEMATICS = {"__init__.py", "triton.py"}
SECONDS = 60
"""What computes for longer than this hangs, which is noticed too."""


def files() -> list[Path]:
    """What mutants are made of."""
    folders = [ROOT / "flowkit" / part for part in PARTS]
    found = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    found = [path for path in found if path.name not in NO_MATHEMATICS]
    return [*found, *(ROOT / "flowkit" / name for name in SINGLE)]


class Trial:
    """The pytest plug-in whose run is the trial of all mutants."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.end = time.monotonic() + 60 * (options.minutes or 1e9)

    def pytest_runtestloop(self, session: Any) -> bool:
        if session.testsfailed:
            raise session.Failed("not all cases could be collected, so some would be missed")
        self.imported = {path: digest_of(path) for path in files()}
        items = [item for item in session.items if not item.get_closest_marker("slow")]
        witnesses = Witnesses(items)
        self.functions = functions_in_use()
        # What is there by now isn't looked through again, and so isn't copied into each process.
        gc.collect()
        gc.freeze()
        for path in self.options.files or files():
            if not self.tried(path.resolve(), witnesses):
                break
        return True

    def tried(self, path: Path, witnesses: Witnesses) -> bool:
        """Try the mutants of a file, or those drawn, and record what comes out; False where the
        time is over before that."""
        everything = mutants(path)
        name, digest = str(path.relative_to(ROOT)), digest_of(path)
        if digest != self.imported.get(path, digest):
            print(f"{name} has changed since it was imported, and is left to the next run")
            return True
        functions = self.functions.get(str(path), [])
        # In this order, so that those tried are a random sample, wherever one stops.
        random.Random(f"{self.options.seed} {name}").shuffle(everything)
        count = math.ceil(self.options.share * len(everything))
        entry = recorded().get(name)
        if entry is None or entry["digest"] != digest:
            entry = untried(digest, len(everything))
        started = time.monotonic()
        if self.options.again:
            for mutant in [m for m in everything if said(m) in entry["survivors"]]:
                kind, who = noticed(mutant, functions, witnesses, self.options.seconds)
                if kind in ("by_checks", "by_tests"):
                    entry["survivors"].remove(said(mutant))
                    entry[kind] += 1
                    entry["later"] += 1
                    _write(name, entry)
                    print(f"  now noticed: {mutant} by {who}", flush=True)
                else:
                    print(f"  survives: {mutant}", flush=True)
        while entry["tried"] < count:
            if time.monotonic() > self.end:
                print(f"stopped in {name} after {entry['tried']} of {count} mutants")
                return False
            mutant = everything[entry["tried"]]
            kind, _ = noticed(mutant, functions, witnesses, self.options.seconds)
            entry["tried"] += 1
            if kind == "not planted":
                entry["planted"] -= 1
            else:
                entry["drawn"] += 1
            if kind in ("by_checks", "by_tests"):
                entry[kind] += 1
            elif not kind:
                entry["survivors"].append(said(mutant))
                why = reasons().get((name, mutant.function, mutant.change))
                print(f"  survives: {mutant}" + (f"  ({why})" if why else ""), flush=True)
            _write(name, entry)
        if time.monotonic() - started > 1:
            print(f"{name}: {score({name: entry}, reasons())}", flush=True)
        return True


def untried(digest: str, planted: int) -> dict[str, Any]:
    """The entry of a file before the first mutant."""
    counts = {"tried": 0, "drawn": 0, "by_checks": 0, "by_tests": 0, "later": 0}
    return {"digest": digest, "planted": planted, **counts, "survivors": []}


def digest_of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:16]


def said(mutant: Mutant) -> dict[str, Any]:
    """A survivor as it is on record."""
    return {"line": mutant.line, "in": mutant.function, "change": mutant.change}


def noticed(
    mutant: Mutant, functions: list[FunctionType], witnesses: Witnesses, seconds: float
) -> tuple[str, str]:
    """By what kind of case a mutant is noticed within some seconds of the processor, "" if by none,
    and by which. A case that fails without any mutant as well has noticed nothing."""
    sound, broken = witnesses.sound, witnesses.broken
    for kind, find, times in (
        ("by_checks", witnesses.checks_of, 1),
        ("by_tests", witnesses.tests_of, 3),
    ):
        cases = [case for case in find(mutant) if case not in broken]
        while answer := in_a_process(
            partial(asked, mutant, functions, cases, times * seconds), SECONDS
        ):
            if not isinstance(answer, list):
                return kind, str(answer)
            problem, number = answer
            if problem:
                return "not planted", problem
            case = cases[number]
            if case in sound or in_a_process(partial(runs, case), SECONDS) is True:
                sound.add(case)
                return kind, case.nodeid
            broken.add(case)
            cases = cases[number + 1 :]
    return "", ""


def asked(
    mutant: Mutant, functions: list[FunctionType], cases: list[Any], seconds: float
) -> tuple[str, int] | None:
    """ "" and the number of the case that notices a mutant, or why it can't be planted; None if no
    case notices."""
    try:
        plant(mutant, functions)
    except NotPlanted as error:
        return str(error), 0
    end = time.process_time() + seconds
    for number, (case, after) in enumerate(zip(cases, [*cases[1:], None], strict=False)):
        if not runs(case, after):
            return "", number
        if time.process_time() > end:
            break
    return None


def _write(name: str, entry: dict[str, Any]) -> None:
    everything = {"files": dict(sorted({**recorded(), name: entry}.items()))}
    partial = RECORD.with_suffix(".partial")
    partial.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")
    os.replace(partial, RECORD)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    parser.add_argument("files", nargs="*", type=Path, help="all of them if none is named")
    parser.add_argument("--share", type=float, default=1, help="of each file's, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=4, help="for checks; tests get 3 times that"
    )
    parser.add_argument("--minutes", type=float, help="stop after so many")
    parser.add_argument("--again", action="store_true", help="try survivors on record once more")
    parser.add_argument("--score", action="store_true", help="print what is on record, run nothing")
    options = parser.parse_args()
    if not options.score:
        import pytest

        trial = Trial(options)
        os.chdir(ROOT)
        arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:logging", "-p", "no:randomly", "-s"]
        code = pytest.main([*arguments, "tests/flowkit"], plugins=[trial])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return int(code)
    for path in files():
        name = str(path.relative_to(ROOT))
        if name not in recorded() and (count := len(mutants(path))):
            _write(name, untried(digest_of(path), count))
    found = table(recorded(), reasons())
    write_down(found)
    print(found)
    names = [str(path.relative_to(ROOT)) for path in files()]
    changed = [
        name
        for name, entry in recorded().items()
        if name in names and entry["digest"] != digest_of(ROOT / name)
    ]
    if changed:
        print(f"tried before their last change: {', '.join(changed)}")
    return 0 if score(recorded(), reasons()).share >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
