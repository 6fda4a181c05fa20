"""onnxruntime and OpenVINO find the same, with trained models: AP, and keypoints in images of ten sizes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.analysis.benchmark import deploy
from hrnet_kpt.config import load_config
from hrnet_kpt.data.synthetic import write_synthetic_people
from hrnet_kpt.engine import train
from hrnet_kpt.inference import Predictor
from hrnet_kpt.inference.export import export_model
from hrnet_kpt.inference.export.compare import object_iou
from hrnet_kpt.visualization.run_images import paths_by_id, read_test_truth

SIZES = [
    (64, 64), (192, 192), (250, 400), (640, 480), (333, 251),
    (97, 131), (1280, 720), (250, 1000), (481, 640), (500, 90),
]  # fmt: skip
ITERATIONS = 500


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    write_synthetic_people(str(root), num_train=200, num_test=50, image_size=96)
    return root


def results(file, runtime, images):
    """In a process of its own: OpenVINO's threads do not survive a fork."""
    job = {"runtime": runtime, "precision": "float32", "file": str(file), "threads": 2}
    runner = Path(deploy.inference.__file__).with_name("onnx_runner.py")
    found = deploy.measure({**job, "runner": str(runner), "images": images})
    return found["objects"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ["hrnet_w18_mask_kpt.py", "hrnet_w18_cascade.py"])
def test_runtimes_agree(page, people, masked_overrides, tmp_path):
    resize = "dataloader.{}.mapper.augmentations.0.{}"
    overrides = [
        *masked_overrides,
        *(f"data.{split}.annotations={people}/{split}.json" for split in ("train", "test")),
        *(f"data.{split}.images={people}/{split}" for split in ("train", "test")),
        resize.format("train", "short_edge_length=[96]"),
        resize.format("test", "short_edge_length=96"),
        *(resize.format(split, "max_size=160") for split in ("train", "test")),
        *(f"dataloader.{split}.num_workers=0" for split in ("train", "test")),
        "model.proposal_generator.anchor_generator.sizes=[[12],[20],[32],[48],[64]]",
        "model.backbone.bottom_up.width=16",
        "dataloader.train.total_batch_size=4",
        f"train.max_iter={ITERATIONS}",
        "train.eval_period=0",
        "train.init_checkpoint=",
        "train.seed=0",
        f"train.output_dir={tmp_path}/run",
    ]
    cfg = load_config(page, overrides)
    recipe = load_config("hrnet_w18_small_kpt_synthetic.py")
    cfg.optimizer, cfg.lr_multiplier = recipe.optimizer, recipe.lr_multiplier
    train(cfg)
    file = tmp_path / "people.onnx"
    export_model(Predictor(cfg, tmp_path / "run" / "model_final.pth", "cpu"), file)
    truth = read_test_truth(cfg)
    paths = paths_by_id(truth, cfg.data.test.images)
    plain, other = (results(file, name, [*paths.values()]) for name in ("onnxruntime", "openvino"))
    scores = [deploy.average_precision(truth, list(paths), found) for found in (plain, other)]
    assert scores[1] == pytest.approx(scores[0], abs=0.1)
    assert scores[0]["bbox"] > 10
    resized = []
    for number, path in enumerate(paths.values()):
        resized.append(str(tmp_path / f"{number}.png"))
        Image.open(path).resize(SIZES[number % len(SIZES)]).save(resized[-1])
    plain, other = (results(file, name, resized) for name in ("onnxruntime", "openvino"))
    boxes, keypoints = [], []
    for ours, theirs in zip(plain, other, strict=True):
        for one in ours:
            if one["score"] < deploy.SURE:
                continue
            two = max(theirs, key=lambda found: object_iou(one, found))
            boxes.append(np.abs(np.subtract(one["box"], two["box"])).max())
            for name, point in one.get("keypoints", {}).items():
                keypoints.append(np.abs(np.subtract(point, two["keypoints"][name])[:2]).max())
    assert len(boxes) > 20 and np.mean(np.array(boxes) < 0.5) > 0.99
    # OpenVINO resizes in single precision, and heatmaps of so short a training have peaks of nearly equal height.
    assert keypoints and np.mean(np.array(keypoints) < 0.5) > 0.95
