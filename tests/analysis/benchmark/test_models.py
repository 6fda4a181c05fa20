"""The models of a benchmark and the times of their parts; the clock is fake."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.config import instantiate
from torch import nn

from hrnet_kpt.analysis.benchmark import timing
from hrnet_kpt.analysis.benchmark.models import build_models, limit_detections
from hrnet_kpt.analysis.benchmark.timing import PARTS, time_parts
from hrnet_kpt.config import load_config
from hrnet_kpt.errors import UserError

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"
CPU = torch.device("cpu")


def test_parts_add_up_to_the_whole_and_the_model_stays(tiny, monkeypatch):
    model = instantiate(load_config(SYNTHETIC, tiny).model).eval()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    clock = iter(range(1000))
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    parts = time_parts(model, [{"image": torch.zeros(3, 64, 96, dtype=torch.uint8)}], CPU)
    assert tuple(parts) == PARTS
    assert sum(parts.values()) == next(clock) - 1
    assert all(value > 0 for value in parts.values())
    assert all(vars(module) == before[name] for name, module in model.named_modules())


def test_each_image_has_as_many_detections_as_asked_for(tiny):
    plain, optimized = build_models(
        load_config(SYNTHETIC, tiny), ["optimized"], [torch.float32], CPU
    )
    assert (plain.name, optimized.name) == ("plain float32", "optimized float32")
    images = [{"image": torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)}]
    for one in (plain, optimized):
        limit_detections(one.model, 3)
        with torch.inference_mode():
            [found] = one.model.inference(images, do_postprocess=False)
        assert len(found) == 3


def test_a_model_of_another_class_is_refused(tiny):
    cfg = load_config(SYNTHETIC, tiny)
    cfg.model = {"_target_": f"{nn.Linear.__module__}.Linear", "in_features": 2, "out_features": 3}
    with pytest.raises(UserError, match=r"^model: "):
        build_models(cfg, [], [], CPU)
