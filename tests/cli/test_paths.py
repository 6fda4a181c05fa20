"""`~` in the paths of every command."""

import ntpath
from pathlib import Path

import pytest
import torch

from hrnet_kpt.cli import predict, train
from hrnet_kpt.cli.main import COMMANDS
from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.weights.read import is_url

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


def test_home_folder_and_paths_of_windows(monkeypatch):
    monkeypatch.setenv("USERPROFILE", r"C:\Users\me")
    monkeypatch.setattr("os.path.expanduser", ntpath.expanduser)
    args = train.parser().parse_intermixed_args(["--config-file", r"~\a.py", r"x=~\y"])
    assert (args.config_file, args.overrides) == (r"C:\Users\me\a.py", [r"x=~\y"])


@pytest.mark.parametrize("path", [r"C:\Users\me\my runs\new", r"\\server\share\a=1", "C:/x y/z"])
def test_windows_path_in_an_override(path, tmp_path):
    """It is the value, in the config, in its yaml and in its Python."""
    cfg = load_config("hrnet_w18_kpt.py", [f"train.output_dir={path}"])
    assert cfg.train.output_dir == path
    for name in ("config.yaml", "config.py"):
        save_config(cfg, tmp_path / name)
        assert load_config(tmp_path / name).train.output_dir == path


def test_windows_path_is_no_address():
    assert not is_url(r"C:\weights\w18.pth") and not is_url("D:/w18.pth")
