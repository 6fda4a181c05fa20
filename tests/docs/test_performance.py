"""The script of docs/performance.md: output and files."""

import json

import pytest
import torch

from hrnet_kpt.analysis.inspect.structure import count_macs
from hrnet_kpt.config import load_config
from hrnet_kpt.modeling import HRNet


@pytest.fixture(scope="module")
def script(load_tool):
    return load_tool("docs/scripts/performance.py")


@pytest.mark.slow
def test_tables_and_json(script, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "SIDES", ((20, 60),))
    monkeypatch.setattr(script, "DECODED", 10)
    monkeypatch.setattr(script, "measure_limit", lambda dtype, device: 1.0)
    config = ["--config-file", "hrnet_w18_small_kpt_synthetic.py", "--size", "64x96"]
    models = ["--repeats", "1", "--models", "optimized", "detectron2", "--dtype", "float32"]
    options = ["--training", "64x96", "--output", str(tmp_path)]
    assert script.main([*tiny, *config, *models, *options]) == 0
    output = capsys.readouterr().out
    assert "detectron2 float32" in output and "20 to 60 px" in output
    found = json.loads((tmp_path / "benchmark.json").read_text())
    names = ["plain float32", "optimized float32", "detectron2 float32"]
    assert [*found["inference"][0]["results"]] == names
    assert [*found["bottom_ups"]] == names[:2] and len(found["decoding"]) == 1
    # Rounding of float32 through some 40 layers.
    assert found["bottom_ups"]["optimized float32"]["difference"] < 2e-5


def test_a_width_that_timm_does_not_have_is_one_line(script, tiny, capsys):
    config = ["--config-file", "hrnet_w18_small_kpt_synthetic.py"]
    assert script.main([*tiny, *config, "--models", "timm"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: --models timm") and errors.count("\n") == 1


@pytest.mark.slow
def test_bottom_ups_of_timm_and_of_the_page_cost_the_same(script):
    cfg = load_config("hrnet_w18_kpt.py")
    with torch.device("meta") as meta:
        bottom_ups = HRNet(18), script.timm_bottom_up(cfg, meta)
        image = torch.zeros(1, 3, 64, 96)
    ours, theirs = (count_macs(bottom_up, image)[0] for bottom_up in bottom_ups)
    # timm's has additional convolutions for its features.
    assert ours <= theirs < 2 * ours
