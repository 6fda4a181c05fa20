"""Which tensors are loaded and reported, and which files are refused, before the model changes."""

import logging

import pytest
import timm
import torch
from detectron2.layers import FrozenBatchNorm2d
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hrnet_kpt.modeling import HRFPN, HRNet
from hrnet_kpt.weights import load_weights, refuse_identity_norms

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
    """Rename to an unknown name, or cut off or add a prefix or suffix."""
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


def make_non_finite(state, name, draw):
    value = state[name] = state[name].clone()
    value.view(-1)[draw(st.integers(0, value.numel() - 1))] = draw(
        st.sampled_from([torch.nan, torch.inf, -torch.inf])
    )


def retype(state, name, draw):
    state[name] = state[name].to(draw(st.sampled_from([torch.int64, torch.uint8, torch.bool])))


@pytest.mark.parametrize("damage", [rename, drop, reshape, make_non_finite, retype])
@pytest.mark.parametrize("layout", ["hrnet_kpt", "mmdet", "timm"])
def test_damage_to_any_tensor_is_refused_by_its_name(
    layout, damage, files, detector, write, refusal
):
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
        damage(state, name, data.draw)
        assert name in refusal(load_weights, model, write(state))

    refused()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def without(state, *beginnings):
    return {name: value for name, value in state.items() if not name.startswith(beginnings)}


def test_inf_and_nan_are_refused_in_any_tensor(files, detector, write, refusal):
    state = dict(files["timm"])
    state["classifier.weight"] = state["classifier.weight"] * torch.nan  # it is not loaded
    assert "classifier.weight" in refusal(load_weights, detector(), write(state))
    # 1e300 is finite only in double precision.
    weight = torch.full_like(state["conv1.weight"], 1e300, dtype=torch.double)
    message = refusal(load_weights, detector(), write({**files["timm"], "conv1.weight": weight}))
    assert "conv1.weight" in message


def test_sum_that_overflows_in_half_precision_is_accepted(files, detector, write):
    halves = {name: value.half() for name, value in files["timm"].items()}
    halves["conv1.weight"] = torch.full_like(halves["conv1.weight"], 6e4)
    model = detector()
    load_weights(model, write(halves))
    assert (model.backbone.bottom_up.conv1.weight == halves["conv1.weight"].float()).all()


def test_name_with_a_line_break_stays_on_one_line(files, detector, write, refusal):
    state = {**files["timm"], "layer9\nweight": torch.zeros(1)}
    assert "layer9 weight" in refusal(load_weights, detector(), write(state))


def test_absent_parts_are_listed_and_not_changed(files, detector, write):
    model = detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = without(files["hrnet_kpt"], "roi_heads.mask_head.", "proposal_generator.")
    loaded = load_weights(model, write(state))
    assert loaded.absent == ["RPN", "mask head"]
    assert loaded.line.endswith(": RPN, mask head")
    for name, value in model.state_dict().items():
        assert torch.equal(value, state.get(name, before[name]))


def test_parts_that_the_model_does_not_have_are_ignored(files, detector, write):
    model = detector()
    del model.roi_heads.mask_head
    loaded = load_weights(model, write(files["mmdet"]))
    assert loaded.parts == ["bottom_up", "neck", "RPN", "box head"]
    assert len(loaded.ignored) == 12 and "(roi_head.mask_head)" in loaded.line


def test_evaluation_and_resume_need_every_part_and_no_other(files, detector, write, refusal):
    whole = files["hrnet_kpt"]
    load_weights(detector(), write(whole), whole=True)
    path = write(without(whole, "roi_heads.mask_head."), "no_masks.pth")
    for strict in (True, False):
        message = refusal(load_weights, detector(), path, whole=True, strict=strict)
        assert "mask head" in message and "--resume" in message
    model = detector()
    del model.roi_heads.mask_head
    message = refusal(load_weights, model, write(whole), whole=True)
    assert "roi_heads.mask_head.mask_fcn1.weight" in message
    assert "neck" in refusal(load_weights, detector(), write(files["timm"]), whole=True)


def test_partial_load_takes_what_fits_and_lists_the_rest(files, detector, write, caplog, refusal):
    model = detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = dict(files["hrnet_kpt"])
    scores, deltas = "roi_heads.box_predictor.cls_score.", "roi_heads.box_predictor.bbox_pred."
    for name in (scores + "weight", scores + "bias", deltas + "weight"):
        state[name] = torch.cat([state[name], state[name]])
    del state[deltas + "bias"]
    message = refusal(load_weights, model, write(state))
    assert "3 classes, the model 1" in message and "init_strict=False" in message
    loaded = load_weights(model, write(state), strict=False)
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(loaded.problems) == 4 and all(problem in warning for problem in loaded.problems)
    assert "box head" in loaded.parts
    for name, value in model.state_dict().items():
        fits = name in state and not name.startswith("roi_heads.box_predictor.")
        assert torch.equal(value, state[name] if fits else before[name])


def test_part_of_which_nothing_fits_is_not_reported_as_loaded(files, detector, write):
    state = dict(files["hrnet_kpt"])
    for name in state:
        if name.startswith("backbone.") and "bottom_up" not in name:
            state[name] = torch.zeros(3)
    loaded = load_weights(detector(), write(state), strict=False)
    assert "neck" not in loaded.parts and ", neck" not in loaded.line


def test_heads_alone_need_init_strict_and_norms_that_are_not_frozen(
    files, detector, write, refusal
):
    path = write(without(files["hrnet_kpt"], "backbone."))
    assert "hrnet-kpt convert-weights" in refusal(load_weights, detector(norm="BN"), path)
    assert load_weights(detector(norm="BN"), path, strict=False).absent == ["bottom_up", "neck"]
    assert "FrozenBN" in refusal(load_weights, detector(), path, strict=False)


def test_frozen_norm_that_a_partial_load_leaves_at_identity_is_refused(
    files, detector, write, refusal
):
    model = detector()
    norm = "stage3.0.fuse_layers.2.0.1.1"
    message = refusal(load_weights, model, write(without(files["timm"], norm)), strict=False)
    assert "1 FrozenBN" in message and norm in message
    norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert norms and not any(norm.running_mean.any() for norm in norms)


def test_frozen_norms_without_statistics_are_refused_by_prefix(files, detector, write, refusal):
    model = detector()
    message = refusal(refuse_identity_norms, model)
    assert "FrozenBN" in message and "backbone.bottom_up.*" in message
    refuse_identity_norms(detector(norm="BN"))
    load_weights(model, write(files["timm"]))
    refuse_identity_norms(model)


def test_file_of_another_width_is_named(detector, write, refusal):
    state = HRNet(18, 64, (1, 1, 3, 2), (2, 2, 2, 2)).state_dict()
    message = refusal(load_weights, detector(), write(state))
    assert "HRNet-W18-small-v1" in message and "HRNet-W18-small-v2" in message


def test_half_precision_and_double_are_loaded(files, detector, write):
    for dtype in (torch.float16, torch.float64):
        model = detector()
        state = {name: value.to(dtype) for name, value in files["hrnet_kpt"].items()}
        load_weights(model, write(state), whole=True)
        for name, value in model.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, state[name].float())
