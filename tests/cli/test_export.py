"""The command that exports a model: what it says, and one line for what is wrong."""

import pytest
import torch

from hrnet_kpt.cli.export import main

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture
def weights(tiny, tmp_path):
    """A checkpoint of a tiny model that was not trained."""
    from detectron2.config import instantiate

    from hrnet_kpt.config import load_config

    path = tmp_path / "model.pth"
    model = instantiate(load_config(PAGE, tiny).model)
    torch.save({"model": model.state_dict()}, path)
    return path


def test_heads_are_exported(weights, tiny, tmp_path, capsys):
    output = tmp_path / "heads.pt2"
    arguments = ["--config-file", PAGE, "--weights", weights, "--format", "torch_export"]
    arguments += ["--part", "heads", "--output", output, *tiny]
    assert main([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(f"wrote {output}") and len(out.splitlines()) == 7
    assert "Traceback" not in err
    assert output.is_file()


def test_wrong_inputs_are_one_line(weights, tiny, tmp_path, refused):
    start = ["--config-file", PAGE, "--weights", str(weights), *tiny, "--output"]
    [line] = refused(main, [*start, tmp_path / "people.txt"])
    assert "people.txt" in line and ".onnx" in line
    [line] = refused(main, [*start, tmp_path / "people.onnx", "inference.tta.enabled=true"])
    assert "GeneralizedRCNN" in line
