"""Fixtures for the tests of converted YAMLs."""

from importlib.resources import files
from pathlib import Path

import pytest
from detectron2.config import LazyConfig, get_cfg

from hrnet_kpt.config.yacs.convert import convert_yaml


@pytest.fixture(scope="session")
def zoo():
    """The folder of detectron2's YAMLs."""
    return Path(str(files("detectron2"))) / "model_zoo" / "configs"


@pytest.fixture
def convert(tmp_path):
    """Function of a YAML: the converted config, and the lines of the report."""

    def convert(source):
        lines = convert_yaml(str(source), str(tmp_path / "converted.py"))
        return LazyConfig.load(str(tmp_path / "converted.py")), lines

    return convert


@pytest.fixture(scope="session")
def detectron2_config():
    """Function of a YAML and a device: the config that detectron2 reads."""

    def detectron2_config(path, device):
        cfg = get_cfg()
        cfg.merge_from_file(str(path))
        cfg.MODEL.DEVICE = device
        return cfg

    return detectron2_config


@pytest.fixture
def write(tmp_path, zoo):
    """Function of a string, with ZOO for detectron2's folder: the path of a YAML with it."""

    def write(text):
        path = tmp_path / "some.yaml"
        path.write_text(text.replace("ZOO", str(zoo)))
        return path

    return write
