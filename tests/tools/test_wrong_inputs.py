"""Wrong overrides, config files and wiring, as users type them: one line that names the key and the remedy."""

import os
import shutil
import subprocess
import sys

import pytest

PAGE = "hrnet_w18_small_kpt_synthetic.py"
RPN, HEADS = "model.proposal_generator", "model.roi_heads"

# What is typed after --config-file, and words of the one line that answers it.
OVERRIDES = [
    # keys
    (["train.max_iters=5"], "train.max_iters", "did you mean train.max_iter"),
    (["max_iter=5"], "max_iter", "train.max_iter"),
    (["solver.base_lr=0.1"], "solver.base_lr", "optimizer.lr here"),
    (["SOLVER.MAX_ITER=5"], "SOLVER.MAX_ITER", "train.max_iter here"),
    (["MODEL.WEIGHTS", "/x.pth"], "MODEL.WEIGHTS", "train.init_checkpoint=/x.pth"),
    (["train.max_iter", "5"], "train.max_iter", "write key and value as one, train.max_iter=5"),
    (["optimizer.lr"], "optimizer.lr", "optimizer.lr=VALUE"),
    (["trian.max_iter=5"], "trian.max_iter", "train.max_iter"),
    (["train..max_iter=5"], "train..max_iter", "with dots"),
    (["=5"], "'=5'", "with dots"),
    ([""], "''", "write key=value"),
    (["model.backbone.out_channel=128"], "out_channel", "model.backbone.out_channels"),
    (["model.backbone.bottom_up.widht=32"], "widht", "model.backbone.bottom_up.width"),
    (["+model.backbone.bottom_up.widht=32"], "model.backbone.bottom_up.widht", "did you mean width"),
    (["+optimizer.beta=[0.9,0.99]"], "optimizer.beta", "did you mean betas"),
    (["+train.max_iters=5"], "train.max_iters", "did you mean train.max_iter"),
    (["model.roi_heads.box_predictor.test_nms_thresh=0.6"], "test_nms_thresh", "write +model"),
    (["dataloader.train.mapper.augmentations.5.max_size=3"], "augmentations", "it has 2"),
    (["dataloader.train.mapper.augmentations.x.max_size=3"], "augmentations", "no x"),
    (["+dataloader.train.mapper.augmentations.5={a:1}"], "augmentations.5", "next place of the list is 2"),
    (["train.max_iter.x=5"], "train.max_iter is 1800", "nothing in it"),
    (["model.roi_heads.keypoint_in_features.0=p3"], "keypoint_in_features", "follows ${.box_in_features}"),
    (["~train.max_iters"], "~train.max_iters", "did you mean train.max_iter"),
    (["~train.max_iter=5"], "train.max_iter is 1800", "deletes nothing"),
    (["~train.max_iter"], "train.max_iter", "put it back"),
    (["~data.train.annotations"], "data.train.annotations", "put it back"),
    # values
    (["train.amp.enabled=off"], "train.amp.enabled", "write train.amp.enabled=false"),
    (["train.amp.enabled=ture"], "train.amp.enabled", "write train.amp.enabled=true"),
    (["train.amp.enabled=1"], "train.amp.enabled", "write train.amp.enabled=true"),
    (["train.max_iter=ten"], "train.max_iter", "write a whole number"),
    (["train.max_iter="], "train.max_iter", "write train.max_iter=VALUE"),
    (["train.max_iter=1.5"], "train.max_iter", "write a whole number"),
    (["train.max_iter=1e30"], "train.max_iter", "write a whole number"),
    (["train.max_iter=null"], "train.max_iter", "~train.max_iter"),
    (["train.max_iter=true"], "train.max_iter", "write a whole number"),
    (["train.max_iter=5#x"], "train.max_iter", "write a whole number"),
    (["train.max_iter=${train.nothing}"], "train.max_iter=${train.nothing}", "does not exist"),
    (["train.max_iter=${train.output_dir}"], "train.max_iter", "write a whole number"),
    (["optimizer.lr=nan"], "optimizer.lr", "no number"),
    (["optimizer.lr=fast"], "optimizer.lr", "write a number"),
    (["optimizer.lr=0.01,0.02"], "optimizer.lr", "a run takes one: write optimizer.lr=VALUE"),
    (["train.output_dir=a,b"], "train.output_dir", "\"train.output_dir='a,b'\""),
    (["train.output_dir=null"], "train.output_dir", "write train.output_dir="),
    (["train.amp=true"], "train.amp", "write train.amp.enabled=VALUE"),
    (["train.amp={enabled:off}"], "train.amp.enabled", "true or false"),
    (["train.amp={enabld:true}"], "train.amp.enabld", "+train.amp.enabld"),
    (["model.backbone=5"], "model.backbone", "write model.backbone.bottom_up.width=VALUE"),
    (["model.pixel_mean=1,2,3"], "model.pixel_mean", "write a list in brackets, model.pixel_mean=[1,2,3]"),
    (["model.proposal_generator.pre_nms_topk=9"], "pre_nms_topk", "write a list"),
    (["model.proposal_generator.pre_nms_topk=[9.5,8]"], "pre_nms_topk.0", "write a whole number"),
    (["data.keypoints=[a]"], "data.keypoints", "write auto or a mapping"),
    (["model.roi_heads.num_classes=two"], "model.roi_heads.num_classes", "write model.roi_heads.num_classes.classes"),
    # ranges and choices
    (["train.max_iter=0"], "train.max_iter=0", "1 at least"),
    (["train.log_period=0"], "train.log_period=0", "1 at least"),
    (["train.checkpointer.period=0"], "train.checkpointer.period=0", "1 at least"),
    (["train.seed=-2"], "train.seed=-2", "-1 at least"),
    (["optimizer.lr=0"], "optimizer.lr=0", "set a positive rate"),
    (["optimizer.lr=-1"], "optimizer.lr=-1", "0 at least"),
    (["train.amp.dtype=half"], "train.amp.dtype", "float16, bfloat16"),
    (["train.device=tpu9"], "train.device=tpu9", "use cuda or cpu"),
    (["train.output_dir="], "train.output_dir", "name the run's folder"),
    (["data.on_bad_image=ignore"], "data.on_bad_image", "fail, skip"),
    (["dataloader.train.total_batch_size=0"], "dataloader.train.total_batch_size=0", "1 at least"),
    (["train.init_checkpoint=x.pth"], "train.init_checkpoint=x.pth", "no such file"),
    # flags
    (["--eval_only"], "--eval_only", "did you mean --eval-only"),
    (["--train.max_iter=5"], "--train.max_iter=5", "write train.max_iter=5"),
    (["--check", "--print-config"], "--print-config", "--check"),
    (["--num-gpus", "two"], "--num-gpus", "two"),
]  # fmt: skip
WIRING = [
    (["model.backbone._target_=hrnet_kpt.modeling.HRFPNv2"], "HRFPNv2", "target-unknown"),
    (["~model.proposal_generator.anchor_matcher._target_"], "anchor_matcher", "write L(Matcher)(...)"),
    (["optimizer._target_=torch.optim.Adamw"], "optimizer._target_", "check its spelling"),
    (["~model.pixel_mean"], "model.pixel_mean", "GeneralizedRCNN needs it"),
    (["~model.backbone.out_channels"],
     f"{RPN}.head.in_channels", "model.backbone.out_channels, which does not exist"),
    (["model.backbone.out_features=[p2,p3,p4,p5]"], "levels-differ", "strides=[4, 8, 16, 32] and 4 sizes"),
    ([f"{RPN}.in_features=[res4]"], f"{RPN}.in_features asks for ['res4']", "name some of p2, p3"),
    ([f"{HEADS}.box_in_features=[res4]"], f"{HEADS}.box_in_features asks for ['res4']", "name some of p2, p3"),
    (["model.backbone.in_features=[]"], "model.backbone.in_features", "features-empty"),
    ([f"{RPN}.anchor_generator.strides=[8,16,32,64,128]"], "strides-differ", "[4, 8, 16, 32, 64]: set these"),
    ([f"{RPN}.head.num_anchors=9"], "anchors-differ", f"set {RPN}.head.num_anchors"),
    ([f"{RPN}.head.in_channels=256"], f"{RPN}.head.in_channels=256", "64 channels: let it follow"),
    ([f"{HEADS}.box_pooler.scales=[0.5,0.25,0.125,0.0625]"],
     f"{HEADS}.box_pooler.scales=[1/2", "[1/4, 1/8, 1/16, 1/32]"),
    (["model.roi_heads.keypoint_head.input_shape.height=7"], "input_shape.height=7", "is 14: set it to follow"),
    ([f"~{HEADS}.keypoint_in_features", f"{HEADS}.keypoint_pooler.scales=[0.25]"],
     "keypoint_in_features", "set all of"),
    ([f"{HEADS}.keypoint_head.num_keypoints=18"], "num_keypoints is 18", "it is 17: leave it to data.keypoints"),
    (["model.roi_heads.num_classes=80"], "model.roi_heads.num_classes is 80", "it is 1: leave it to data.classes"),
    (["model.input_format=BGR"], "model.pixel_mean", "it is [103.53, 116.28, 123.675]"),
    (["dataloader.train.mapper.image_format=BGR"], "dataloader.train.mapper.image_format is BGR", "let it follow"),
    (["model.backbone.bottom_up.norm=FrozenBN"], "norms-without-weights", "model.backbone.bottom_up.norm=BN"),
    (["model.backbone.bottom_up.norm=SyncBN"], "norms-unsynchronised", "model.backbone.bottom_up.norm=auto"),
    (["model.backbone.bottom_up.norm=LN"], "norm='LN'", "GN"),
    (["lr_multiplier.scheduler._target_=torch.optim.SGD"], "lr_multiplier.scheduler", "argument"),
]  # fmt: skip
# What a config file of one's own says after importing from a page.
FILES = [
    ("train.max_itr = 5", "train.max_itr is read by nothing", "did you mean train.max_iter"),
    ("train.amp.enabled = 'off'", "train.amp.enabled='off'", "must be a bool, true or false"),
    ("train.max_iter = '5'", "train.max_iter='5'", "must be a whole number"),
    ("del train.max_iter", "train.max_iter", "put it back"),
    ("del train.log_period", "train.log_period is missing", "set it"),
    ("model.backbone.bottom_up.widht = 32", "model.backbone.bottom_up.widht", "did you mean width"),
    ("model.backbone.bottom_up.width = 'wide'", "model.backbone.bottom_up.width is 'wide'", "write a whole number"),
    ("optimizer.lr = 'fast'", "optimizer.lr is 'fast'", "write a number"),
    ("optimizer.betas = [2.0, 0.9]", "optimizer cannot be built", "beta"),
    ("trian.max_iter = 5", "mine.py, line 2", "trian"),
    ("model = dict(", "mine.py, line 2", "never closed"),
    ("from .nowhere import thing", "mine.py, line 2", "nowhere"),
    ("import no_such_package", "mine.py, line 2", "no_such_package"),
    ("del optimizer", "optimizer is missing", "import it"),
    ("model.backbone.shape = object()", "model.backbone.shape", "HRFPN takes no shape"),
    ("train.note = object()", "train.note", "L(object)"),
    ("dataloader.train.mapper.augmentations[1]._target_ = lambda **_: None", "augmentations.1", "module"),
]  # fmt: skip


@pytest.fixture(scope="module")
def main(load_tool):
    return load_tool("tools/lazyconfig_train_net.py").main


def check_answer(status, error, words):
    assert status == 2, error
    first, *others = error.splitlines()
    assert first.startswith("error: ")
    assert all(line.startswith("  also: ") for line in others)
    assert "Traceback" not in error
    assert all(word in first for word in words), first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [pytest.param(typed, words, id=" ".join(typed)) for typed, *words in OVERRIDES + WIRING],
)
def test_wrong_arguments(main, arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["--config-file", PAGE, *arguments])
    except SystemExit as end:  # argparse's way to say it
        status = end.code
    check_answer(status, capsys.readouterr().err, words)
    assert not list(tmp_path.iterdir()), "nothing is drawn or written before the config is right"


@pytest.mark.parametrize(("line", "words"), [pytest.param(f[0], f[1:], id=f[0]) for f in FILES])
def test_wrong_config_file(main, line, words, repository, tmp_path, capsys):
    shutil.copytree(repository / "configs", tmp_path / "configs")
    nodes = "data, dataloader, lr_multiplier, model, optimizer, train"
    path = tmp_path / "configs" / "mine.py"
    path.write_text(f"from .{PAGE.removesuffix('.py')} import {nodes}\n{line}\n")
    status = main(["--config-file", str(path), f"train.output_dir={tmp_path / 'run'}"])
    check_answer(status, capsys.readouterr().err, words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(typed, words, id=" ".join(typed), marks=() if fast else pytest.mark.slow)
        for fast, typed, *words in (
            (False, ["train.max_iters=5"], "train.max_iters", "did you mean train.max_iter"),
            (
                True,
                ["model.roi_heads.box_in_features=[res4]"],
                "box_in_features",
                "name some of p2",
            ),
            (False, ["train.amp.enabled=off"], "train.amp.enabled", "=false"),
            (False, ["MODEL.WEIGHTS", "x.pth"], "MODEL.WEIGHTS", "train.init_checkpoint=x.pth"),
            (False, ["--eval_only"], "--eval_only", "--eval-only"),
            (False, ["model.backbone.bottom_up.norm=FrozenBN"], "FrozenBN", "norm=BN"),
        )
    ],
)
def test_wrong_arguments_of_the_real_command(arguments, words, repository, tmp_path):
    result = subprocess.run(
        [sys.executable, repository / "tools" / "lazyconfig_train_net.py", "--config-file", PAGE, *arguments],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ, timeout=60,
    )  # fmt: skip
    check_answer(result.returncode, result.stderr, words)
    assert "Traceback" not in result.stdout
    assert not list(tmp_path.iterdir())
