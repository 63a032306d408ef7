"""Python blocks of a Markdown page, run as if they were a module's."""

import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def blocks(page, section=None):
    """The Python blocks of a page, or of one of its sections (## …), in order."""
    text = (ROOT / page).read_text()
    if section is not None:
        (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.M)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(code, name):
    """What the names stand for after these blocks, in a module that a compiler or pickle finds."""
    module = sys.modules[name] = ModuleType(name)
    for block in code:
        exec(compile(block, f"<{name}>", "exec"), vars(module))
    return vars(module)
