"""Python blocks of a Markdown page, run as if they were a module's."""

import linecache
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def blocks(page, section=None):
    """The Python blocks of a page, or of one of its sections (## …), in order."""
    text = (ROOT / page).read_text()
    if section is not None:
        (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.M)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def outputs(page):
    """The blocks of text that stand right behind a block of Python, as what that one prints, or
    None where there isn't one; by the block's number."""
    pattern = r"```python\n.*?```\n(?:\n```text\n(.*?)```)?"
    return [match or None for match in re.findall(pattern, (ROOT / page).read_text(), re.DOTALL)]


def run(code, name, printed=None):
    """What the names stand for after these blocks, in a module that a compiler or pickle finds.
    `printed` gets what each block prints."""
    module = sys.modules[name] = ModuleType(name)
    for number, block in enumerate(code):
        file = f"<{name}, block {number}>"
        # Triton compiles what it reads in a function's file.
        linecache.cache[file] = len(block), None, block.splitlines(keepends=True), file
        with redirect_stdout(StringIO()) as output:
            exec(compile(block, file, "exec"), vars(module))
        if printed is not None:
            printed.append(output.getvalue())
    return vars(module)
