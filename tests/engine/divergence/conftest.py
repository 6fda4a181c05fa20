"""A tiny detector with a batch that it is trained on, and its config."""

import pytest
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage

from hrnet_kpt.config import load_config
from hrnet_kpt.data.synthetic import write_synthetic_people


@pytest.fixture(scope="session")
def tiny_cfg(tiny_overrides, tmp_path_factory, synthetic_people):
    write_synthetic_people(str(synthetic_people), num_train=12, num_test=4, image_size=96)
    options = ["model.backbone.bottom_up.num_modules=[1,1,1,1]", "model.backbone.bottom_up.norm=BN"]
    folder = tmp_path_factory.mktemp("divergence")
    return load_config("hrnet_w18_small_kpt_synthetic.py", [*tiny_overrides(folder), *options])


@pytest.fixture
def detector(tiny_cfg):
    with EventStorage():
        yield instantiate(tiny_cfg.model).train()


@pytest.fixture
def batch(tiny_cfg):
    cfg = tiny_cfg.copy()
    return next(iter(instantiate(cfg.dataloader.train)))
