"""The command `flowkit` and the plug-ins it finds."""

import os
import subprocess
import sys
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
        raise ImportError("no module named 'something'\nand more about it")


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


@pytest.mark.parametrize(
    "argv", [["--strength", "2"], ["--help"], ["--", "-x"], ["a", "--", "b"], ["--version"], []]
)
def test_what_follows_the_name_is_the_plugins_and_so_is_the_exit_code(bright, argv):
    assert main(["bright", *argv]) == 3
    assert bright.argv == argv


@pytest.mark.parametrize(
    ("argv", "answer"),
    [
        (["brigth"], "flowkit: no plug-in 'brigth'; did you mean 'bright'?\n"),
        (["inof"], "flowkit: no plug-in 'inof'; did you mean 'info'?\n"),
        (["x"], "flowkit: no plug-in 'x'; there are: info, check, bright, broken, z\n"),
        (["--nosuch"], "flowkit: No such option '--nosuch'.\n"),
        (["info", "cuda"], "flowkit: Got unexpected extra argument (cuda)\n"),
        (["check"], "flowkit: Missing argument 'NAME'.\n"),
        (["check", "nosuch"], "flowkit: no plug-in and no module 'nosuch'; there are: bright, "),
        (["check", "nosuch.at.all"], "flowkit: no plug-in and no module 'nosuch.at.all'; there "),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(bright, capsys, argv, answer):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(answer)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("argv", [["broken"], ["check", "broken"]])
def test_broken_plugin_says_so_when_run(bright, capsys, argv):
    assert main(argv) == 1
    assert capsys.readouterr().err == (
        "flowkit: plug-in 'broken' can't be imported: ImportError: no module named 'something'\n"
    )


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        ({}, "TypeError: expected `summary`, one line of text"),
        (
            {"summary": "s", "packages": "mine"},
            "TypeError: expected `packages` as a tuple of import names, got 'mine'",
        ),
        ({"summary": "s", "main": 3}, "TypeError: expected `main` as a function of argv, got 3"),
    ],
)
def test_what_is_no_plugin_says_why(monkeypatch, capsys, offered, reason):
    entry = SimpleNamespace(load=lambda: SimpleNamespace(**offered))
    monkeypatch.setattr(plugins, "found", lambda: {"mine": entry})
    assert main(["mine"]) == 1
    assert capsys.readouterr().err == f"flowkit: plug-in 'mine' can't be imported: {reason}\n"


def test_a_plugin_may_offer_layers_alone(monkeypatch, capsys):
    entry = SimpleNamespace(
        load=lambda: SimpleNamespace(summary="two layers", packages=("flowkit.layers.flip",))
    )
    monkeypatch.setattr(plugins, "found", lambda: {"mine": entry})
    assert main([]) == 0
    assert capsys.readouterr().out == "mine  two layers\n"
    assert main(["mine", "--help"]) == 2
    assert capsys.readouterr().err == (
        "flowkit: plug-in 'mine' offers layers alone, no command (flowkit check mine checks them)\n"
    )
    assert main(["check", "mine"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("layers: 1, ")


def test_a_plugin_may_offer_a_command_alone(monkeypatch, capsys):
    called = []
    module = SimpleNamespace(summary="runs", main=called.append)
    monkeypatch.setattr(plugins, "found", lambda: {"mine": SimpleNamespace(load=lambda: module)})
    assert main(["mine", "a"]) == 0
    assert called == [["a"]]
    assert main(["check", "mine"]) == 1
    assert capsys.readouterr().err == "flowkit: no layers in mine\n"


def test_no_plugins(monkeypatch, capsys):
    monkeypatch.setattr(plugins, "found", dict)
    assert main([]) == 0
    assert capsys.readouterr().out == "no plug-ins are installed\n"


def test_version_and_help(bright, capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flowkit {flowkit.__version__}\n"
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "flowkit llflow --help" in out
    for name in ("info", "check", "bright"):
        assert f"\n  {name} " in out


def test_llflow_is_installed_and_keeps_to_the_plugin_contract():
    plugin = plugins.load(plugins.found()["llflow"])
    assert "\n" not in plugin.summary
    assert plugin.packages == ("llflow",)
    assert plugin.main is not None


def test_info_tells_what_runs_and_why(capsys, monkeypatch):
    monkeypatch.setenv("FLOWKIT_IMPL", "auto")
    assert main(["info"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"flowkit {flowkit.__version__}, torch ")
    on_cpu = [line for line in lines if " cpu " in line]
    assert len(on_cpu) == 6
    assert all("reference: the kernels are for CUDA, this is cpu" in line for line in on_cpu)
    monkeypatch.setenv("FLOWKIT_IMPL", "fast")
    assert main(["info"]) == 0
    assert "refused: FLOWKIT_IMPL: expected" in capsys.readouterr().out


LAYERS = """
import torch
from flowkit import Bijection, Example, wide, zero_logdet

class Doubled(Bijection):
    conditional = False

    def forward(self, x, cond=None):
        return 2 * wide(x), zero_logdet(x) + LOGDET

    def inverse(self, y, cond=None):
        return wide(y) / 2, zero_logdet(y) - LOGDET

    @classmethod
    def examples(cls):
        return [Example(cls, (3,), name="vectors")]

class Unlisted(Doubled):
    @classmethod
    def examples(cls):
        return []
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_check_finds_a_wrong_layer_and_one_without_examples(folder, capsys):
    (folder / "wrong_layers.py").write_text(LAYERS.replace("LOGDET", "0"))
    assert main(["check", "wrong_layers"]) == 1
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [
        "failed  Doubled[vectors]",
        "failed  Unlisted",
        "layers: 2, examples: 2, failed: 2",
    ]
    assert "Doubled" in (why := out.splitlines()[1])
    assert "log-det" in why
    assert "expected examples()" in out


def test_check_passes_a_right_layer(folder, capsys):
    right = LAYERS[: LAYERS.index("class Unlisted")].replace("LOGDET", "2.0794415416798357")
    (folder / "right_layers.py").write_text(right)
    assert main(["check", "right_layers"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok      Doubled[vectors]",
        "layers: 1, examples: 1, failed: 0",
    ]


def test_check_of_what_is_no_module_of_layers(folder, capsys):
    (folder / "empty.py").write_text("")
    (folder / "raises.py").write_text("raise RuntimeError('by itself')")
    for name, code, answer in (
        ("empty", 1, "flowkit: no layers in empty\n"),
        ("empty.py", 2, "flowkit: no plug-in and no module 'empty.py'; did you mean 'empty'?\n"),
        ("raises", 1, "flowkit: 'raises' can't be imported: RuntimeError: by itself\n"),
    ):
        assert main(["check", name]) == code
        assert capsys.readouterr().err == answer


def test_check_of_a_plugin_whose_package_is_missing(monkeypatch, capsys):
    module = SimpleNamespace(summary="s", packages=("no_such_package",))
    monkeypatch.setattr(plugins, "found", lambda: {"mine": SimpleNamespace(load=lambda: module)})
    assert main(["check", "mine"]) == 1
    assert capsys.readouterr().err == (
        "flowkit: 'no_such_package' can't be imported: "
        "ModuleNotFoundError: No module named 'no_such_package'\n"
    )


def test_check_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert main(["check", "flowkit.layers"]) == 1
    assert capsys.readouterr().err == (
        "flowkit: check needs hypothesis: pip install 'flowkit[testing]'\n"
    )


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_as_a_module():
    result = run(sys.executable, "-m", "flowkit", "nosuch")
    assert result.returncode == 2
    assert result.stderr.startswith("flowkit: no plug-in 'nosuch'; there are: info, check")
    assert run(sys.executable, "-m", "flowkit", "--version").stdout == (
        f"flowkit {flowkit.__version__}\n"
    )


def test_lists_and_help_need_no_pytorch():
    code = (
        "import sys; from flowkit.cli import main\n"
        "codes = [main(argv) for argv in ([], ['--help'], ['info', '--help'], ['nosuch'])]\n"
        "print(codes, 'torch' in sys.modules, file=sys.stderr)"
    )
    assert run(sys.executable, "-c", code).stderr.splitlines()[-1] == "[0, 0, 0, 2] False"


def test_the_shell_completes_commands_and_plugins():
    environment = {
        **os.environ,
        "_FLOWKIT_COMPLETE": "bash_complete",
        "COMP_WORDS": "flowkit ",
        "COMP_CWORD": "1",
    }
    completed = run(sys.executable, "-m", "flowkit", env=environment).stdout
    assert {"plain,info", "plain,check", "plain,llflow"} <= set(completed.split())


def test_a_reader_that_has_gone_gets_no_traceback():
    command = f"{sys.executable} -m flowkit info | true; echo ${{PIPESTATUS[0]}}"
    result = run("bash", "-c", command)
    assert result.stderr == ""
    assert result.stdout in ("0\n", "1\n")
