"""What a step does, by hand; and how many of them a budget of hours holds."""

import math

import pytest

from llflow.training.recipe import Recipe
from llflow.training.schedule import Schedule, Stage, steps_within


def schedule(steps=1000, **settings):
    return Schedule(Recipe(**settings), steps)


def test_the_learning_rate_rises_then_halves():
    rate = schedule(warmup=10, learning_rate=0.8).learning_rate
    rates = [rate(step) for step in (0, 4, 9, 499, 500, 749, 750, 900, 950, 999)]
    expected = [0.08, 0.4, 0.8, 0.8, 0.4, 0.4, 0.2, 0.1, 0.05, 0.05]
    assert rates == pytest.approx(expected)
    assert schedule(warmup=0).learning_rate(0) == Recipe().learning_rate
    short = schedule(50, warmup=500, learning_rate=1.0).learning_rate
    assert [short(step) for step in (0, 4, 5)] == pytest.approx([0.2, 1.0, 1.0])


def test_the_cosine_falls_to_a_hundredth():
    rate = schedule(warmup=10, learning_rate=0.8, annealing="cosine").learning_rate
    assert [rate(0), rate(500), rate(1000)] == pytest.approx([0.08, 0.8 * 0.505, 0.008])
    after = [rate(step) for step in range(10, 1000)]
    assert after == sorted(after, reverse=True)


@pytest.mark.parametrize("annealing", ["halving", "cosine"])
def test_without_an_end_a_run_is_at_its_beginning(annealing):
    settings = {"annealing": annealing, "sizes": ((4, 0.5), (1, 0.5)), "warmup": 10}
    endless = schedule(math.inf, learning_rate=0.8, **settings)
    assert [endless.learning_rate(step) for step in (4, 9, 10**6)] == pytest.approx([0.4, 0.8, 0.8])
    assert endless.stage(10**6) == Stage(4, 160, 16)


def test_pretraining_takes_nll_first():
    steps = schedule(loss="l1", pretrain=3)
    assert [steps.loss(step) for step in (0, 2, 3, 9)] == ["nll", "nll", "l1", "l1"]


def test_sizes_follow_one_another():
    sizes = ((4, 0.4, 96, 8), (2, 0.3), (1, 0.3, 128))
    steps = schedule(sizes=sizes, crop=112, batch=6)
    stages = [steps.stage(step) for step in (0, 399, 400, 699, 700, 999, 1000)]
    quarter, half, full = Stage(4, 96, 8), Stage(2, 112, 6), Stage(1, 128, 6)
    assert stages == [quarter, quarter, half, half, full, full, full]
    assert schedule(crop=112).stage(0) == Stage(1, 112, 16)
    assert quarter.pixels == 8 * 96 * 96


def test_a_budget_in_steps():
    plain = schedule(math.inf)
    assert steps_within(plain, 25, 1000.0, 2.0) == 525
    assert steps_within(plain, 25, 1000.0, 2.0, validating=0.5) == 425
    assert steps_within(plain, 25, -3.0, 2.0) == 26  # used up: one more step ends the run
    # A quarter of the pixels for half of the steps: 1 s, then 4 s, on average 2.5 s.
    growing = schedule(math.inf, sizes=((2, 0.5, 80), (1, 0.5, 160)))
    assert steps_within(growing, 20, 1000.0, 1.0) == 420
    # As many pixels in all steps.
    even = schedule(math.inf, sizes=((2, 0.5, 80, 16), (1, 0.5, 160, 4)))
    assert steps_within(even, 0, 1000.0, 1.0) == 1000
