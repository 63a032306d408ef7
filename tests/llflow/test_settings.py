"""Settings and presets: the same ones give the same bytes, wherever they come from."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llflow import enhance
from llflow.commands import enhance as command
from llflow.picture import files
from llflow.settings import Settings, SettingsError


@pytest.fixture
def dark(tmp_path):
    levels = np.random.default_rng(0).integers(0, 60, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "dark.png")
    return tmp_path / "dark.png"


def test_they_are_the_functions_arguments_and_the_commands_options():
    arguments = inspect.signature(enhance).parameters
    chosen = Settings().arguments()
    assert {"precision": "auto"} | {
        name: arguments[name].default for name in chosen if name != "precision"
    } == chosen
    options = {option.name: option for option in command.command.params}
    for name in Settings.model_fields:
        assert name in options
        default = Settings.model_fields[name].default
        assert options[name].default in (default, None) or "UNSET" in repr(options[name].default)


@pytest.mark.parametrize("name", Settings.shipped())
def test_shipped_presets_mean_something_and_say_what(name):
    assert Settings.read(name) != Settings()
    text = (Path(command.__file__).parents[1] / "presets" / f"{name}.toml").read_text()
    assert text.startswith("# ")
    assert (
        name
        in command.command.params[[p.name for p in command.command.params].index("preset")].help
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"brightnes": 1.0}, r"no setting is called 'brightnes'; did you mean 'brightness'\?"),
        ({"brightness": "1"}, "brightness to be a valid number, got '1'"),
        ({"brightness": float("nan")}, "brightness to be a finite number"),
        ({"exposure": 1.5}, "exposure to be 'auto' or a number between 0 and 1, got 1.5"),
        ({"exposure": "high"}, "exposure to be 'auto' or a number between 0 and 1, got 'high'"),
        ({"samples": 2.5}, "samples to be a valid integer"),
        ({"samples": True}, "samples to be a valid integer"),
        ({"samples": 2, "temperature": 0.0}, "samples 1 at temperature 0"),
        ({"depth": "12"}, "depth to be '8', '16' or '32f', got '12'"),
        ({"quality": 0}, "quality to be greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_named(settings, message):
    with pytest.raises(SettingsError, match=message):
        Settings(**settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"strenght = 0.5", r"mine.toml: no setting is called 'strenght'; did you mean 'strength'"),
        (b"strength = ", "mine.toml: not TOML"),
        (b"\xff", "mine.toml: not TOML"),
        (None, r"mine.toml: no such file, nor a shipped preset \(bright, smooth, subtle\)"),
    ],
)
def test_a_file_that_is_no_preset_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        Settings.read(tmp_path / "mine.toml")


def test_what_is_typed_holds_instead_of_the_presets(llflow, weights, dark, tmp_path):
    (tmp_path / "mine.toml").write_text('brightness = 1.0\nseed = 4\nformat = "TIFF"\n')
    call = ("enhance", dark, "--weights", weights, "--json")
    for options, expected in [
        ((), (0.0, 0, None, "dark_bright.png")),
        (("--preset", tmp_path / "mine.toml"), (1.0, 4, "TIFF", "dark_bright.tif")),
        (("--preset", tmp_path / "mine.toml", "--seed", 0), (1.0, 0, "TIFF", "dark_bright.tif")),
        (
            ("--brightness", 0, "--preset", tmp_path / "mine.toml"),
            (0.0, 4, "TIFF", "dark_bright.tif"),
        ),
        (("--preset", "bright"), (0.5, 0, None, "dark_bright.png")),
    ]:
        code, out, _ = llflow(*call, *options, "--overwrite")
        said = json.loads(out)
        settings = said["settings"]
        assert code == 0
        assert Path(said["target"]).name == expected[-1]
        assert (settings["brightness"], settings["seed"], settings["format"]) == expected[:3]


@pytest.mark.parametrize("preset", Settings.shipped())
def test_the_same_bytes_from_the_command_and_from_python(
    llflow, weights, nano, dark, tmp_path, preset
):
    llflow("enhance", dark, "-o", tmp_path / "a.png", "--weights", weights, "--preset", preset)
    settings = Settings.read(preset)
    picture = files.read(dark)
    bright = enhance(nano.fold(), picture.image, **settings.arguments())
    files.write(tmp_path / "b.png", picture.with_image(bright))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_record_says_settings_and_weights_and_repeats(llflow, weights, dark, tmp_path):
    call = ("enhance", dark, "--weights", weights, "--brightness", 1, "--record")
    for name in ("a.png", "b.png"):
        assert llflow(*call, "-o", tmp_path / name)[0] == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    xmp = files.read(tmp_path / "a.png").about.xmp.decode()
    assert "llflow " in xmp
    _, out, _ = llflow(*call, "-o", tmp_path / "c.png", "--json")
    said = json.loads(out)
    assert said["weights"] in xmp
    assert "&quot;brightness&quot;: 1.0" in xmp
    llflow(*call[:-1], "-o", tmp_path / "d.png")
    assert files.read(tmp_path / "d.png").about.xmp == b""
    code, _, err = llflow(*call, "-o", tmp_path / "e.bmp")
    assert (code, err) == (0, f"llflow: {dark}: warning: BMP can't hold XMP")
