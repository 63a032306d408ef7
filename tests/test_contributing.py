"""CONTRIBUTING's tables of floors are what the test of floors holds."""

import re

import pytest
from pages import ROOT
from test_floors import FLOWKIT, FLOWKIT_FLOORS, LLFLOW, LLFLOW_FLOORS

PAGE = "CONTRIBUTING.md"


@pytest.mark.parametrize(
    ("package", "modules", "floors"),
    [("flowkit", FLOWKIT, FLOWKIT_FLOORS), ("plugins/llflow", LLFLOW, LLFLOW_FLOORS)],
)
def test_the_tables_of_floors(package, modules, floors):
    page = (ROOT / PAGE).read_text()
    rows = page[page.index(f"| floor | rooms of `{package}/`") :].partition("\n\n")[0]
    table = {
        room.removesuffix(".py").removesuffix("/"): int(number)
        for number, rooms in re.findall(r"^\| (\d) \| ([^|]*) \|", rows, re.MULTILINE)
        for room in re.findall(r"`([^`]+)`", rooms)
    }
    held = {room: number for number, rooms in enumerate(floors) for room in rooms}
    assert {room: held[room] for room in table} == table
    assert {name.split(".")[1] for name in modules if "." in name} - {"__main__"} == set(table)
