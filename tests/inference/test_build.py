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
    assert "train.device=cuda" in caplog.text and "mps" not in caplog.text


@pytest.mark.parametrize("there", [True, False])
def test_mps_is_used_where_it_is_and_falls_back_like_cuda(there, monkeypatch, caplog):
    logging.getLogger("hrnet_kpt").propagate = True
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: there)
    cfg = load_config("hrnet_w18_small_kpt_synthetic.py", ["train.device=mps"])
    assert choose_device(cfg).type == ("mps" if there else "cpu")
    assert ("train.device=mps" in caplog.text) == (not there)


def test_default_device_points_to_mps_on_a_mac(monkeypatch, caplog):
    logging.getLogger("hrnet_kpt").propagate = True
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device(load_config("hrnet_w18_small_kpt_synthetic.py")).type == "cpu"
    assert "train.device=mps" in caplog.text
