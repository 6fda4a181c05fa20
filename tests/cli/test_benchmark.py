"""The command that measures: what it prints and writes. No time is judged."""

import functools
import json

import pytest
from PIL import Image

from hrnet_kpt.analysis.stopwatch import measure_limits
from hrnet_kpt.cli.benchmark import main

SMALL = ["--config-file", "hrnet_w18_small_kpt_synthetic.py", "--size", "64x96", "--repeats", "1"]


@pytest.mark.parametrize(
    "names",
    [
        ["plain", "optimized"],
        pytest.param(["plain", "optimized", "detectron2"], marks=pytest.mark.slow),
    ],
)
def test_tables_json_and_picture(names, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hrnet_kpt.analysis.benchmark.SIDES", ((20, 60),))
    monkeypatch.setattr("hrnet_kpt.analysis.benchmark.DECODED", 10)
    once = functools.partial(measure_limits, repeats=1)  # 100 GMAC
    monkeypatch.setattr("hrnet_kpt.analysis.benchmark.measure_limits", once)
    models = ["--models", *names, "--dtype", "float32"]
    options = ["--training", "64x96", "--detections", "3", "--output", str(tmp_path)]
    assert main([*SMALL, *models, *options, *tiny]) == 0
    output = capsys.readouterr().out
    for text in ("64 x 96, one image, 3 detections", "Decoding of keypoints", "A training step"):
        assert text in output
    found = json.loads((tmp_path / "benchmark.json").read_text())
    (case,) = found["inference"]
    assert [*case["results"]] == [f"{name} float32" for name in names]
    # Rounding of float32 through some 40 layers.
    assert case["results"]["optimized float32"]["difference"] < 2e-5
    for result in case["results"].values():
        whole, parts = result["whole"]["median"], result["parts"]
        assert 0 < result["whole"]["least"] <= whole <= result["whole"]["most"]
        assert parts.keys() >= {"trunk", "neck", "RPN", "keypoint head", "decoding"}
        assert all(time >= 0 for time in parts.values())
    assert found["training"]["ours"]["step"]["median"] > 0
    assert Image.open(tmp_path / "benchmark.png").width > 500


def test_parts_add_up_to_the_whole(tiny):
    import torch
    from detectron2.config import instantiate

    from hrnet_kpt.analysis.parts import PARTS, time_parts
    from hrnet_kpt.config import load_config

    model = instantiate(load_config(SMALL[1], tiny).model).eval()
    inputs = [{"image": torch.zeros(3, 64, 96, dtype=torch.uint8)}]
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    parts = time_parts(model, inputs, torch.device("cpu"))
    assert tuple(parts) == PARTS
    assert all(vars(module) == before[name] for name, module in model.named_modules())


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--size", "800"], "--size 800"),
        (["--repeats", "0"], "--repeats"),
        (["--batch-size", "1", "0"], "--batch-size"),
        (["--device", "cuda"], "GPU"),
        (["--models", "timm"], "timm"),
    ],
)
def test_wrong_options_in_one_line(tiny, refused, monkeypatch, option, told):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    [line] = refused(main, [*tiny, *SMALL, *option])
    assert told in line


def test_trunks_of_timm_and_of_the_page_cost_the_same():
    import torch

    from hrnet_kpt.analysis.contenders import build_contenders
    from hrnet_kpt.analysis.flops import count_macs
    from hrnet_kpt.config import load_config

    cfg = load_config("hrnet_w18_kpt.py")
    plain, timms = build_contenders(cfg, ["timm"], [], torch.device("cpu"))
    image = torch.zeros(1, 3, 64, 96)
    ours, theirs = (count_macs(one.trunk, image)[0] for one in (plain, timms))
    # timm's has a head of convolutions for its features besides.
    assert ours <= theirs < 2 * ours
