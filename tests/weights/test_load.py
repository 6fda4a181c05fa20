"""Weights from elsewhere and from our own runs; refusals."""

import pytest
import timm
import torch
from torch import nn

from hrnet_kpt.modeling import HRFPN, HRNet
from hrnet_kpt.weights import load_weights, refuse_identity_norms

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def detector(norm="FrozenBN"):
    model = nn.Module()
    model.backbone = HRFPN(HRNet(16, 32, (1, 1, 1, 1), (1, 2, 2, 2), norm=norm), STAGES, 8)
    return model


@pytest.fixture(scope="module")
def imagenet():
    """A classifier with random weights and statistics, in the layout of the public ImageNet files."""
    classifier = timm.create_model("hrnet_w18_small", pretrained=False)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return classifier.state_dict()


def test_imagenet_weights_fill_the_backbone_and_nothing_else(imagenet, tmp_path):
    torch.save(imagenet, tmp_path / "hrnet.pth")
    model = detector()
    neck = {
        key: value.clone() for key, value in model.state_dict().items() if "bottom_up" not in key
    }
    load_weights(model, str(tmp_path / "hrnet.pth"))
    refuse_identity_norms(model)
    state = model.state_dict()
    for key, value in state.items():
        if key.startswith("backbone.bottom_up."):
            torch.testing.assert_close(
                value, imagenet[key.removeprefix("backbone.bottom_up.")], rtol=0, atol=0
            )
        else:
            torch.testing.assert_close(value, neck[key], rtol=0, atol=0)


def test_own_checkpoint_comes_back_whole(tmp_path):
    saved, model = detector("BN"), detector("BN")
    torch.save({"model": saved.state_dict(), "iteration": 3}, tmp_path / "model_final.pth")
    load_weights(model, str(tmp_path / "model_final.pth"))
    for key, value in saved.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop("stage4.0.fuse_layers.3.0.0.0.weight"), "stage4.0.fuse_layers.3.0.0.0.weight is missing"),
        (lambda s: s.update({"conv1.weight": torch.zeros(8, 3, 3, 3)}), r"conv1.weight is \(8, 3, 3, 3\)"),
        (lambda s: s.update({"layer9.weight": torch.zeros(1)}), "layer9.weight fits nothing"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_by_key(spoil, words, imagenet, tmp_path):
    state = dict(imagenet)
    spoil(state)
    torch.save(state, tmp_path / "hrnet.pth")
    with pytest.raises(ValueError, match=words):
        load_weights(detector(), str(tmp_path / "hrnet.pth"))


def test_weights_of_another_model_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(detector(), str(tmp_path / "linear.pth"))


def test_missing_file_is_named_with_the_place_it_was_looked_for():
    with pytest.raises(ValueError, match=r"nowhere/w18\.pth.*make demo"):
        load_weights(detector(), "nowhere/w18.pth")


def test_frozen_norms_without_statistics_are_refused_by_prefix():
    with pytest.raises(ValueError, match=r"FrozenBN.*backbone\.bottom_up\.") as raised:
        refuse_identity_norms(detector())
    assert "\n" not in str(raised.value)
    refuse_identity_norms(detector("BN"))


def test_number_that_becomes_inf_in_the_model_is_refused(imagenet, tmp_path):
    # 1e300 is a number as a double alone.
    weight = torch.full_like(imagenet["conv1.weight"], 1e300, dtype=torch.double)
    torch.save({**imagenet, "conv1.weight": weight}, tmp_path / "hrnet.pth")
    with pytest.raises(ValueError, match=r"hold Inf or NaN \(first: conv1\.weight\)"):
        load_weights(detector(), str(tmp_path / "hrnet.pth"))


def test_sum_beyond_what_halves_hold_is_no_reason_to_refuse(imagenet, tmp_path):
    halves = {name: value.half() for name, value in imagenet.items()}
    halves["conv1.weight"] = torch.full_like(halves["conv1.weight"], 6e4)
    torch.save(halves, tmp_path / "hrnet.pth")
    model = detector()
    load_weights(model, str(tmp_path / "hrnet.pth"))
    expected = torch.tensor(6e4).half().float()
    assert (model.backbone.bottom_up.conv1.weight == expected).all()


def test_name_with_a_line_break_stays_on_one_line(imagenet, tmp_path):
    torch.save({**imagenet, "layer9\nweight": torch.zeros(1)}, tmp_path / "hrnet.pth")
    with pytest.raises(ValueError, match="layer9 weight fits nothing") as raised:
        load_weights(detector(), str(tmp_path / "hrnet.pth"))
    assert "\n" not in str(raised.value)
