"""The command `flowkit` and the plug-ins it finds."""

from types import SimpleNamespace

import pytest

import flowkit
from flowkit import plugins
from flowkit.cli import main


class Plugin:
    """Stands for an entry point."""

    def __init__(self, summary, exit_code=0):
        self.argv = None
        self.module = SimpleNamespace(summary=summary, main=self.main, packages=())
        self.exit_code = exit_code

    def main(self, argv):
        self.argv = argv
        return self.exit_code

    def load(self):
        return self.module


class Broken:
    def load(self):
        raise ImportError("no module named 'something'")


@pytest.fixture
def bright(monkeypatch):
    plugin = Plugin("makes things bright", exit_code=3)
    found = {"bright": plugin, "broken": Broken(), "z": Plugin("the last")}
    monkeypatch.setattr(plugins, "found", lambda: found)
    return plugin


def test_without_arguments_lists_plugins(bright, capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "bright  makes things bright",
        "broken  broken: ImportError: no module named 'something'",
        "z       the last",
    ]


def test_arguments_and_exit_code_pass_through(bright):
    assert main(["bright", "--strength", "2"]) == 3
    assert bright.argv == ["--strength", "2"]


def test_options_after_the_name_are_the_plugins(bright):
    assert main(["bright", "--help"]) == 3
    assert bright.argv == ["--help"]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("brigth", "flowkit: no plug-in 'brigth'; did you mean 'bright'?\n"),
        ("nosuch", "flowkit: no plug-in 'nosuch'; there are: bright, broken, z\n"),
    ],
)
def test_unknown_name_is_one_line_and_exit_code_2(bright, capsys, name, answer):
    assert main([name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == answer


def test_broken_plugin_says_so_when_run(bright, capsys):
    assert main(["broken"]) == 1
    assert capsys.readouterr().err == (
        "flowkit: plug-in 'broken' can't be imported: ImportError: no module named 'something'\n"
    )


def test_no_plugins(monkeypatch, capsys):
    monkeypatch.setattr(plugins, "found", dict)
    assert main([]) == 0
    assert capsys.readouterr().out == "no plug-ins are installed\n"


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flowkit {flowkit.__version__}\n"
    assert main(["--help"]) == 0
    assert "example: flowkit llflow --help" in capsys.readouterr().out


def test_llflow_is_installed_and_keeps_to_the_plugin_contract():
    plugin = plugins.found()["llflow"].load()
    assert "\n" not in plugin.summary
    assert plugin.packages == ("llflow",)
    assert callable(plugin.main)


def test_info_tells_what_runs_and_why(capsys, monkeypatch):
    monkeypatch.setenv("FLOWKIT_IMPL", "auto")
    assert main(["info"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"flowkit {flowkit.__version__}, torch ")
    on_cpu = [line for line in lines if " cpu " in line]
    assert len(on_cpu) == 6
    assert all(": the kernels are for CUDA, this is cpu" in line for line in on_cpu)
    assert {line.split()[-9] for line in on_cpu} == {"eager:", "reference:"}
    monkeypatch.setenv("FLOWKIT_IMPL", "fast")
    assert main(["info"]) == 0
    assert "refused: FLOWKIT_IMPL: expected" in capsys.readouterr().out
    assert main(["info", "cuda"]) == 2
    assert capsys.readouterr().err == "flowkit: info takes no arguments, got 'cuda'\n"
