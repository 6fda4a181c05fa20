"""Fixtures for the tests of the checks."""

import pytest

from hrnet_kpt.config import check_config, load_config

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture
def check(tmp_path):
    """Function of overrides and arguments of check_config: the findings for the small config."""

    def check(overrides=(), **arguments):
        return check_config(
            load_config(PAGE, [f"train.output_dir={tmp_path}/run", *overrides]), **arguments
        )

    return check
