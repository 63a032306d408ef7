"""The table beside other libraries: its densities are exact, its runs go on where they stopped, and
its page says what the records say."""

import bz2
import json
import math
import zipfile
from dataclasses import replace

import densities
import journal
import measure
import page
import pictures
import pytest
import run
import simulators
import splines
import tables
import torch
import wheels
from c2st import c2st
from journal import Cell, Journal
from likelihood import Training, train
from toys import TOYS


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_as_dense_as_it_is_drawn(name):
    side, reach = 400, 5.5
    line = (2 * (torch.arange(side, dtype=torch.float64) + 0.5) / side - 1) * reach
    x = torch.cartesian_prod(line, line)
    log_prob = TOYS[name].log_prob(x)
    mass = log_prob.exp() * (2 * reach / side) ** 2
    # Fields and arms end between two points of the grid, of which there are `side` in a line.
    assert mass.sum() == pytest.approx(1, abs=5 / side)
    torch.manual_seed(0)
    draws = TOYS[name].draw(40_000).double()
    assert TOYS[name].log_prob(draws).isfinite().all()
    for function in (lambda x: x[:, 0] * x[:, 1], lambda x: (3 * x[:, 0]).sin() * x[:, 1].cos()):
        value = function(draws)
        # Six deviations of the draws' mean, and the grid's error.
        error = 6 * value.std() / len(draws) ** 0.5 + 5 / side * value.abs().max()
        assert abs((mass * function(x)).sum() - value.mean()) < error


@pytest.mark.parametrize("task", simulators.SIMULATORS)
def test_a_simulator_draws_what_the_paper_says(task):
    simulator = simulators.SIMULATORS[task]
    torch.manual_seed(0)
    parameters = simulator.prior(20_000)
    data = simulator.data(parameters)
    shapes = {"two_moons": (2, 2), "gaussian_mixture": (2, 2), "slcp": (5, 8)}
    assert (parameters.shape[1], data.shape[1]) == shapes.get(task, (10, 10))
    assert simulator.supports(parameters).all()
    if simulator.bound is not None:
        assert not simulator.supports(parameters + 2.1 * simulator.bound).any()
        assert parameters.abs().max() > 0.99 * simulator.bound


def test_four_points_have_the_moments_that_five_parameters_give_them():
    torch.manual_seed(0)
    parameters = torch.tensor([[0.5, -1.0, 1.2, -0.7, 0.6]])
    points = simulators.slcp(parameters.expand(20_000, 5)).view(-1, 2)
    first, second, correlation = 1.2**2, 0.7**2, torch.tensor(0.6).tanh().item()
    # Of 80,000 points: six deviations of a mean, and of a correlation.
    torch.testing.assert_close(points.mean(0), parameters[0, :2], rtol=0, atol=6 * first / 280)
    assert points.std(0).tolist() == pytest.approx([first, second], rel=6 / 400)
    assert points.T.corrcoef()[0, 1].item() == pytest.approx(correlation, abs=6 / 280)


def test_filters_are_smooth_as_their_precision_says():
    torch.manual_seed(0)
    drawn = simulators.smooth(200_000)
    difference = torch.eye(9) - torch.diag(torch.ones(8), -1)
    factor = difference @ difference + torch.diag(torch.arange(9) / 9).sqrt()
    expected = torch.linalg.inv(factor.T @ factor)
    found = drawn[:, 1:].T.cov()
    # An entry of a covariance errs by about its variances' mean over √200,000.
    torch.testing.assert_close(found, expected, rtol=0, atol=6 * expected.max().item() / 447)
    assert drawn[:, 0].var().item() == pytest.approx(2, rel=6 * (2 / 200_000) ** 0.5)


def test_a_classifier_tells_apart_what_differs():
    torch.manual_seed(0)
    # Half of each is where the other isn't: of four draws three are told, up to six deviations.
    found = c2st(torch.rand(150, 1), torch.rand(150, 1) + 0.5)
    assert found == pytest.approx(0.75, abs=6 * (0.75 * 0.25 / 300) ** 0.5)


FLOWS = splines.FLOWS


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("cond", [0, 3])
def test_every_flow_of_vectors_learns_and_draws(name, cond):
    def trained(rate):
        torch.manual_seed(0)
        x, given = TOYS["moons"].draw(200), torch.randn(200, cond) if cond else None
        density = FLOWS[name](2, cond)
        return density, given, train(density, x, given, Training(epochs=4, batch=90, rate=rate))

    *_, untrained = trained(1e-6)
    density, given, trained = trained(2e-3)
    assert trained.validation < untrained.validation
    assert trained.steps == 8
    assert trained.seconds > 0
    with torch.no_grad():
        draws = density.sample(None if given is None else given[:1], 50)
    assert draws.shape == (50, 2)
    assert draws.isfinite().all()


@pytest.mark.parametrize("name", FLOWS)
def test_a_seed_makes_the_same_flow_again(name):
    def made():
        torch.manual_seed(3)
        return FLOWS[name](4, 2).module.state_dict()

    torch.testing.assert_close(made(), made(), rtol=0, atol=0)


@pytest.mark.parametrize("name", pictures.PEERS)
def test_every_glow_is_a_density_of_pictures(name):
    torch.manual_seed(0)
    shape, number = (1, 4, 4), 0.1 * torch.randn(3, 1, 4, 4)
    density = pictures.PEERS[name](shape)
    pictures.fitted(density, torch.randint(256, (70, *shape), dtype=torch.uint8), 0.0)
    density.module.eval()
    with torch.no_grad():
        assert density.sample(None, 5).shape == (5, *shape)
        value = density.log_prob(number, None)
        assert value.shape == (3,)
        # One sample's density doesn't depend on the others.
        torch.testing.assert_close(
            density.log_prob(number[:1], None), value[:1], rtol=1e-4, atol=1e-3
        )


def test_a_record_goes_on_after_a_cut(tmp_path):
    path = tmp_path / "table_x.jsonl"
    record = Journal(path, {"date": "today"})
    record.append(Cell("a", "b", 0), {"value": 1.0})
    record.append(Cell("a", "b", 1), {"value": 2.0})
    with pytest.raises(BlockingIOError, match=r"expected table_x.jsonl for this run alone"):
        Journal(path, {})
    record.file.close()
    path.write_bytes(path.read_bytes()[:-5])
    assert [*journal.cells(path)] == [Cell("a", "b", 0)]
    again = Journal(path, {"date": "tomorrow"})
    again.append(Cell("a", "b", 1), {"value": 3.0})
    assert [cell["value"] for cell in journal.cells(path).values()] == [1.0, 3.0]
    assert [one["date"] for one in journal.runs(path)] == ["today", "tomorrow"]
    again.file.close()


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results, and a wheel that has one task's first two references."""
    monkeypatch.setattr(wheels, "CACHE", tmp_path)
    with zipfile.ZipFile(tmp_path / "sbibm-1.1.0-py2.py3-none-any.whl", "w") as file:
        for number in (1, 2):
            folder = f"sbibm/tasks/two_moons/files/num_observation_{number}"
            file.writestr(f"{folder}/observation.csv", "data_1,data_2\n-0.6,0.2\n")
            rows = "\n".join(f"{row / 100},{(row * 37 % 100) / 100}" for row in range(100))
            draws = bz2.compress(f"parameter_1,parameter_2\n{rows}\n".encode())
            file.writestr(f"{folder}/reference_posterior_samples.csv.bz2", draws)
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def test_a_run_goes_on_and_its_page_says_what_was_found(results, monkeypatch, capsys, tmp_path):
    options = ["--quick", "--results", str(results), "--part", "posteriors", "densities"]
    options += ["--tasks", "two_moons", "rings", "--peers", "flowkit", "zuko"]
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    run.main([*options, "--seeds", "1"])
    first = (results / "table_posteriors.jsonl").read_text()
    assert len(first.splitlines()) == 3
    run.main([*options, "--minutes", "0"])
    run.main([*options, "--seeds", "1"])
    assert (results / "table_posteriors.jsonl").read_text() == first

    def broken(*cell):
        raise RuntimeError("broken")

    parts = {"densities": densities.PART.__class__("densities", {"rings": ["zuko"]}, broken)}
    monkeypatch.setattr(run, "PARTS", parts)
    run.main(["--quick", "--results", str(results), "--seeds", "2", "--part", "densities"])
    last = json.loads((results / "table_densities.jsonl").read_text().splitlines()[-1])
    assert last["failed"] == "RuntimeError: broken"
    assert last["seed"] == 1
    parts["densities"] = replace(parts["densities"], measure=lambda *cell: {"value": math.inf})
    run.main(["--quick", "--results", str(results), "--seeds", "3", "--part", "densities"])
    last = json.loads((results / "table_densities.jsonl").read_text().splitlines()[-1])
    assert last["failed"] == "Diverged: expected finite figures, got {'value': inf}"
    assert str(tmp_path) not in first
    assert capsys.readouterr().out.count("rings, zuko") == 3


def test_what_cannot_be_asked_of_a_run(results, capsys):
    for options, words in (
        (["--quick"], "expected --results for --quick"),
        (["--seeds", "0"], "expected --seeds >= 1, got 0"),
        (["--results", str(results / "none")], "expected a folder for --results"),
        (["--tasks", "three_moons"], "invalid choice: 'three_moons'"),
    ):
        with pytest.raises(SystemExit):
            run.main(options)
        assert words in capsys.readouterr().err


def found(values):
    return {
        Cell("rings", peer, seed): {"value": value}
        for peer, of in values.items()
        for seed, value in enumerate(of)
    }


def test_a_row_compares_the_seeds_that_all_flows_have():
    part = replace(densities.PART, looked_at=frozenset())
    values = {peer: [0.3, 0.2, 0.4] for peer in part.tasks["rings"]}
    values |= {"flowkit": [0.1, 0.1, 0.3, 9.0], "zuko": [0.2, 0.15, 0.35]}
    row = page.Row(part, "rings", found(values))
    assert row.seeds == [0, 1, 2]
    assert row.difference() == ("zuko", pytest.approx([-0.1, -0.05, -0.05]))
    # Mean -0.0667, deviation 0.0289; Student's 97.5 % of two degrees of freedom is 4.303.
    assert page.shown(row.difference()[1], "+") == "-0.067 ± 0.072"
    assert page.standing(row) == "level"
    cells = found(values)
    cells[Cell("rings", "nflows", 0)] = {"failed": "it did"}
    row = page.Row(part, "rings", cells)
    assert row.seeds == [1, 2]
    assert page.standing(row) == "ahead"
    looked_at = page.Row(replace(part, looked_at=frozenset({0, 2})), "rings", found(values))
    assert (looked_at.seeds, looked_at.looked_at) == ([1], False)
    looked_at = page.Row(replace(part, looked_at=frozenset({0, 1, 2})), "rings", found(values))
    assert (looked_at.seeds, looked_at.looked_at) == ([0, 1, 2], True)
    once = found({peer: of[:1] for peer, of in values.items()})
    assert page.standing(page.Row(part, "rings", once)) == "not known"


def test_the_page_says_what_failed(tmp_path):
    record = Journal(tmp_path / "table_densities.jsonl", {})
    record.append(Cell("rings", "FrEIA", 0), {"failed": "it did"})
    record.file.close()
    text, rows = page.section(densities.PART, densities, record.path)
    assert not rows
    assert text.count("rings") == text.count("Failed: rings (FrEIA).") == 1


def test_the_page_is_that_of_the_records():
    assert page.PAGE.read_text() == page.page(measure.RESULTS)


def test_records_are_taken_over_whole_or_not(results, tmp_path, capsys):
    with pytest.raises(SystemExit):
        page.main(["--take", str(results), "--results", str(results)])
    assert "expected table_*.jsonl in --take, found none" in capsys.readouterr().err
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "table_tables.jsonl").write_text('{"run": 0}\n{"of": 0, "task": "wi')
    (elsewhere / "table_pictures.jsonl").touch()
    (results / "flow_step.json").write_text((measure.RESULTS / "flow_step.json").read_text())
    options = ["--take", str(elsewhere), "--results", str(results)]
    page.main([*options, "--page", str(tmp_path / "table.md")])
    assert (results / "table_tables.jsonl").read_text() == '{"run": 0}\n'
    assert "Not measured yet" in (tmp_path / "table.md").read_text()
    assert not (results / "table_pictures.jsonl").exists()
    more = '{"run": 0}\n{"of": 0, "task": "wine", "peer": "zuko", "seed": 0}\n'
    (results / "table_tables.jsonl").write_text(more)
    with pytest.raises(SystemExit):
        page.main(options)
    assert "lacks 1 of its cells, such as wine, zuko, 0" in capsys.readouterr().err
    assert (results / "table_tables.jsonl").read_text() == more


@pytest.mark.parametrize("name", ["diabetes", "wine", "breast_cancer", "digits"])
def test_a_table_is_standardised_by_the_rows_that_are_trained_on(name):
    x, cond = tables.TABLES[name]()
    rows = torch.arange(len(x) // 2)
    for columns in (x, cond):
        if columns is not None:
            scaled, unit = tables._standardized(columns, rows)
            assert scaled[rows].mean(0).abs().max() < 1e-5
            varied = columns[rows].std(0) > 0
            torch.testing.assert_close(
                scaled[rows].std(0)[varied], torch.ones(int(varied.sum())), rtol=1e-5, atol=0
            )
            assert (unit > 0).all()
