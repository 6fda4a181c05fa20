"""A predictor of a run folder, and the messages of errors."""

import pytest

from hrnet_kpt.inference import Predictor


@pytest.fixture(scope="session")
def predictor(run_folder):
    return Predictor.from_run(run_folder)


@pytest.fixture(scope="session")
def refusal():
    """Function that calls another one, and returns the message, of one line, of the ValueError that it raises."""

    def refusal(function, *args, **kwargs):
        with pytest.raises(ValueError) as raised:
            function(*args, **kwargs)
        message = str(raised.value)
        assert "\n" not in message
        return message

    return refusal
