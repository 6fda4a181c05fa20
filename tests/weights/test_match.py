"""The gate: what is loaded and said, and what is refused, by name and before the model changes."""

import functools
import logging

import pytest
import timm
import torch
from detectron2.layers import FrozenBatchNorm2d
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hrnet_kpt.modeling import HRFPN, HRNet
from hrnet_kpt.weights import load_weights

STAGES = ["stage1", "stage2", "stage3", "stage4"]
COUNTER = "num_batches_tracked"
HEADS = ("incre_modules", "downsamp_modules", "final_layer", "classifier")
LINE = (
    "HRNet-W18: 1525 of 1525 backbone tensors from timm layout; 106 head tensors ignored (incre_modules, "
    "downsamp_modules, final_layer, classifier); not in the file: neck"
)


def test_line_of_an_imagenet_file_of_full_size(write, caplog):
    model = nn.Module()
    model.backbone = HRFPN(HRNet(18, norm="FrozenBN"), STAGES)
    path = write(timm.create_model("hrnet_w18").state_dict())
    with caplog.at_level(logging.INFO, logger="hrnet_kpt"):
        loaded = load_weights(model, path)
    assert loaded.line == LINE
    assert (loaded.parts, loaded.absent) == (["bottom_up"], ["neck"])
    assert [r.getMessage() for r in caplog.records] == [f"{LINE} [{path}]"]


@pytest.fixture(scope="module")
def files(detector, bottom_up, classifier, source):
    """The same small detector in three layouts, and as timm's classifier alone."""
    model = detector()
    model.backbone.bottom_up.load_state_dict(
        {name: value for name, value in bottom_up.items() if not name.endswith(COUNTER)}
    )
    theirs = source("mmdet")
    for add in (theirs.add_rpn, theirs.add_box, theirs.add_mask):
        add()
    theirs.add_bottom_up(bottom_up)
    theirs.add_neck(15 * 16)
    return {
        "hrnet_kpt": {name: value.clone() for name, value in model.state_dict().items()},
        "mmdet": theirs.weights,
        "timm": classifier,
    }


def rename(state, name, draw):
    """To what no layout knows, or with a beginning or end cut off or put on."""
    ways = [f"{name}X", f"X{name}", name[:-1], name[1:], f"x.{name}", name.replace(".", "_", 1)]
    new = draw(st.sampled_from([way for way in ways if way not in state]))
    state[new] = state.pop(name)


def drop(state, name, draw):
    del state[name]


def reshape(state, name, draw):
    value = state[name]
    shapes = [
        value[None],
        value.new_zeros(()),
        value.new_zeros(0),
        torch.cat([value, value]),
        value.flatten()[:-1],
    ]
    state[name] = draw(st.sampled_from([new for new in shapes if new.shape != value.shape]))


def spoil(state, name, draw):
    value = state[name] = state[name].clone()
    value.view(-1)[draw(st.integers(0, value.numel() - 1))] = draw(
        st.sampled_from([torch.nan, torch.inf, -torch.inf])
    )


def retype(state, name, draw):
    state[name] = state[name].to(draw(st.sampled_from([torch.int64, torch.uint8, torch.bool])))


@pytest.mark.parametrize("harm", [rename, drop, reshape, spoil, retype])
@pytest.mark.parametrize("layout", ["hrnet_kpt", "mmdet", "timm"])
def test_harm_to_any_tensor_is_refused_by_its_name(layout, harm, files, detector, write):
    model = detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    needed = [
        name for name in files[layout] if not (name.endswith(COUNTER) or name.startswith(HEADS))
    ]

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def refused(data):
        name = data.draw(st.sampled_from(needed))
        state = dict(files[layout])
        harm(state, name, data.draw)
        with pytest.raises(ValueError) as raised:
            load_weights(model, write(state))
        message = str(raised.value)
        assert name in message and "\n" not in message

    refused()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_nan_in_a_head_that_is_not_loaded_is_refused_too(files, detector, write):
    state = dict(files["timm"])
    state["classifier.weight"] = state["classifier.weight"] * torch.nan
    with pytest.raises(
        ValueError, match=r"1 tensors hold Inf or NaN \(first: classifier\.weight\)"
    ):
        load_weights(detector(), write(state))


def without(state, *beginnings):
    return {name: value for name, value in state.items() if not name.startswith(beginnings)}


def test_parts_that_are_wholly_absent_are_listed_and_stay_as_they_were(files, detector, write):
    model = detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = without(files["hrnet_kpt"], "roi_heads.mask_head.", "proposal_generator.")
    loaded = load_weights(model, write(state))
    assert loaded.absent == ["RPN", "mask head"]
    assert loaded.line.endswith("; not in the file: RPN, mask head")
    for name, value in model.state_dict().items():
        expected = state.get(name, before[name])
        assert torch.equal(value, expected)


def test_parts_that_the_model_does_not_have_are_ignored(files, detector, write):
    model = detector()
    del model.roi_heads.mask_head
    loaded = load_weights(model, write(files["mmdet"]))
    assert loaded.parts == ["bottom_up", "neck", "RPN", "box head"]
    assert "12 tensors ignored (roi_head.mask_head)" in loaded.line


def test_evaluation_and_resume_need_every_part_and_no_other(files, detector, write):
    whole = files["hrnet_kpt"]
    load_weights(detector(), write(whole), whole=True)
    with pytest.raises(ValueError, match="the file has no mask head; evaluation and --resume need"):
        load_weights(detector(), write(without(whole, "roi_heads.mask_head.")), whole=True)
    with pytest.raises(ValueError, match="the file has no mask head"):
        path = write(without(whole, "roi_heads.mask_head."))
        load_weights(detector(), path, whole=True, strict=False)
    model = detector()
    del model.roi_heads.mask_head
    with pytest.raises(ValueError, match=r"roi_heads\.mask_head\.mask_fcn1\.weight fits nothing"):
        load_weights(model, write(whole), whole=True)
    with pytest.raises(ValueError, match="the file has no neck"):
        load_weights(detector(), write(files["timm"]), whole=True)


def test_partial_load_takes_what_fits_and_lists_the_rest(files, detector, write, caplog):
    model = detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = dict(files["hrnet_kpt"])
    scores, deltas = "roi_heads.box_predictor.cls_score.", "roi_heads.box_predictor.bbox_pred."
    for name in (scores + "weight", scores + "bias", deltas + "weight"):
        state[name] = torch.cat([state[name], state[name]])
    del state[deltas + "bias"]
    with pytest.raises(ValueError, match=r"it has 3 classes, the model 1: .*init_strict=False"):
        load_weights(model, write(state))
    loaded = load_weights(model, write(state), strict=False)
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "4 tensors" in warning and "roi_heads.box_predictor.bbox_pred.bias is missing" in warning
    assert "box head" in loaded.parts
    for name, value in model.state_dict().items():
        fits = name in state and not name.startswith("roi_heads.box_predictor.")
        assert torch.equal(value, state[name] if fits else before[name])


def test_part_of_which_nothing_fits_is_not_said_to_be_loaded(files, detector, write):
    state = dict(files["hrnet_kpt"])
    neck = [n for n in state if n.startswith("backbone.") and "bottom_up" not in n]
    for name in neck:
        state[name] = torch.zeros(3)
    loaded = load_weights(detector(), write(state), strict=False)
    assert "neck" not in loaded.parts and ", neck" not in loaded.line


def test_heads_alone_need_a_word_and_norms_that_are_not_frozen(files, detector, write):
    heads = without(files["hrnet_kpt"], "backbone.")
    with pytest.raises(ValueError, match=r"has no bottom_up \(RPN, .* join it .*convert_weights"):
        load_weights(detector(norm="BN"), write(heads))
    loaded = load_weights(detector(norm="BN"), write(heads), strict=False)
    assert loaded.absent == ["bottom_up", "neck"]
    with pytest.raises(ValueError, match=r"leaves .* FrozenBN layers without statistics"):
        load_weights(detector(), write(heads), strict=False)


def test_frozen_norm_that_a_partial_load_leaves_at_identity_is_refused(files, detector, write):
    model = detector()
    state = without(files["timm"], "stage3.0.fuse_layers.2.0.1.1.")
    with pytest.raises(ValueError, match=r"leaves 1 FrozenBN .*stage3\.0\.fuse_layers\.2\.0\.1\.1"):
        load_weights(model, write(state), strict=False)
    norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert norms and not any(norm.running_mean.any() for norm in norms)


@pytest.mark.parametrize("strict", [True, False])
def test_file_of_another_kind_is_named(strict, detector, write):
    state = timm.create_model("resnet18").state_dict()
    with pytest.raises(ValueError, match="this looks like a ResNet"):
        load_weights(detector(), write(state), strict=strict)


def test_file_of_another_width_is_named(detector, write):
    state = HRNet(18, 64, (1, 1, 3, 2), (2, 2, 2, 2)).state_dict()
    with pytest.raises(
        ValueError, match="is HRNet-W18-small-v1: this looks like HRNet-W18-small-v2"
    ):
        load_weights(detector(), write(state))


def test_half_precision_and_double_are_loaded(files, detector, write):
    for dtype in (torch.float16, torch.float64):
        model = detector()
        state = {name: value.to(dtype) for name, value in files["hrnet_kpt"].items()}
        load_weights(model, write(state), whole=True)
        for name, value in model.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, state[name].float())


def test_models_without_hrnet_go_on_from_their_own_checkpoints(write):
    build = functools.partial(nn.Sequential, nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model, saved = build(), build()
    loaded = load_weights(model, write({"model": saved.state_dict()}), whole=True)
    assert loaded.absent == [] and loaded.line.endswith("from hrnet_kpt layout")
