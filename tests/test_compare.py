"""benchmarks/compare.py notices what has become worse, and nothing else."""

import json

import compare
import measure
import pytest


def run(tmp_path, name, *, target=0.9, at_least=False, time=1.0, quartile=0.01):
    """The folder of a run with one target and one time."""
    spread = {"median": time, "lower": time - quartile, "upper": time + quartile}
    one = {"median": 1.0, "lower": 1.0, "upper": 1.0}
    record = {
        "benchmark": "flow_step",
        "targets": [
            {"what": "memory", "value": 1, "unit": "", "at_least": at_least, "result": target},
            {"what": "a GPU's", "value": 1, "unit": "", "at_least": False, "result": None},
        ],
        "tables": {
            "steps": [
                {"what": "encode", "way": "flowkit", "time, of the peer": spread},
                {"what": "encode", "way": "peer", "time, of the peer": one},
            ]
        },
    }
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    (folder / "flow_step.json").write_text(json.dumps(record))
    return folder


def verdicts(capsys, *arguments):
    code = compare.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().out


def test_the_same_is_neither(tmp_path, capsys):
    code, said = verdicts(capsys, run(tmp_path, "old"), run(tmp_path, "new"))
    assert (code, said) == (0, "2 numbers: 0 worse, 0 better\n")


@pytest.mark.parametrize("at_least", [False, True])
def test_a_target_has_a_side_that_is_wrong(tmp_path, capsys, at_least):
    old = run(tmp_path, "old", target=1.0, at_least=at_least)
    new = run(tmp_path, "new", target=1.1, at_least=at_least)
    worse, better = ((old, new), (new, old))[:: -1 if at_least else 1]
    code, said = verdicts(capsys, *worse)
    assert code == 1
    assert "| flow_step: memory |" in said
    assert "1 worse, 0 better" in said
    assert verdicts(capsys, *better)[0] == 0


def test_a_time_is_worse_where_its_quartiles_lie_apart(tmp_path, capsys):
    old = run(tmp_path, "old", time=1.0)
    assert verdicts(capsys, old, run(tmp_path, "new", time=1.1))[0] == 1
    assert verdicts(capsys, old, run(tmp_path, "new", time=1.02))[0] == 0  # within the tolerance
    assert verdicts(capsys, old, run(tmp_path, "new", time=1.1, quartile=0.2))[0] == 0
    assert verdicts(capsys, old, run(tmp_path, "new", time=1.02), "--tolerance", 0)[0] == 0
    assert verdicts(capsys, old, run(tmp_path, "new", time=1.03), "--tolerance", 0)[0] == 1


def test_files_and_what_is_refused(tmp_path, capsys):
    old, new = run(tmp_path, "old"), run(tmp_path, "new", time=2.0)
    assert verdicts(capsys, old / "flow_step.json", new / "flow_step.json")[0] == 1
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ((old, tmp_path / "missing"), "which isn't there"),
        ((tmp_path / "empty", new), "found none"),
    ):
        with pytest.raises(SystemExit):
            compare.main([str(argument) for argument in arguments])
        assert message in capsys.readouterr().err


def test_the_repository_s_results_agree_with_themselves(capsys):
    code, said = verdicts(capsys, measure.RESULTS, measure.RESULTS, "--all")
    assert code == 0
    assert "flow steps" in said
