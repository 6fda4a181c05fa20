"""timm's names to ours and back."""

import re

import pytest
import timm
import torch

from hrnet_kpt.weights import convert_state_dict


@pytest.mark.parametrize("name", timm.list_models("hrnet*"))
def test_timm_comes_back_as_it_was(name):
    with torch.device("meta"):
        shapes = timm.create_model(name, pretrained=False).state_dict()
    # Each tensor is an expanded scalar of its own value, which identifies it.
    state = {
        key: torch.full((), float(number)).expand(value.shape)
        for number, (key, value) in enumerate(shapes.items())
    }
    ours = convert_state_dict(state)
    head = re.compile(r"(incre_modules|downsamp_modules|final_layer|classifier)\.")
    bottom_up = {key: value for key, value in state.items() if not head.match(key)}
    assert set(ours) == {f"backbone.bottom_up.{key}" for key in bottom_up}
    back = convert_state_dict(ours, target="timm")
    assert list(back) == list(bottom_up)
    for key, value in bottom_up.items():
        assert back[key].shape == value.shape and back[key].data_ptr() == value.data_ptr(), key
