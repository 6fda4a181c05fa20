"""tools/predict.py, a model and inputs for it."""

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from hrnet_kpt.config import load_config
from hrnet_kpt.inference import Predictor
from hrnet_kpt.inference.predict import app
from hrnet_kpt.visualization.video import VideoInfo, write_video


@pytest.fixture(scope="session")
def main(load_tool):
    return load_tool("tools/predict.py").main


@pytest.fixture(scope="session")
def built():
    return {}


@pytest.fixture(autouse=True)
def build_once(built, monkeypatch):
    """Load each config and build each predictor once, which takes longer than all else in a test."""

    def config(path, overrides):
        key = path, *overrides
        if key not in built:
            built[key] = load_config(path, overrides)
        return built[key].copy()

    def predictor(cfg, weights, device):
        key = OmegaConf.to_yaml(cfg), weights, os.stat(weights).st_mtime_ns, device
        if key not in built:
            built[key] = Predictor(cfg, weights, device)
        return built[key]

    monkeypatch.setattr(app, "load_config", config)
    monkeypatch.setattr(app, "Predictor", predictor)


@pytest.fixture
def photos(synthetic_people, tmp_path, monkeypatch):
    """A folder of three images in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for path in sorted((synthetic_people / "test").iterdir())[:3]:
        shutil.copy(path, tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def predict(main, run_folder):
    """Function of the arguments after the model's, which returns the exit status."""

    def predict(*arguments):
        try:
            return main(["--run", str(run_folder), *map(str, arguments)])
        except SystemExit as end:  # argparse's
            return end.code

    return predict


@pytest.fixture
def clip(synthetic_people):
    """Function that writes a video with frames at these times, in ms, and returns its path."""

    def clip(path, times=(0, 40, 100, 120, 300), size=(97, 75)):
        images = sorted((synthetic_people / "train").iterdir())
        like = VideoInfo(rate=Fraction(25), time_base=Fraction(1, 1000))
        with write_video(Path(path), size, like) as writer:
            for i, time in enumerate(times):
                image = Image.open(images[i % len(images)]).resize(size)
                writer.write(image, Fraction(time, 1000), Fraction(40, 1000))
        return Path(path)

    return clip


@pytest.fixture(scope="session")
def lines_of():
    """Function of a .jsonl file: its objects."""
    return lambda path: [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture(scope="session")
def files_in():
    """Function of a folder: the paths of the files below it."""
    return lambda folder: sorted(
        str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()
    )


@pytest.fixture
def seen(monkeypatch):
    """A list of the images that the model has predicted."""
    images_seen, call = [], Predictor.__call__

    def counted(self, images, color="RGB"):
        images_seen.extend(images)
        return call(self, images, color)

    monkeypatch.setattr(Predictor, "__call__", counted)
    return images_seen
