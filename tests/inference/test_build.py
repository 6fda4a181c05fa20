"""The choice of the device."""

import logging

import pytest
import torch

from hrnet_kpt.config import load_config
from hrnet_kpt.inference.build import choose_device


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_falls_back_to_the_cpu_with_a_warning(caplog):
    logging.getLogger("hrnet_kpt").propagate = True
    cfg = load_config("hrnet_w18_small_kpt_synthetic.py", ["train.device=cuda"])
    assert choose_device(cfg).type == "cpu"
    assert "train.device=cuda" in caplog.text
