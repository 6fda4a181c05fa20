"""The export command: files, and errors in one line."""

import pytest
import torch
from detectron2.config import instantiate

from hrnet_kpt.cli.export import main
from hrnet_kpt.config import load_config

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture
def weights(tiny, tmp_path):
    """A checkpoint of a tiny model with random weights."""
    path = tmp_path / "model.pth"
    model = instantiate(load_config(PAGE, tiny).model)
    torch.save({"model": model.state_dict()}, path)
    return path


def test_heads_are_exported(weights, tiny, tmp_path, capsys):
    output = tmp_path / "heads.pt2"
    arguments = ["--config-file", PAGE, "--weights", weights, "--format", "torch_export"]
    arguments += ["--part", "heads", "--output", output, *tiny]
    assert main([str(argument) for argument in arguments]) == 0
    assert str(output) in capsys.readouterr().out.splitlines()[-1]
    assert output.is_file()


def test_wrong_inputs_are_one_line(weights, tiny, tmp_path, refused):
    start = ["--config-file", PAGE, "--weights", str(weights), *tiny, "--output"]
    [line] = refused(main, [*start, tmp_path / "people.txt"])
    assert "people.txt" in line and ".onnx" in line
    [line] = refused(main, [*start, tmp_path / "people.onnx", "inference.tta.enabled=true"])
    assert "inference.tta.merge=nms" in line
    tta = ["inference.tta.enabled=true", "inference.tta.merge=nms", "inference.tta.scales=[1,2]"]
    [line] = refused(main, [*start, tmp_path / "people.onnx", *tta])
    assert "inference.tta.scales=[1.0]" in line
    [line] = refused(main, [*start, tmp_path / "people.onnx", "--batch", "--part", "heads"])
    assert "heads" in line
    [line] = refused(main, [*start, tmp_path / "heads.onnx", "--dtype", "int8", "--part", "heads"])
    assert "int8" in line
    nowhere = ["--dtype", "int8", "data.train.images=nowhere"]
    [line] = refused(main, [*start, tmp_path / "people.onnx", *nowhere])
    assert "data.train.images=nowhere" in line
