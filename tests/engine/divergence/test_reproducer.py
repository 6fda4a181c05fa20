"""The file for the replay of a step."""

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

from hrnet_kpt.config import save_config
from hrnet_kpt.engine.divergence.diagnosis import Step
from hrnet_kpt.engine.divergence.reproducer import replay, save_reproducer


def test_samples_are_restored(tiny_cfg, detector, batch, tmp_path, monkeypatch):
    instances = Instances((8, 9))
    instances.gt_boxes = Boxes(torch.tensor([[0.0, 1, 2, 3], [1, 1, 5, 6]]))
    instances.gt_classes = torch.tensor([0, 0])
    instances.gt_keypoints = Keypoints(torch.rand(2, 17, 3))
    instances.gt_masks = PolygonMasks([[np.array([0.0, 0, 1, 1, 2, 0])], [np.zeros(8), np.ones(6)]])
    instances.gt_bits = BitMasks(torch.rand(2, 8, 9) > 0.5)
    sample = {
        **{"image": torch.zeros(3, 8, 9), "file_name": "a.jpg", "image_id": 3, "height": 80},
        **{"width": 90, "instances": instances, "callback": print},
    }
    save_config(tiny_cfg, tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    step = Step(5, 6, 1, 2, torch.bfloat16)
    save_reproducer(tmp_path / "step.pth", text, detector, [sample], step, "what was found")
    given = {}

    def note(model, batch, step):
        given.update(model=model, batch=batch, step=step)

    monkeypatch.setattr("hrnet_kpt.engine.divergence.reproducer.diagnose", note)
    assert replay(str(tmp_path / "step.pth"), "cpu")[0] == "what was found"
    assert given["step"] == step
    assert given["model"].training
    for name, value in detector.state_dict().items():
        assert torch.equal(value, given["model"].state_dict()[name])
    (found,) = given["batch"]
    assert found.keys() == sample.keys() - {"callback"}
    other = found["instances"]
    assert other.image_size == (8, 9)
    for name in ("gt_boxes", "gt_keypoints", "gt_bits"):
        value = instances.get(name)
        assert type(other.get(name)) is type(value)
        assert torch.equal(other.get(name).tensor, value.tensor)
    assert torch.equal(other.gt_classes, instances.gt_classes)
    for one, two in zip(other.gt_masks.polygons, instances.gt_masks.polygons, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
