"""Plants a defect in the functions that there are, in a process of its own."""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

from mutation.defects import Mutant


class NotPlanted(Exception):
    """No function has the place for a defect."""


def functions_in_use() -> dict[str, list[FunctionType]]:
    """Every function that there is, whoever holds it, by the file of its code. (Those that
    `gc.freeze` was told to leave alone aren't found.)"""
    found = defaultdict(list)
    for thing in gc.get_objects():
        # Not by isinstance, which asks objects that stand in for others what they are.
        if type(thing) is FunctionType:
            found[thing.__code__.co_filename].append(thing)
    return found


def plant(mutant: Mutant, functions: list[FunctionType]) -> None:
    """Give those functions the changed code that are made of the mutant's.

    Raises:
        NotPlanted: there is none, or it refuses the code.
    """
    codes = _codes(compile(mutant.tree, str(mutant.path), "exec", dont_inherit=True))
    changed = {
        (code.co_qualname, code.co_firstlineno): code
        for code in codes
        if code.co_qualname == mutant.function
    }
    planted = 0
    for function in functions:
        code = function.__code__
        other = changed.get((code.co_qualname, code.co_firstlineno))
        if other is not None:
            try:
                function.__code__ = other
            except ValueError as error:  # it no longer says super()
                raise NotPlanted(str(error)) from error
            planted += 1
    if not planted:
        raise NotPlanted(f"no function {mutant.function} is in use")


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def in_a_process(work: Callable[[], object], seconds: int) -> object:
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
