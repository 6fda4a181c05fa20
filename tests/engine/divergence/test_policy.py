"""What a run does when its numbers become Inf or NaN."""

import json

import pytest
import torch

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.engine import train
from hrnet_kpt.engine.divergence.diagnosis import Step
from hrnet_kpt.engine.divergence.reproducer import replay, save_reproducer
from hrnet_kpt.engine.trainer import Trainer
from hrnet_kpt.errors import Diverged

PAGE = "hrnet_w18_small_kpt_synthetic.py"
NAN = float("nan")


def poison_at(monkeypatch, iterations, of_weights=False):
    """Let the box scores, or all their weights, be NaN in these iterations."""
    before_step = Trainer.before_step

    def poison(self):
        before_step(self)
        layer = self.module.roi_heads.box_head.fc1
        if getattr(self, "poison", None):
            self.poison.remove()
        if self.iter in iterations and of_weights:
            layer.weight.data.fill_(NAN)
        elif self.iter in iterations:
            self.poison = layer.register_forward_hook(lambda _, inputs, output: output * NAN)

    monkeypatch.setattr(Trainer, "before_step", poison)


def iterations(folder):
    """Of the rows with losses."""
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [row["iteration"] for row in rows if "total_loss" in row]


def test_the_run_ends_with_one_line_and_a_step_that_replays(
    tiny, tmp_path, monkeypatch, load_tool, capsys
):
    poison_at(monkeypatch, {2}, of_weights=True)
    main = load_tool("tools/lazyconfig_train_net.py").main
    assert main(["--config-file", PAGE, *tiny, "train.checkpointer.period=1"]) == 1
    [line] = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error: ")]
    folder = tmp_path / "run"
    path = folder / "diverged_0000002.pth"
    found = (
        "iteration 2",
        "loss_cls is nan",
        "loss_box_reg is nan",
        "roi_heads.box_head.fc1 (Linear)",
    )
    remedy = ("--resume", "optimizer.lr", f"tools/replay.py --input {path}")
    assert all(words in line for words in (*found, *remedy))
    assert iterations(folder) == [0, 1]
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth"
    log = (folder / "log.txt").read_text()
    assert all(words in log for words in ("rates:", "gradient:", "losses:", "(id "))

    capsys.readouterr()
    assert load_tool("tools/replay.py").main(["--input", str(path)]) == 0
    for report in capsys.readouterr().out.split("On cpu now:"):
        assert all(words in report for words in (*found[1:], ".jpg (id "))


def test_what_was_met_on_another_machine_may_not_come_back(
    tiny, tmp_path, monkeypatch, load_tool, capsys
):
    poison_at(monkeypatch, {0})  # by a hook, which no file holds
    with pytest.raises(Diverged):
        train(load_config(PAGE, tiny))
    path = tmp_path / "run" / "diverged_0000000.pth"
    assert load_tool("tools/replay.py").main(["--input", str(path)]) == 1
    assert "On cpu now:" in capsys.readouterr().out


def test_a_replay_has_the_numbers_of_the_run(tiny, tmp_path, monkeypatch):
    """Sampling of regions included: the other losses come out as they were."""
    poison_at(monkeypatch, {3}, of_weights=True)
    losses = []
    forward = Trainer._forward

    def remember(self, *args):
        found, failure = forward(self, *args)
        losses.append({name: value.item() for name, value in found.items()})
        return found, failure

    monkeypatch.setattr(Trainer, "_forward", remember)
    options = ["train.accumulation_steps=2", "model.backbone.bottom_up.norm=BN"]
    with pytest.raises(Diverged):
        train(load_config(PAGE, [*tiny, *options]))
    _, diagnosis = replay(str(tmp_path / "run" / "diverged_0000003.pth"), "cpu")
    assert diagnosis.losses == pytest.approx(losses[-1], nan_ok=True, rel=1e-6)
    assert len(losses) == 7, "the second part of the batch is not reached"


def test_steps_are_left_out_up_to_a_number(tiny, tmp_path, monkeypatch):
    poison_at(monkeypatch, {1, 2})
    options = ["train.divergence.policy=skip", "train.divergence.max_skipped=2", "train.max_iter=5"]
    train(load_config(PAGE, [*tiny, *options, "model.backbone.bottom_up.norm=BN"]))
    folder = tmp_path / "run"
    assert iterations(folder)[-1] == 4
    content = torch.load(folder / "model_final.pth", weights_only=True)
    assert content["trainer"]["skipped"] == 2
    assert all(value.isfinite().all() for value in content["model"].values())
    assert int(content["model"]["backbone.bottom_up.bn1.num_batches_tracked"]) == 3
    log = (folder / "log.txt").read_text()
    assert "(1/2): iteration 1 " in log and "(2/2): iteration 2 " in log
    assert [path.name for path in folder.glob("diverged_*")] == ["diverged_0000001.pth"]


def test_one_step_too_many_ends_the_run(tiny, monkeypatch):
    poison_at(monkeypatch, {0, 1})
    options = ["train.divergence.policy=skip", "train.divergence.max_skipped=1"]
    with pytest.raises(Diverged, match=r"iteration 1 .*train\.divergence\.max_skipped=1"):
        train(load_config(PAGE, [*tiny, *options]))


def test_a_gradient_that_is_not_finite_is_left_out_too(tiny, tmp_path, monkeypatch):
    before_step = Trainer.before_step

    def poison(self):
        before_step(self)
        weight = self.module.roi_heads.keypoint_head.conv_fcn1.weight
        if self.iter == 1:
            self.handle = weight.register_hook(lambda gradient: gradient * NAN)
        elif self.iter == 2:
            self.handle.remove()

    monkeypatch.setattr(Trainer, "before_step", poison)
    options = ["train.divergence.policy=skip", "train.accumulation_steps=2"]
    train(load_config(PAGE, [*tiny, *options]))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "(1/10): iteration 1 " in log
    assert "the gradient of roi_heads.keypoint_head.conv_fcn1.weight" in log
    content = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    assert all(value.isfinite().all() for value in content["model"].values())


def test_a_label_that_no_class_has_is_told_and_not_a_traceback(tiny, monkeypatch):
    run_step = Trainer.run_step

    def poison(self):
        iterator = self._data_loader_iter

        def batches():
            for batch in iterator:
                batch[1]["instances"].gt_classes[0] = 9
                yield batch

        self._data_loader_iter_obj = batches()
        run_step(self)

    monkeypatch.setattr(Trainer, "run_step", poison)
    with pytest.raises(Diverged) as raised:
        train(load_config(PAGE, tiny))
    words = ("(id ", "instance 0 has class 9", "tools/check_dataset.py")
    assert all(word in str(raised.value) for word in words)


def test_errors_of_code_stay_what_they_are(tiny, monkeypatch):
    def fail(self):
        def raise_it(module, inputs):
            raise ZeroDivisionError("a bug")

        self.module.roi_heads.box_head.register_forward_pre_hook(raise_it)

    monkeypatch.setattr(Trainer, "before_step", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        train(load_config(PAGE, tiny))


def test_a_run_folder_that_is_full_loses_only_the_reproducer(tiny, tmp_path, monkeypatch):
    poison_at(monkeypatch, {1}, of_weights=True)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hrnet_kpt.engine.divergence.policy.save_reproducer", fail)
    with pytest.raises(Diverged, match=r"^iteration 1 (?!.*replay\.py)"):
        train(load_config(PAGE, tiny))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"{tmp_path / 'run' / 'diverged_0000001.pth'} cannot be written" in log
    assert not [*(tmp_path / "run").glob("*diverged*")]


@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "checkpoint"])
def test_inputs_that_are_none_are_one_line(damage, tmp_path, load_tool, capsys):
    path = tmp_path / "diverged_0000001.pth"
    torch.save({"model": {"a": torch.zeros(1000)}}, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:600])
    elif damage == "text":
        path.write_text("no file of torch's\n")
    elif damage == "missing":
        path.unlink()
    assert load_tool("tools/replay.py").main(["--input", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --input {path} ") and error.count("\n") == 1


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_devices_that_are_none_are_one_line(
    device, tiny_cfg, detector, batch, tmp_path, load_tool, capsys
):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    save_config(tiny_cfg, tmp_path / "config.yaml")
    config = (tmp_path / "config.yaml").read_text()
    path = tmp_path / "diverged.pth"
    save_reproducer(path, config, detector, batch, Step(0, 0), "")
    main = load_tool("tools/replay.py").main
    assert main(["--input", str(path), "--device", device]) == 2
    assert capsys.readouterr().err.startswith(f"error: --device {device}")
