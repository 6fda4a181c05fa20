"""The commands, overrides and code of docs/training.md work."""

import re
import shlex
import sys
import types
from functools import partial

import pytest
from detectron2.config import LazyCall as L

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.engine import train

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture
def page(repository):
    return (repository / "docs" / "training.md").read_text()


@pytest.fixture
def blocks(code_blocks):
    return partial(code_blocks, "training.md")


def test_every_override_is_accepted(page):
    codes = [
        code
        for code in re.findall(r"`([^`\n]*)`", page)
        if re.match(r"[+~]?(train|model|data|opt|lr)", code)
    ]
    overrides = [word for code in codes for word in shlex.split(code) if "=" in word]
    assert len(overrides) > 12
    for override in overrides:
        load_config("hrnet_w18_kpt.py", [override])


def test_the_tools_accept_the_commands(blocks, parse_commands):
    lines = [line for block in blocks("") for line in re.sub(r"\\\n", " ", block).splitlines()]
    commands = [line[line.index("tools/") :] for line in lines if "tools/" in line]
    assert len(commands) >= 10
    parse_commands(map(shlex.split, commands))


class FakeRun:
    def __init__(self):
        self.logged, self.finished = {}, False

    def log(self, scalars, step):
        self.logged[step] = scalars

    def finish(self):
        self.finished = True


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_writers_of_the_page_write(name, blocks, tiny, tmp_path, monkeypatch):
    run = FakeRun()
    stand_in = types.ModuleType(name)
    stand_in.init = lambda **arguments: run
    stand_in.set_experiment = stand_in.start_run = lambda *args, **arguments: None
    stand_in.log_metrics, stand_in.end_run = run.log, run.finish
    monkeypatch.setitem(sys.modules, name, stand_in)
    [source] = [block for block in blocks("python") if f"import {name}" in block]
    (tmp_path / f"my_{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__(f"my_{name}")
    cfg = load_config(PAGE, [*tiny, "train.max_iter=2"])
    if name == "wandb":
        cfg.train.writers = [L(module.WandbWriter)(project="keypoints", name="w18")]
    else:
        cfg.train.writers = [L(module.MlflowWriter)(experiment="keypoints", name="w18")]
    train(cfg)
    assert sorted(run.logged) == [0, 1] and run.finished
    assert {"total_loss", "lr", "keypoints/AP"} <= set(run.logged[1])
    if name == "mlflow":  # it refuses other characters
        assert all(re.fullmatch(r"[\w\-. :/]+", key) for key in run.logged[1])


def test_the_config_with_a_writer_has_no_findings(blocks, repository, tmp_path, monkeypatch):
    [source] = [block for block in blocks("python") if "train.writers" in block]
    copy = tmp_path / "mine"
    copy.mkdir()
    for part in (repository / "configs").iterdir():
        (copy / part.name).symlink_to(part)
    (copy / "with_writer.py").write_text(source)
    writers = [block for block in blocks("python") if "import wandb" in block]
    (tmp_path / "my_writers.py").write_text(writers[0].replace("import wandb\n", ""))
    monkeypatch.syspath_prepend(tmp_path)
    assert check_config(load_config(copy / "with_writer.py")) == []
