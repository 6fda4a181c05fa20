"""A run folder, and a predictor of it."""

import pytest

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train
from hrnet_kpt.inference import Predictor


@pytest.fixture(scope="session")
def run_folder(tiny_overrides, tmp_path_factory):
    """Of a model that was hardly trained, but sees three instances in every image."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    threshold = "model.roi_heads.box_predictor.test_score_thresh=0.0"
    train(load_config("hrnet_w18_small_kpt_synthetic.py", [*tiny_overrides(folder), threshold]))
    return folder


@pytest.fixture(scope="session")
def predictor(run_folder):
    return Predictor.from_run(run_folder)
