"""Invalid overrides, config files and models: errors name the key and the remedy, with exit status 2."""

import re
import shutil
import subprocess
import sys

import pytest

from hrnet_kpt.cli.train import main

PAGE = "hrnet_w18_small_kpt_synthetic.py"
RPN, HEADS = "model.proposal_generator", "model.roi_heads"

# Arguments after --config-file, and whole words of the error line: keys, values, names.
OVERRIDES = [
    # keys
    (["train.max_iters=5"], "train.max_iters", "train.max_iter"),
    (["max_iter=5"], "max_iter", "train.max_iter"),
    (["solver.base_lr=0.1"], "solver.base_lr", "optimizer.lr"),
    (["SOLVER.MAX_ITER=5"], "SOLVER.MAX_ITER", "train.max_iter"),
    (["MODEL.WEIGHTS", "/x.pth"], "MODEL.WEIGHTS", "train.init_checkpoint=/x.pth"),
    (["train.max_iter", "5"], "train.max_iter", "train.max_iter=5"),
    (["optimizer.lr"], "optimizer.lr", "optimizer.lr=VALUE"),
    (["trian.max_iter=5"], "trian.max_iter", "train.max_iter"),
    (["train..max_iter=5"], "train..max_iter"),
    (["=5"], "'=5'"),
    ([""], "''", "key=value"),
    (["model.backbone.out_channel=128"], "out_channel", "model.backbone.out_channels"),
    (["model.backbone.bottom_up.widht=32"], "widht", "model.backbone.bottom_up.width"),
    (["+model.backbone.bottom_up.widht=32"], "model.backbone.bottom_up.widht", "width"),
    (["+optimizer.beta=[0.9,0.99]"], "optimizer.beta", "betas"),
    (["+train.max_iters=5"], "train.max_iters", "train.max_iter"),
    (["model.roi_heads.box_predictor.test_nms_thresh=0.6"],
     "+model.roi_heads.box_predictor.test_nms_thresh=VALUE"),
    (["dataloader.train.mapper.augmentations.5.max_size=3"], "augmentations", "2"),
    (["dataloader.train.mapper.augmentations.x.max_size=3"], "dataloader.train.mapper.augmentations", "x"),
    (["+dataloader.train.mapper.augmentations.5={a:1}"], "augmentations.5", "2"),
    (["train.max_iter.x=5"], "train.max_iter", "3300"),
    (["model.backbone.in_features.0=stage2"], "in_features", "${.bottom_up.out_features}"),
    (["~train.max_iters"], "~train.max_iters", "train.max_iter"),
    (["~train.max_iter=5"], "~train.max_iter=5", "3300"),
    (["~train.max_iter"], "train.max_iter"),
    (["~data.train.annotations"], "data.train.annotations"),
    # values
    (["train.amp.enabled=off"], "train.amp.enabled", "train.amp.enabled=false"),
    (["train.amp.enabled=ture"], "train.amp.enabled", "train.amp.enabled=true"),
    (["train.amp.enabled=1"], "train.amp.enabled", "train.amp.enabled=true"),
    (["train.max_iter=ten"], "train.max_iter"),
    (["train.max_iter="], "train.max_iter", "train.max_iter=VALUE"),
    (["train.max_iter=1.5"], "train.max_iter"),
    (["train.max_iter=1e30"], "train.max_iter"),
    (["train.max_iter=null"], "~train.max_iter"),
    (["train.max_iter=true"], "train.max_iter"),
    (["train.max_iter=5#x"], "train.max_iter"),
    (["train.max_iter=${train.nothing}"], "train.max_iter=${train.nothing}"),
    (["train.max_iter=${train.output_dir}"], "train.max_iter"),
    (["optimizer.lr=nan"], "optimizer.lr=nan"),
    (["optimizer.lr=fast"], "optimizer.lr"),
    (["optimizer.lr=0.01,0.02"], "optimizer.lr", "optimizer.lr=VALUE"),
    (["train.output_dir=a,b"], "train.output_dir", "\"train.output_dir='a,b'\""),
    (["train.output_dir=null"], "train.output_dir", "train.output_dir="),
    (["train.amp=true"], "train.amp", "train.amp.enabled=VALUE"),
    (["train.amp={enabled:off}"], "train.amp.enabled"),
    (["train.amp={enabld:true}"], "train.amp.enabld", "+train.amp.enabld"),
    (["model.backbone=5"], "model.backbone", "model.backbone.bottom_up.width=VALUE"),
    (["model.pixel_mean=1,2,3"], "model.pixel_mean", "model.pixel_mean=[1,2,3]"),
    (["model.proposal_generator.pre_nms_topk=9"], "pre_nms_topk"),
    (["model.proposal_generator.pre_nms_topk=[9.5,8]"], "pre_nms_topk.0"),
    (["data.keypoints=[a]"], "data.keypoints", "auto"),
    (["data.keypoints.reference=[nose,tail]"], "data.keypoints", "reference", "'tail'", "left_eye"),
    (["data.keypoints={reference:[nose]}"], "data.keypoints", "reference", "'nose'", "two"),
    (["data.keypoints={reference:nose}"], "data.keypoints", "reference", "'nose'", "two"),
    (["data.keypoints.reference=[nose,nose]"], "data.keypoints", "reference", "different"),
    (["data.keypoints.references=[nose,tail]"], "data.keypoints", "auto"),
    (["model.roi_heads.num_classes=two"], "model.roi_heads.num_classes", "model.roi_heads.num_classes.classes"),
    # ranges and choices
    (["train.max_iter=0"], "train.max_iter=0"),
    (["train.log_period=0"], "train.log_period=0"),
    (["train.checkpointer.period=0"], "train.checkpointer.period=0"),
    (["train.seed=-2"], "train.seed=-2"),
    (["optimizer.lr=0"], "optimizer.lr=0"),
    (["optimizer.lr=-1"], "optimizer.lr=-1"),
    (["train.amp.dtype=half"], "train.amp.dtype", "float16, bfloat16"),
    (["train.device=tpu9"], "train.device=tpu9", "cuda", "cpu"),
    (["train.output_dir="], "train.output_dir"),
    (["data.on_bad_image=ignore"], "data.on_bad_image", "fail, skip"),
    (["dataloader.train.total_batch_size=0"], "dataloader.train.total_batch_size=0"),
    (["train.init_checkpoint=x.pth"], "train.init_checkpoint=x.pth"),
    # flags
    (["--eval_only"], "--eval_only", "--eval-only"),
    (["--train.max_iter=5"], "--train.max_iter=5", "train.max_iter=5"),
    (["--check", "--print-config"], "--print-config", "--check"),
    (["--num-gpus", "two"], "--num-gpus", "two"),
]  # fmt: skip
WIRING = [
    (["model.backbone._target_=hrnet_kpt.modeling.HRFPNv2"], "HRFPNv2", "target-unknown"),
    (["~model.proposal_generator.anchor_matcher._target_"], "anchor_matcher", "L(Matcher)(...)"),
    (["optimizer._target_=torch.optim.Adamw"], "target-unknown", "optimizer._target_"),
    (["~model.pixel_mean"], "model.pixel_mean", "GeneralizedRCNN"),
    (["~model.backbone.out_channels"],
     f"{RPN}.head.in_channels", "model.backbone.out_channels"),
    (["model.roi_heads.box_in_features=[p3]", "model.roi_heads.keypoint_in_features=[p3]",
      f"{RPN}.in_features=[p3]"], "levels-differ", "[8]", "1"),
    ([f"{RPN}.in_features=[res4]"], f"{RPN}.in_features", "['res4']", "p2, p3"),
    ([f"{HEADS}.box_in_features=[res4]"], f"{HEADS}.box_in_features", "['res4']", "p2, p3"),
    (["model.backbone.in_features=[]"], "model.backbone.in_features", "features-empty"),
    ([f"{RPN}.anchor_generator.strides=[16,32]"], "strides-differ", "[8, 16]"),
    ([f"{RPN}.head.num_anchors=3"], "anchors-differ", f"{RPN}.head.num_anchors"),
    ([f"{RPN}.head.in_channels=256"], f"{RPN}.head.in_channels=256", "64"),
    ([f"{HEADS}.box_pooler.scales=[0.5,0.25,0.125]"],
     f"{HEADS}.box_pooler.scales=[1/2", "[1/4, 1/8, 1/16]"),
    (["model.roi_heads.keypoint_head.input_shape.height=7"], "input_shape.height=7", "14"),
    ([f"~{HEADS}.keypoint_in_features", f"{HEADS}.keypoint_pooler.scales=[0.25]"],
     "head-incomplete", "keypoint_in_features"),
    ([f"{HEADS}.keypoint_head.num_keypoints=18"], "num_keypoints", "18", "17", "data.keypoints"),
    (["model.roi_heads.num_classes=80"], "model.roi_heads.num_classes", "80", "1", "data.classes"),
    (["model.input_format=BGR"], "model.pixel_mean", "[103.53, 116.28, 123.675]"),
    (["dataloader.train.mapper.image_format=BGR"], "dataloader.train.mapper.image_format", "BGR"),
    (["model.backbone.bottom_up.norm=FrozenBN"], "norms-without-weights", "model.backbone.bottom_up.norm=BN"),
    (["model.backbone.bottom_up.norm=SyncBN"], "norms-unsynchronised", "model.backbone.bottom_up.norm=auto"),
    (["model.backbone.bottom_up.norm=LN"], "norm='LN'", "GN"),
    (["lr_multiplier.scheduler._target_=torch.optim.SGD"], "lr_multiplier.scheduler"),
]  # fmt: skip
# A line of a user's config file after its imports, and whole words of the error line.
FILES = [
    ("train.max_itr = 5", "train.max_itr", "train.max_iter"),
    ("train.amp.enabled = 'off'", "train.amp.enabled='off'"),
    ("train.max_iter = '5'", "train.max_iter='5'"),
    ("del train.max_iter", "train.max_iter"),
    ("del train.log_period", "train.log_period"),
    ("model.backbone.bottom_up.widht = 32", "model.backbone.bottom_up.widht", "width"),
    ("model.backbone.bottom_up.width = 'wide'", "model.backbone.bottom_up.width", "'wide'"),
    ("optimizer.lr = 'fast'", "optimizer.lr", "'fast'"),
    ("optimizer.betas = [2.0, 0.9]", "optimizer", "beta"),
    ("trian.max_iter = 5", "mine.py, line 2", "trian"),
    ("model = dict(", "mine.py, line 2"),
    ("from .nowhere import thing", "mine.py, line 2", "nowhere"),
    ("import no_such_package", "mine.py, line 2", "no_such_package"),
    ("del optimizer", "optimizer"),
    ("model.backbone.shape = object()", "model.backbone.shape", "HRFPN", "shape"),
    ("train.note = object()", "train.note", "L(object)"),
    ("dataloader.train.mapper.augmentations[1]._target_ = lambda **_: None", "augmentations.1"),
]  # fmt: skip


def assert_names(line, words):
    for word in words:
        assert re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line), line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [pytest.param(typed, words, id=" ".join(typed)) for typed, *words in OVERRIDES + WIRING],
)
def test_wrong_arguments(arguments, words, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    assert_names(refused(main, ["--config-file", PAGE, *arguments])[0], words)
    assert not list(tmp_path.iterdir()), "no files are written before the config is valid"


@pytest.mark.parametrize(("line", "words"), [pytest.param(f[0], f[1:], id=f[0]) for f in FILES])
def test_wrong_config_file(line, words, repository, tmp_path, refused):
    shutil.copytree(repository / "configs", tmp_path / "configs")
    nodes = "data, dataloader, lr_multiplier, model, optimizer, train"
    path = tmp_path / "configs" / "mine.py"
    path.write_text(f"from .{PAGE.removesuffix('.py')} import {nodes}\n{line}\n")
    error, *_ = refused(main, ["--config-file", path, f"train.output_dir={tmp_path / 'run'}"])
    assert_names(error, words)
    assert not (tmp_path / "run").exists()


def test_real_command_prints_nothing_but_the_error(repository, tmp_path):
    """No warning of a library, no traceback."""
    tool = repository / "tools" / "lazyconfig_train_net.py"
    result = subprocess.run(
        [sys.executable, tool, "--config-file", PAGE, "model.roi_heads.box_in_features=[res4]"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 2
    first, *others = result.stderr.splitlines()
    assert first.startswith("error: ") and all(line.startswith("  also: ") for line in others)
    assert_names(first, ["box_in_features", "p2, p3"])
    assert "Traceback" not in result.stdout
    assert not list(tmp_path.iterdir())
