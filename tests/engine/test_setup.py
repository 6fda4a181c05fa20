"""What happens before the first iteration."""

import logging

import pytest
import torch

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train
from hrnet_kpt.engine.training import scale_learning_rate

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.mark.parametrize(("reference", "rate"), [(0, 1e-3), (2, 1e-3), (16, 1.25e-4)])
def test_learning_rate_scales_with_the_batch_if_asked(reference, rate, caplog):
    cfg = load_config(
        PAGE,
        [
            f"train.reference_batch_size={reference}",
            "dataloader.train.total_batch_size=2",
            "optimizer.lr=1e-3",
        ],
    )
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    logging.getLogger("hrnet_kpt").propagate = True
    with caplog.at_level(logging.INFO, "hrnet_kpt"):
        assert scale_learning_rate(optimizer, model, cfg) == pytest.approx(rate)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    assert f"Learning rate {rate:g} for batches of 2 images" in caplog.text


def test_drawn_data_are_written_at_the_first_run_and_trained_on(tiny, tmp_path):
    root = tmp_path / "new" / "synthetic_people"
    cfg = load_config(
        PAGE,
        [*tiny, f"data.root={root}", "data.generate.num_train=4", "train.max_iter=1"],
    )
    train(cfg)
    assert len(list((root / "train").glob("*.jpg"))) == 4
    assert (root / "test.json").is_file()


def test_frozen_norms_without_weights_are_refused_before_data_are_read(tiny, tmp_path):
    root = tmp_path / "untouched"
    cfg = load_config(
        PAGE,
        [
            *tiny,
            f"data.root={root}",
            "model.backbone.bottom_up.norm=FrozenBN",
            "train.max_iter=300",
        ],
    )
    with pytest.raises(ValueError, match=r"FrozenBN.*backbone\.bottom_up\."):
        train(cfg)
    assert not root.exists()
