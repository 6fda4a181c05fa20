"""A predictor of a run folder."""

import pytest

from hrnet_kpt.inference import Predictor


@pytest.fixture(scope="session")
def predictor(run_folder):
    return Predictor.from_run(run_folder)
