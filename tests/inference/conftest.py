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


@pytest.fixture
def masked_overrides():
    """Overrides that make a model with masks tiny."""
    return [
        "model.backbone.out_channels=16",
        "model.backbone.bottom_up.width=4",
        "model.backbone.bottom_up.num_modules=[1,1,1,1]",
        "model.backbone.bottom_up.num_blocks=[1,1,1,1]",
        "model.backbone.bottom_up.norm=BN",
        "model.proposal_generator.post_nms_topk=[30,20]",
        "model.roi_heads.mask_head.conv_dims=[8,8]",
        "model.roi_heads.keypoint_head.conv_dims=[8]",
    ]
