"""`~` in the paths of every command."""

from pathlib import Path

import pytest
import torch

from hrnet_kpt.cli import predict, train
from hrnet_kpt.cli.main import COMMANDS

# Metavars of flags whose values are not paths.
OTHERS = {"N", "S", "URL", "NAME", "HxW", "key=value"}


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")


def is_path(action):
    return (
        action.option_strings
        and action.nargs != 0
        and action.type in (None, Path)
        and action.metavar not in (None, *OTHERS)
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_home_folder_in_every_path(name, home):
    parser = COMMANDS[name].parser()
    flags = [action for action in parser._actions if is_path(action)]
    assert flags
    for separator in (" ", "="):
        words = [
            word
            for name in (flag.option_strings[-1] for flag in flags)
            for word in f"{name}{separator}~/{name}".split(" ")
        ]
        args = vars(parser.parse_intermixed_args(words))
        for flag in flags:
            value = args[flag.dest]
            value = value[0] if isinstance(value, list) else str(value)
            assert value == f"/home/somebody/{flag.option_strings[-1]}"


def test_what_is_no_path_stays(home):
    parser = train.parser()
    words = ["~train.ema", "~/x", "a.b=~/x", "+a.b=~x"]
    args = parser.parse_intermixed_args(["--config-file", "~x", *words])
    assert args.config_file == "~x"
    assert args.overrides == ["~train.ema", "/home/somebody/x", "a.b=~/x", "+a.b=~x"]
    parser = predict.parser()
    args = parser.parse_intermixed_args(["--input", "@~/list.txt", "~", "a~/b"])
    assert args.inputs == ["@/home/somebody/list.txt", "/home/somebody", "a~/b"]


def test_home_folder_in_python(tmp_path, monkeypatch):
    from hrnet_kpt.config.load import find_config
    from hrnet_kpt.inference.predictor import files_of_run

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.yaml").touch()
    content = {"model": {}, "trainer": {}, "iteration": 1}
    torch.save(content, tmp_path / "model_final.pth")
    assert find_config("~/config.yaml") == tmp_path / "config.yaml"
    assert files_of_run("~") == (f"{tmp_path}/config.yaml", f"{tmp_path}/model_final.pth")
