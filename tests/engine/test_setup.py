"""What happens before the first iteration."""

import pytest

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train
from hrnet_kpt.errors import UserError

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def test_generated_data_are_written_by_the_first_run_and_trained_on(tiny, tmp_path):
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
    frozen = "model.backbone.bottom_up.norm=FrozenBN"
    cfg = load_config(PAGE, [*tiny, f"data.root={root}", frozen, "train.max_iter=300"])
    with pytest.raises(UserError, match=r"FrozenBN.*backbone\.bottom_up\."):
        train(cfg)
    assert not root.exists()
