"""The benchmarks measure in turn, refuse what is wrong, and their page says what was found."""

import json
import re
import time

import against
import coupling
import enhance
import enhance_precision
import flow_step
import linear
import lines
import measure
import memory
import pytest
import report
import samples
import tarflow
import torch
import training_step
import training_throughput
from measure import Spread, Target, Times, WrongResult
from plain_llflow import PlainLLFlow

from llflow.network.live_bytes import LiveBytes

BENCHMARKS = (
    coupling,
    linear,
    flow_step,
    lines,
    memory,
    samples,
    tarflow,
    enhance,
    enhance_precision,
    training_step,
    training_throughput,
)


def test_ratios_are_taken_within_a_round():
    # The machine is ten times slower in the third round, which changes no ratio.
    times = Times({"a": [1.0, 1.0, 10.0], "b": [2.0, 2.0, 20.0]}, "a clock")
    assert times.ratio("b", to="a") == Spread(2.0, 2.0, 2.0)
    assert times.ratio("a", to="b") == Spread(0.5, 0.5, 0.5)
    assert times.least("b") == 2.0
    assert times.fastest(["b", "a"]) == "a"


def test_a_ratio_has_its_quartiles():
    times = Times({"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [1.0] * 5}, "a clock")
    assert times.ratio("a", to="b") == Spread(median=3.0, lower=2.0, upper=4.0)
    assert str(times.ratio("a", to="b")) == "3.00 (2.00 to 4.00)"


def test_ways_take_turns():
    called = []
    ways = {name: lambda name=name: called.append(name) or time.sleep(1e-3) for name in "abc"}
    times = measure.take_turns(ways, rounds=3, shortest=0)
    assert "".join(called[6:]) == "abc" + "bca" + "cab"  # after two calls each to warm up
    assert [len(seconds) for seconds in times.seconds.values()] == [3, 3, 3]


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(torch.tensor([1.0, 2.001]), id="error"),
        pytest.param(torch.tensor([1.0, float("nan")]), id="not a number"),
        pytest.param(torch.tensor([[1.0, 2.0]]), id="shape"),
        pytest.param((torch.tensor([1.0, 2.0]),) * 2, id="number of tensors"),
    ],
)
def test_what_is_wrong_is_refused_by_name(result):
    expected = torch.tensor([1.0, 2.0])
    measure.agree("this way", expected + 1e-5, expected, 1e-4)
    with pytest.raises(WrongResult, match=r"this way: expected .* not timed"):
        measure.agree("this way", result, expected, 1e-4)


def test_a_wrong_coupling_isnt_timed(monkeypatch):
    monkeypatch.setattr(coupling, "ours", lambda x, params: coupling.plain(x + 1e-2, params))
    monkeypatch.setattr(measure, "take_turns", None)
    with pytest.raises(WrongResult, match="flowkit, forward"):
        coupling.main(["--quick"])


def test_a_target_is_met_or_not():
    fewer, more = Target("time", 0.8), Target("speed", 2.0, "×", at_least=True)
    judged = [fewer.judged(0.8), fewer.judged(0.81), more.judged(2.0), more.judged(1.99)]
    assert [row["met"] for row in judged] == [True, False, True, False]
    unknown = more.judged(None, "needs a GPU")
    rows = measure.shown_targets([judged[1], judged[2], unknown])
    assert [list(row.values())[1:] for row in rows] == [
        ["≤ 0.8", "0.81", "**no**", ""],
        ["≥ 2×", "2×", "yes", ""],
        ["≥ 2×", "not measured", "–", "needs a GPU"],
    ]


def test_live_bytes_are_counted_until_they_are_freed():
    before = torch.ones(1000)
    with LiveBytes() as live:
        for _ in range(3):
            x = before[:256] + 1
        view = x.view(16, 16)
        del x, view
    assert (live.now, live.peak) == (0, 2048)


def test_the_plain_network_is_the_same():
    model = enhance.random_model("narrow")
    plain = PlainLLFlow.like(model)
    pair = torch.rand(2, 3, 16, 24), torch.rand(2, 6, 16, 24) - 1
    torch.testing.assert_close(plain.nll(*pair), model.nll(*pair), rtol=1e-5, atol=1e-5)
    cond = model.condition(pair[1])
    torch.testing.assert_close(plain.enhance(pair[1]), model.typical(cond), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda module: module.__name__)
def test_a_benchmark_runs_and_says_where_it_is_from(benchmark, tmp_path, capsys):
    threads = torch.get_num_threads()
    try:
        benchmark.main(["--quick", "--out", str(tmp_path), "--threads", "1"])
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert records
    for record in records:
        assert record["benchmark"].startswith(benchmark.__name__)
        assert record["versions"]["torch"] == torch.__version__
        assert record["machine"]["processor"]
        assert record["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", record["commit"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", record["date"])
        for op, choice in record["implementation"].items():
            assert choice["name"] == "reference", op
        assert str(tmp_path) not in json.dumps(record)
        for rows in record["tables"].values():
            assert measure.markdown(rows) in printed
    found = report.read(tmp_path)
    assert "# Benchmarks" in report.page(found, "details")
    assert all(record["question"] in report.detail(record, None) for record in found)


def test_two_checkouts_take_turns(tmp_path, capsys):
    options = ["--sizes", "narrow", "--steps", "train", "--out", str(tmp_path), "--quick"]
    against.main(["--against", str(measure.REPOSITORY), *options])
    record = json.loads((tmp_path / "against.json").read_text())
    [row] = record["tables"]["Whole steps"]
    # The same code twice; how far from 1 it may be is the machine's.
    assert 0.2 < row["time, of the other checkout's"]["median"] < 5


def test_another_checkout_has_to_be_one(tmp_path, capsys):
    with pytest.raises(SystemExit):
        against.main(["--against", str(tmp_path)])
    assert "expected a checkout with a folder flowkit" in capsys.readouterr().err


def test_a_failing_step_ends_the_comparison(capfd):
    with against.Checkout(measure.REPOSITORY) as now, pytest.raises(SystemExit, match="none"):
        now.ask("none", "train")
    assert "KeyError" in capfd.readouterr().err


def test_every_layer_has_a_file_and_examples(tmp_path):
    lines.main(["--quick", "--out", str(tmp_path)])
    tables = json.loads((tmp_path / "lines.json").read_text())["tables"]
    files, [counts] = tables.values()
    rows = {row["file"]: row for row in files}
    assert rows["layers/coupling.py"]["examples"] >= 3
    assert rows["layers/coupling.py"]["lines"] > 30
    assert counts["cases"] == counts["examples"] * counts["checks"] > 500


def test_reversible_saves_the_same_however_many_steps():
    saved = [row["saved by Reversible, MB"] for row in memory.by_steps()]
    assert len(saved) > 2
    assert len({*saved}) == 1


def test_quick_runs_leave_the_results_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    linear.main(["--quick"])
    assert not list(tmp_path.iterdir())


RECORD = {
    "benchmark": "coupling",
    "question": "How fast?",
    "description": "As fast as can be.",
    "command": "python benchmarks/coupling.py",
    "date": "2026-01-02 03:04",
    "machine": {"processor": "a processor", "cores": 2, "threads": 1, "gpu": None},
    "versions": {"python": "3.11", "torch": "2.13"},
    "commit": "0123456789abcdef0123456789abcdef01234567-dirty",
    "settings": {"device": "cpu"},
    "clock": "processor time",
    "implementation": {"affine_coupling": {"name": "reference", "reason": "asked for"}},
    "tables": {
        "Sizes": [
            {"what": "forward", "way": way, "least ms": ms, "time, of plain": spread}
            for way, ms, spread in (
                ("flowkit", 0.5, {"median": 0.5, "lower": 0.4, "upper": 0.6}),
                ("plain", 1.0, {"median": 1.0, "lower": 1.0, "upper": 1.0}),
            )
        ]
    },
    "targets": [Target("speed", 2, "×", True).judged(None, "needs a GPU")],
}


def test_the_page_says_what_the_records_say(tmp_path, capsys):
    on_gpu = RECORD | {
        "settings": {"device": "cuda"},
        "machine": RECORD["machine"] | {"gpu": "a GPU"},
        "targets": [Target("speed", 2, "×", True).judged(3.0)],
    }
    folder, file = tmp_path / "results", tmp_path / "docs" / "benchmarks.md"
    measure.write(folder / "coupling.json", RECORD)
    measure.write(folder / "coupling_gpu.json", on_gpu)
    measure.write(folder / "table4.json", {"experiment": "table4"})  # not a benchmark's
    report.main(["--results", str(folder), "--page", str(file)])
    text = file.read_text()
    assert "| speed | ≥ 2× | 3× | yes |  |" in capsys.readouterr().out
    row = "| speed | ≥ 2× | 3× | yes |  | [coupling_gpu](benchmarks/coupling_gpu.md) |"
    assert row in text
    assert "table4" not in text
    assert "Not measured on the layers as they are now: `benchmarks/lines.py`, " in text
    assert "`benchmarks/coupling.py`" not in text.partition("Not measured")[2]
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len({*links}) == 2
    for link in links:
        behind = (file.parent / link).read_text()
        assert "| forward | flowkit | 0.5 | 0.50 (0.40 to 0.60) |" in behind
        assert "commit 0123456789ab with changes" in behind
        assert "processor time" in behind
        assert "affine_coupling: reference" in behind
        [plot] = re.findall(r"!\[.*\]\((.+)\)", behind)
        assert ((file.parent / link).parent / plot).read_bytes().startswith(b"\x89PNG")
    assert "a processor; 2 cores; threads: 1" in (file.with_suffix("") / "coupling.md").read_text()


def test_no_results_are_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        report.main(["--results", str(tmp_path)])
    assert "expected results of benchmarks" in capsys.readouterr().err
