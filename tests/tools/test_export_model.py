"""The command that exports a model: what it says, and one line for what is wrong."""

import pytest
import torch

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture(scope="module")
def main(load_tool):
    return load_tool("tools/export_model.py").main


@pytest.fixture
def weights(tiny, tmp_path):
    """A checkpoint of a tiny model that was not trained."""
    from detectron2.config import instantiate

    from hrnet_kpt.config import load_config

    path = tmp_path / "model.pth"
    model = instantiate(load_config(PAGE, tiny).model)
    torch.save({"model": model.state_dict()}, path)
    return path


def test_heads_are_exported(main, weights, tiny, tmp_path, capsys):
    output = tmp_path / "heads.pt2"
    arguments = ["--config-file", PAGE, "--weights", weights, "--format", "torch_export"]
    arguments += ["--part", "heads", "--output", output, *tiny]
    assert main([str(argument) for argument in arguments]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith(f"wrote {output}") and len(out.splitlines()) == 7
    assert "Traceback" not in err
    assert output.is_file()


def test_wrong_inputs_are_one_line(main, weights, tiny, tmp_path, capsys):
    start = ["--config-file", PAGE, "--weights", str(weights), *tiny, "--output"]
    bad = str(tmp_path / "people.txt")
    assert main([*start, bad]) == 2
    assert capsys.readouterr().err == (f"error: {bad}: the name of such a file must end in .onnx\n")
    path = str(tmp_path / "people.onnx")
    assert main([*start, path, "inference.tta.enabled=true"]) == 2
    assert "an export knows GeneralizedRCNN" in capsys.readouterr().err
