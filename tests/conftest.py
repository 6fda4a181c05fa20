"""Fixtures for all tests: paths, synthetic people, small models, and caches that save time."""

from __future__ import annotations

import functools
import gc
import importlib.util
import json
import logging
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import omegaconf.base
import pytest
import torch
from hypothesis import settings
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image, ImageDraw

# The same examples in each run; `HYPOTHESIS_PROFILE=default` looks for new ones.
settings.register_profile("reproducible", derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))

# The models are tiny: a second thread costs more time than it saves.
torch.set_num_threads(1)

# Configs and models have many small objects, which the garbage collector would traverse again and again.
gc.set_threshold(100_000, 20, 20)

# OmegaConf parses an interpolation each time that it is resolved.
omegaconf.base.parse = functools.cache(omegaconf.base.parse)

REPOSITORY = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = Path(os.environ.get("HRNET_KPT_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


def pytest_collection_finish():
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With -n: all tests of a file are in one process, and so are those of the export, which share slow fixtures."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "export" if "/inference/export/" in file else file

    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def load_tool():
    """Function that imports a script by its path in the repository; for a tool, the command's module."""

    def load_tool(name):
        path = REPOSITORY / name
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return sys.modules[module.main.__module__] if path.parent.name == "tools" else module

    return load_tool


@pytest.fixture
def shallow(monkeypatch):
    """Function that reduces a config's HRNet to one block per stage, which is built much faster.

    The public weights are those of such an HRNet, too.
    """
    from hrnet_kpt.config.checks import run
    from hrnet_kpt.modeling import HRNet

    depth = {"num_modules": [1, 1, 1, 1], "num_blocks": [1, 1, 1, 1]}

    @functools.cache
    def public_tensors(width):
        with torch.device("meta"):
            return HRNet(width, norm="BN", **depth).state_dict()

    monkeypatch.setattr(run, "_public_tensors", public_tensors)

    def shallow(cfg):
        bottom_up = cfg.model.backbone.bottom_up
        if "width" in bottom_up:
            bottom_up.update(depth)
        return cfg

    return shallow


@pytest.fixture
def new_children():
    """Function that returns the running child processes that the test has started."""
    before = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - before


@pytest.fixture(scope="session")
def photographs():
    """The folder of real photographs with annotations, which is not part of the repository."""
    if not PHOTOGRAPHS.is_dir():
        pytest.skip(f"no photographs in {PHOTOGRAPHS}: set HRNET_KPT_TEST_DATA to their folder")
    return PHOTOGRAPHS


@pytest.fixture(autouse=True)
def no_data_sets(monkeypatch, tmp_path):
    """No test reads or writes the user's data sets and weights."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "no_data_sets"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(autouse=True)
def no_logs_left():
    """Remove log handlers, which write to the output or the run folder of an earlier test."""
    yield
    for name in ("fvcore", "detectron2", "hrnet_kpt"):
        for handler in logging.getLogger(name).handlers[:]:
            logging.getLogger(name).removeHandler(handler)


@pytest.fixture(scope="session", autouse=True)
def shipped_files_are_read_once():
    """Execute each config file once, which is half of the time of loading it; overrides change a copy."""
    from hrnet_kpt.config import load

    read, kept = load._read_python, {}

    def read_once(path):
        key = path.resolve()
        if key.parent != REPOSITORY / "configs":
            return read(path)
        if key not in kept:
            kept[key] = read(path)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "_read_python", read_once)
        yield


def frozen(node):
    """Nested content as a hashable key, in which 1, True and 1.0 differ."""
    if isinstance(node, dict):
        return tuple((name, frozen(child)) for name, child in node.items())
    if isinstance(node, list):
        return tuple(map(frozen, node))
    return type(node), node


@pytest.fixture(scope="session", autouse=True)
def checked_models_are_built_once():
    """Build each model, and compute its features, once: half of the time of checking configs."""
    module = importlib.import_module("hrnet_kpt.config.checks.check")
    build, features, kept, backbones = module.build_on_meta, module.compute_features, {}, {}

    def build_once(cfg):
        try:
            content = OmegaConf.to_container(cfg.model, resolve=True)
            key = frozen(content)
            if key not in kept:
                kept[key] = build(cfg)
                backbone = frozen([content[name] for name in ("backbone", "pixel_mean")])
                backbones[kept[key][0]] = backbone
            return kept[key]
        except (OmegaConfBaseException, TypeError, KeyError):  # unresolved, unhashable, no backbone
            return build(cfg)

    def compute_once(model):
        key = backbones.get(model, model)
        if key not in kept:
            kept[key] = features(model)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "build_on_meta", build_once)
        patch.setattr(module, "compute_features", compute_once)
        yield


@pytest.fixture(scope="session")
def whole_runs():
    """For tests that need the images of a run or a formatted config.py."""


@pytest.fixture(autouse=True)
def plain_runs(request, monkeypatch):
    """Runs write no images and do not format config.py, which is a third of the time of a tiny run."""
    if "whole_runs" not in request.fixturenames:
        monkeypatch.setattr("hrnet_kpt.engine.training.write_run_images", lambda cfg, truth: None)
        monkeypatch.setattr("black.format_str", lambda source, mode: source)


@pytest.fixture(scope="session")
def synthetic_people(tmp_path_factory):
    """The root of synthetic people, 12 and 4 images of 96 pixels."""
    from hrnet_kpt.data.synthetic import write_synthetic_people

    root = tmp_path_factory.mktemp("datasets") / "synthetic_people"
    write_synthetic_people(str(root), num_train=12, num_test=4, image_size=96)
    return root


@pytest.fixture(scope="session")
def run_folder(tiny_overrides, tmp_path_factory):
    """The run folder of a model after 4 iterations, with three detections in every image."""
    from hrnet_kpt.config import load_config
    from hrnet_kpt.engine import train

    folder = tmp_path_factory.mktemp("runs") / "run"
    threshold = "model.roi_heads.box_predictor.test_score_thresh=0.0"
    train(load_config("hrnet_w18_small_kpt_synthetic.py", [*tiny_overrides(folder), threshold]))
    return folder


@pytest.fixture
def write_set(tmp_path):
    """Function that writes a data set of 6 images of 96 pixels and returns the overrides to train on it.

    classes: names of the keypoints by category. An object is a rectangle with a dot for each keypoint.
    """

    def write(classes, root=tmp_path / "set"):
        random = np.random.default_rng(0)
        root.mkdir()
        names = list(classes)
        images, annotations = [], []
        for number in range(6):
            image = Image.new("RGB", (96, 96), (90, 90, 90))
            draw = ImageDraw.Draw(image)
            for index in range(2):
                name = names[(number + index) % len(names)]
                x, y = (int(value) for value in random.integers(2, 40, 2))
                width, height = (int(value) for value in random.integers(30, 50, 2))
                draw.rectangle((x, y, x + width, y + height), fill=(200, 40, 40 * index))
                keypoints = []
                for _ in classes[name]:
                    px, py = (random.uniform(0.1, 0.9, 2) * (width, height) + (x, y)).tolist()
                    draw.point((px, py), fill=(255, 255, 255))
                    keypoints += [px, py, int(random.integers(0, 3))]
                entry = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
                if classes[name]:
                    labelled = sum(v > 0 for v in keypoints[2::3])
                    entry |= {"keypoints": keypoints, "num_keypoints": labelled}
                entry |= {"image_id": number, "category_id": names.index(name)}
                annotations.append({"id": len(annotations) + 1, **entry})
            image.save(root / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 96})
        categories = [{"id": i, "name": n, "keypoints": classes[n]} for i, n in enumerate(names)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations.json").write_text(json.dumps(content))
        return four_paths(root)

    return write


def four_paths(root):
    """The overrides that train and test on root/annotations.json and its images."""
    return [
        f"data.{split}.{key}"
        for split in ("train", "test")
        for key in (f"annotations={root}/annotations.json", f"images={root}")
    ]


@pytest.fixture(scope="session")
def paths_of():
    return four_paths


@pytest.fixture(scope="session")
def tiny_overrides(synthetic_people):
    """Function of an output folder: overrides with which hrnet_w18_small_kpt_synthetic.py trains in seconds."""

    def overrides(output):
        return [
            f"data.root={synthetic_people}",
            "data.generate.num_train=12",
            "data.generate.num_test=4",
            "data.generate.image_size=96",
            "model.backbone.bottom_up.width=4",
            "model.backbone.bottom_up.stem_channels=64",
            "model.backbone.bottom_up.stage1_channels=8",
            "model.backbone.bottom_up.num_blocks=[1,1,1,1]",
            "model.backbone.out_channels=16",
            "model.roi_heads.box_head.fc_dims=[32,32]",
            "model.roi_heads.keypoint_head.conv_dims=[16]",
            "model.roi_heads.box_predictor.test_topk_per_image=3",
            "dataloader.train.mapper.augmentations.0.short_edge_length=[96]",
            "dataloader.train.mapper.augmentations.0.max_size=96",
            "dataloader.test.mapper.augmentations.0.short_edge_length=96",
            "dataloader.test.mapper.augmentations.0.max_size=96",
            "dataloader.train.total_batch_size=2",
            "dataloader.train.num_workers=0",
            "train.device=cpu",
            "train.amp.enabled=false",
            "train.ema.enabled=false",
            "inference.keypoint_decoding=highest",
            "~inference.keypoint_sampling_ratio",
            "train.max_iter=4",
            "train.log_period=1",
            "train.seed=0",
            f"train.output_dir={output}",
        ]

    return overrides


@pytest.fixture(scope="session")
def caffe2_names():
    """Function that renames a ResNet's tensors from detectron2's names to Caffe2's and adds the classifier."""

    def caffe2(name):
        name = name.removeprefix("stem.").replace("shortcut", "branch1")
        for conv, branch in (("conv1", "branch2a"), ("conv2", "branch2b"), ("conv3", "branch2c")):
            name = name.replace(f".{conv}", f".{branch}")
        name = name.replace("norm.weight", "bn.gamma").replace("norm.bias", "bn.beta")
        name = name.replace("norm.running", "bn.running").replace("weight", "w").replace(".", "_")
        return name.replace("conv1_bn", "res_conv1_bn") if name.startswith("conv1") else name

    def names(tensors):
        shapes = {"conv1_b": (64,), "fc1000_w": (1000, 2048), "fc1000_b": (1000,)}
        classifier = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        return {caffe2(name): value for name, value in tensors.items()} | classifier

    return names


@pytest.fixture
def tiny(tiny_overrides, tmp_path):
    return tiny_overrides(tmp_path / "run")


@pytest.fixture
def masked_overrides():
    """Overrides that make a model with masks tiny."""
    return [
        "model.backbone.out_channels=16",
        "model.backbone.bottom_up.width=4",
        "model.backbone.bottom_up.num_modules=[1,1,1,1]",
        "model.backbone.bottom_up.num_blocks=[1,1,1,1]",
        "model.backbone.bottom_up.norm=BN",
        "model.proposal_generator.post_nms_topk=[30,20]",
        "model.roi_heads.mask_head.conv_dims=[8,8]",
        "model.roi_heads.keypoint_head.conv_dims=[8]",
    ]
