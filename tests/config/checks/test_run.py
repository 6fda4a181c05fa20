"""The checks of a run's folder, weights, norms and inference."""

import pytest
import torch

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.config.checks.run import check_run
from hrnet_kpt.config.checks.values import CHOICES
from hrnet_kpt.inference.keypoint_head import DECODINGS, INSTANCE_SCORES
from hrnet_kpt.modeling import HRNet

PAGE = "hrnet_w18_small_kpt_synthetic.py"
NORM = "model.backbone.bottom_up.norm"


@pytest.fixture
def save_weights(tmp_path):
    """Function of changes of an HRNet's state dict: the override to start from it."""

    def save_weights(change=lambda state: None):
        state = HRNet(16, 32, (1, 1, 1, 1), (1, 2, 2, 2), stem_channels=32).state_dict()
        change(state)
        torch.save(state, tmp_path / "weights.pth")
        return f"train.init_checkpoint={tmp_path / 'weights.pth'}"

    return save_weights


@pytest.mark.parametrize(
    ("batch", "processes", "uneven"), [(4, 1, False), (4, 2, False), (4, 3, True), (2, 4, True)]
)
def test_batch_must_be_divisible_by_the_processes(batch, processes, uneven):
    cfg = load_config(PAGE, [f"dataloader.train.total_batch_size={batch}"])
    findings = check_run(cfg, resume=False, processes=processes)
    assert [finding.name for finding in findings] == ["batch-uneven"] * uneven


@pytest.mark.parametrize(
    ("trace", "level"),
    [("model_0000001.pth", "error"), ("model_final.pth", "error"), ("metrics.json", "warning"),
     ("config.yaml", "warning")],
)  # fmt: skip
def test_folder_of_another_run_is_found(tmp_path, trace, level):
    (tmp_path / trace).touch()
    cfg = load_config(PAGE, [f"train.output_dir={tmp_path}"])
    [finding] = check_run(cfg, resume=False, processes=1)
    assert (finding.level, finding.name) == (level, "output-used")
    assert finding.keys == ("train.output_dir",)
    if level == "error":
        assert check_run(cfg, resume=True, processes=1) == []
        cfg.train.fast_dev_run = True  # in a subfolder
        assert check_run(cfg, resume=False, processes=1) == []


def test_frozen_norms_need_weights_or_a_checkpoint(check, save_weights, tmp_path):
    frozen = [f"{NORM}=FrozenBN"]
    assert [f.name for f in check(frozen)] == ["norms-without-weights"]
    assert check([*frozen, save_weights()]) == []
    assert [f.name for f in check(frozen, resume=True)] == ["norms-without-weights"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_0000001.pth").touch()
    assert check(frozen, resume=True) == []
    assert check(frozen, training=False) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("processes", [1, 2])
def test_synchronised_norms_need_gpus(check, processes):
    [finding] = check([f"{NORM}=SyncBN"], processes=processes)
    assert (finding.level, finding.name) == ("error", "norms-unsynchronised")
    assert check([f"{NORM}=SyncBN"], training=False) == []


@pytest.mark.parametrize("device", ["mps", "cuda:1", "cpu", "xpu", "gpu"])
def test_devices_that_can_train(check, device):
    found = check([f"train.device={device}"])
    assert [f.name for f in found] == ["device-unknown"] * (device in ("xpu", "gpu"))


@pytest.mark.parametrize("tensor", ["stage3.0.fuse_layers.2.0.1.0.weight", "conv1.weight"])
def test_weights_that_do_not_fit_are_found(check, save_weights, tensor):
    nan = tensor == "conv1.weight"
    weights = save_weights(
        lambda state: state[tensor].fill_(torch.nan) if nan else state.pop(tensor)
    )
    [finding] = check([weights])
    assert (finding.level, finding.name) == ("error", "weights-unfit")
    assert finding.keys == ("train.init_checkpoint",) and tensor in str(finding)
    not_strict = check([weights, "train.init_strict=False"])
    assert [f.name for f in not_strict] == ["weights-unfit"] * nan


def test_weights_of_the_bottom_up_only_train_but_do_not_evaluate(check, save_weights):
    weights = save_weights()
    assert check([weights]) == []
    [finding] = check([weights], training=False)
    assert finding.name == "weights-unfit"
    assert all(part in str(finding) for part in ("neck", "RPN", "box head", "keypoint head"))


def test_scores_of_keypoints_need_a_keypoint_head():
    cfg = load_config(PAGE, ["inference.instance_score=keypoints"])
    for name in ("keypoint_in_features", "keypoint_pooler", "keypoint_head"):
        del cfg.model.roi_heads[name]
    findings = [(f.level, f.name, f.keys) for f in check_config(cfg)]
    assert ("error", "inference-wrong", ("inference.instance_score",)) in findings


def test_augmentation_needs_the_classes_of_the_model():
    cfg = load_config(PAGE, ["inference.tta.enabled=true"])
    cfg.inference.tta.classes = {"person": [], "horse": []}
    [finding] = check_config(cfg)
    assert (finding.level, finding.name) == ("error", "inference-wrong")
    assert finding.keys == ("inference.tta",)


def test_choices_are_those_of_the_keypoint_head():
    assert CHOICES["inference.instance_score"] == INSTANCE_SCORES
    assert CHOICES["inference.keypoint_decoding"] == DECODINGS
