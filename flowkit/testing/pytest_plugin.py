"""Counts the layer × check cases of a pytest run."""

from __future__ import annotations

from typing import Any


def pytest_configure(config: Any) -> None:
    config.addinivalue_line(
        "markers",
        "flowkit_case(layer, example, check): set by flowkit.testing.parametrize_with_checks",
    )


def pytest_runtest_setup(item: Any) -> None:
    mark = item.get_closest_marker("flowkit_case")
    if mark is not None:
        # User properties reach the process that reports, also under pytest-xdist.
        case = [mark.kwargs[key] for key in ("layer", "example", "check")]
        item.user_properties.append(("flowkit_case", case))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    cases = [
        tuple(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for key, value in report.user_properties
        if key == "flowkit_case"
    ]
    if not cases:
        return
    layers = {layer for layer, _, _ in cases}
    examples = {(layer, example) for layer, example, _ in cases}
    checks = {check for _, _, check in cases}
    line = f"flowkit: {len(layers)} layers, {len(examples)} examples x {len(checks)} checks"
    if len(examples) * len(checks) != len(cases):
        line += ", in part"
    terminalreporter.write_line(f"{line} = {len(cases)} cases")
