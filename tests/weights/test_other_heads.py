"""Backbones of HRNets for other tasks, and checkpoints of other training frameworks."""

from pathlib import Path

import pytest
import torch

from hrnet_kpt.cli.convert_weights import convert_files
from hrnet_kpt.weights import load_weights
from hrnet_kpt.weights.read import read_checkpoint

W = torch.ones(4, 4, 1, 1)
# Of each source the names of its heads, as its code has them.
HEADS = {
    # HRNet-Facial-Landmark-Detection
    "facial landmarks": ("", {"head.0.weight": W, "head.0.bias": W, "head.1.running_mean": W, "head.3.weight": W}),
    # DEKR
    "DEKR": (
        "",
        {
            "transition_heatmap.0.weight": W,
            "transition_cls.0.weight": W,
            "head_heatmap.1.weight": W,
            "transition_offset.0.weight": W,
            "offset_feature_layers.0.0.conv1.weight": W,
            "offset_final_layer.0.weight": W,
        },
    ),
    "depth": ("", {"decoder.conv0.weight": W, "output.bias": W}),
    "mmpose, associative embedding": ("backbone.", {"head.keypoint_head.0.weight": W, "loss.heatmap.weight": W}),
    "FCOS of mmdetection": ("backbone.", {"bbox_head.conv_cls.weight": W, "bbox_head.scales.0.scale": W}),
}  # fmt: skip


@pytest.mark.parametrize("source", HEADS)
def test_heads_of_other_tasks_are_ignored_by_name(
    source, bottom_up, detector, write, tmp_path, refusal
):
    prefix, heads = HEADS[source]
    path = write(
        {"state_dict": {prefix + name: value for name, value in bottom_up.items()} | heads}
    )
    model = detector()
    loaded = load_weights(model, path)
    assert loaded.parts == ["bottom_up"] and len(loaded.ignored) == len(heads)
    assert all(name.split(".")[0] in loaded.line for name in heads)
    for name, value in model.backbone.bottom_up.state_dict().items():
        assert torch.equal(value, bottom_up[name])
    if source == "DEKR":
        lines = convert_files([path], str(tmp_path / "out.pth"))
        assert "HRNet-W18-small-v1" in lines[0] and "head_heatmap" in lines[0]
    refusal(load_weights, model, path, whole=True)


@pytest.mark.parametrize(
    "extra", ["stage4.1.branches.0.0.conv1.weight", "layer1.7.conv1.weight", "stage5.x.weight"]
)
def test_more_of_a_backbone_is_not_a_head(extra, bottom_up, detector, write, refusal):
    assert extra in refusal(load_weights, detector(), write({**bottom_up, extra: W}))


@pytest.mark.parametrize("lost", ["stage4.0.branches.0.0.conv1.weight", "conv1.weight"])
def test_heads_beside_a_part_of_a_backbone_are_not_ignored(
    lost, bottom_up, detector, write, refusal
):
    state = {**bottom_up, "head.0.weight": W}
    del state[lost]
    message = refusal(load_weights, detector(), write(state))
    assert lost in message and "head.0.weight" in message


@pytest.mark.parametrize(
    "prefix", ["model.", "net.backbone.", "lit.model.encoder.", "model.module.backbone."]
)
def test_prefix_of_lightning_is_removed(prefix, bottom_up, detector, write):
    content = {
        "pytorch-lightning_version": "2.4.0",
        "epoch": 3,
        "state_dict": {f"{prefix}{name}": value for name, value in bottom_up.items()}
        | {"criterion.weight": torch.ones(17)},
        "hyper_parameters": {"lr": 1e-3, "name": "hrnet"},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "loops": {"fit_loop": {"state_dict": {}}},
    }
    model = detector()
    assert load_weights(model, write(content)).parts == ["bottom_up"]
    for name, value in model.backbone.bottom_up.state_dict().items():
        assert torch.equal(value, bottom_up[name])


def test_own_detector_inside_a_lightning_module(detector, write):
    saved, model = detector(norm="BN"), detector(norm="BN")
    state = {f"detector.{name}": value for name, value in saved.state_dict().items()}
    assert load_weights(model, write({"state_dict": state})).absent == []


def test_file_with_two_networks_is_refused(bottom_up, detector, write, refusal):
    state = {
        f"{who}.{name}": value
        for who in ("teacher", "student")
        for name, value in bottom_up.items()
    }
    assert "teacher., student." in refusal(load_weights, detector(), write(state))


@pytest.mark.parametrize(
    ("wrap", "is_read"),
    [
        (lambda state: [state], True),
        (lambda state: (state, {"epoch": 3}), True),
        (lambda state: list(state.items()), True),
        (lambda state: [{"model": state}, 3], True),
        (lambda state: {"model_state_dict": state, "loss": 0.1}, True),
        (lambda state: {"module": state, "global_steps": 3}, True),  # DeepSpeed
        (lambda state: [state, state], False),
        (lambda state: list(state.values()), False),
        (lambda state: [], False),
    ],
)
def test_lists_are_read_or_refused_in_a_line(wrap, is_read, write, refusal):
    state = {"a.weight": torch.ones(2), "b.weight": torch.zeros(3)}
    path = write(wrap(state))
    if is_read:
        found, _ = read_checkpoint(Path(path))
        assert list(found) == list(state)
        assert all(torch.equal(found[name], value) for name, value in state.items())
    else:
        assert path in refusal(read_checkpoint, Path(path))
