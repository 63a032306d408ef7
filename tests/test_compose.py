"""docs/compose.md runs from top to bottom, and its layer holds."""

import pytest
from pages import blocks, run

from flowkit.testing import check_bijection

PAGE = "docs/compose.md"


@pytest.fixture(scope="module")
def page():
    return run(blocks(PAGE), "compose")


def test_it_runs(page):
    assert page["elbo"].isfinite()


def test_its_layer_holds(page):
    check_bijection(page["Gain"])
