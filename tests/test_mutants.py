"""The tool behind `make mutants` plants what it says, where it says, and hears who complains."""

import ast
import dataclasses
import importlib
import random
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from mutation import defects, planting, score, witnesses

SOURCE = '''
def scaled(x, twice=False):
    """Docstring with 3 + 4."""
    require(x)
    if x < 0:
        raise ValueError(f"got {x + 1}")
    return -x * 2 + x.sum(1) if twice and x else x

class Layer:
    count: int = 8

    def __init__(self):
        super().__init__()

    def doubled(self, x):
        return scaled(x, True)

    def extra_repr(self):
        return 1 + 1

def require(x):
    pass
'''


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.setattr(defects, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "planted_here.py"
    path.write_text(SOURCE)
    return defects.mutants(path)


def test_what_is_planted(found):
    assert {mutant.change for mutant in found} == {
        "require(x) → pass",
        "x < 0 → x <= 0",
        "0 → 1",
        "raise ValueError(f'got {x + 1}') → pass",
        "-x * 2 + x.sum(1) → -x * 2 - x.sum(1)",
        "-x * 2 + x.sum(1) → -x * 2",
        "-x * 2 → -x / 2",
        "-x * 2 → -x",
        "-x → x",
        "2 → 3",
        "1 → 2",
        "x.sum → x.mean",
        "-x * 2 + x.sum(1) if twice and x else x → x if twice and x else -x * 2 + x.sum(1)",
        "twice and x → twice or x",
        "twice and x → twice",
        "True → False",
    }


def test_each_changes_one_place_and_nothing_of_the_original(found):
    sources = {mutant.source for mutant in found}
    assert len(sources) == len(found)
    assert ast.unparse(ast.parse(SOURCE)) not in sources
    assert {mutant.function for mutant in found} == {"scaled", "Layer.doubled"}


def test_a_mutant_is_planted_in_every_function_of_its_code(found):
    module = importlib.import_module("planted_here")
    held, layer = module.scaled, module.Layer()
    functions, x = planting.functions_in_use()[str(found[0].path)], torch.tensor([[4.0]])
    (mutant,) = (mutant for mutant in found if mutant.change == "-x * 2 → -x / 2")

    def planted():
        planting.plant(mutant, functions)
        return [held(x, True).item(), layer.doubled(x).item()]

    assert planting.in_a_process(planted, 30) == [2.0, 2.0]
    assert held(x, True).item() == -4
    nowhere = dataclasses.replace(mutant, function="elsewhere")
    with pytest.raises(planting.NotPlanted, match="elsewhere"):
        planting.plant(nowhere, functions)


def test_who_hangs_or_raises_is_heard():
    assert planting.in_a_process(lambda: "fine", 30) == "fine"
    said = "raises ZeroDivisionError: division by zero"
    assert planting.in_a_process(lambda: 1 / 0, 30) == said
    assert planting.in_a_process(lambda: exec("while True: pass"), seconds=1) == "hangs"


def entry(planted, drawn, by_checks, by_tests, *survivors):
    return {
        "planted": planted,
        "drawn": drawn,
        "by_checks": by_checks,
        "by_tests": by_tests,
        "survivors": [{"in": "f", "change": change} for change in survivors],
    }


def test_who_calls_what_is_seen_again_once_a_file_of_it_has_changed(monkeypatch, tmp_path):
    monkeypatch.setattr(witnesses, "ROOT", tmp_path)
    monkeypatch.setattr(witnesses, "CALLS", tmp_path / "runs" / "calls.jsonl")
    code = tmp_path / "a.py"
    code.write_text("def f(): pass")
    seen = witnesses.Witnesses([])
    assert not seen.known
    seen._learn(["calls", "fails"], [(0.5, ["a.py:f"]), (0.1, [])])
    assert witnesses.Witnesses([]).known == {"calls": witnesses.Seen(0.5, frozenset({"a.py:f"}))}
    code.write_text("def g(): pass")
    assert not witnesses.Witnesses([]).known


def test_the_score_weighs_files_by_how_many_mutants_they_have():
    files = {"a.py": entry(100, 10, 8, 1, "+ → -"), "b.py": entry(300, 10, 10, 0)}
    result = score.score(files, {})
    assert (result.planted, result.drawn, result.by_checks, result.by_tests) == (400, 20, 18, 1)
    assert result.share == pytest.approx((100 * 0.9 + 300) / 400)
    assert 0.02 < result.half < 0.2


def test_those_that_may_survive_are_left_out_of_the_score():
    files = {"a.py": entry(10, 10, 8, 0, "+ → -", "1 → 2")}
    known = {("a.py", "f", "+ → -"): "a reason", ("b.py", "f", "1 → 2"): "another file"}
    result = score.score(files, known | {("a.py", "g", "1 → 2"): "another function"})
    assert (result.excused, result.half) == (1, 0.0)
    assert result.share == pytest.approx(8 / 9)


def test_what_was_mended_for_says_nothing_about_those_not_drawn():
    mended = entry(100, 10, 9, 1) | {"later": 1}
    result = score.score({"a.py": mended}, {})
    assert result.share == pytest.approx((10 + 90 * 0.9) / 100)
    assert result.half > score.score({"a.py": entry(100, 10, 9, 1)}, {}).half
    assert score.score({"a.py": mended | {"planted": 10}}, {}).share == 1


def test_a_file_not_tried_is_planted_but_not_in_the_share():
    tried = entry(100, 10, 9, 0, "+ → -")
    result = score.score({"a.py": tried, "b.py": entry(50, 0, 0, 0)}, {})
    assert (result.planted, result.drawn, result.share) == (150, 10, pytest.approx(0.9))


def test_the_interval_ends_at_all_of_them():
    result = score.score({"a.py": entry(100, 10, 9, 1)}, {})
    assert result.caught == f"100.0% ({1 - result.half:.1%} to 100.0%)"


def test_the_interval_holds_the_share_as_often_as_it_says():
    generator = random.Random(0)
    trials, held = 400, 0
    for _ in range(trials):
        files, caught_of_all = {}, 0
        for number in range(60):
            noticed = [generator.random() < 0.95 for _ in range(generator.randint(5, 60))]
            drawn = generator.sample(noticed, 2)
            caught_of_all += sum(noticed) / 1000
            files[f"{number}.py"] = entry(len(noticed), 2, sum(drawn), 0)
        result = score.score(files, {})
        held += abs(result.share - 1000 * caught_of_all / result.planted) <= result.half
    assert held >= 0.93 * trials  # 0.95, less two standard errors of it


def test_reasons_name_files_that_exist():
    for file, *_ in score.reasons():
        assert (defects.ROOT / file).exists()
    assert all(score.reasons().values())


def test_the_page_shows_what_is_on_record():
    assert score.table(score.recorded(), score.reasons()) in score.PAGE.read_text()
