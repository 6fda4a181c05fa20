"""What a run does when a loss or a gradient is Inf or NaN."""

import itertools
import json

import pytest
import torch
from torch import nn

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.engine import train
from hrnet_kpt.engine.divergence import DivergencePolicy
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
        if self.iter in iterations and of_weights:
            layer.weight.data.fill_(NAN)
        elif self.iter in iterations:
            layer.register_forward_hook(lambda _, inputs, output: output * NAN)

    monkeypatch.setattr(Trainer, "before_step", poison)


def iterations(folder):
    """Of the rows with losses."""
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [row["iteration"] for row in rows if "total_loss" in row]


def test_the_run_ends_with_one_line_and_a_reproducer(
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
    remedy = ("--resume", "optimizer.lr", f"hrnet-kpt replay --input {path}")
    assert all(words in line for words in (*found, *remedy))
    assert iterations(folder) == [0, 1]
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth"
    log = (folder / "log.txt").read_text()
    assert all(words in log for words in ("rates:", "gradient:", "losses:", "(id "))

    capsys.readouterr()
    assert load_tool("tools/replay.py").main(["--input", str(path)]) == 0
    for report in capsys.readouterr().out.split("On cpu now:"):
        assert all(words in report for words in (*found[1:], ".jpg (id "))


def test_a_replay_may_not_diverge_again(tiny, tmp_path, monkeypatch, load_tool, capsys):
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
    assert len(losses) == 8, "the losses are read after the second part of the batch"
    assert diagnosis.losses == pytest.approx(losses[-2], nan_ok=True, rel=1e-6)


class Toy(nn.Module):
    """Its forward pass, or its gradient, is NaN in the given iterations."""

    def __init__(self, forward=(), backward=()):
        super().__init__()
        self.fc, self.norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
        self.nan_forward = forward
        self.fc.weight.register_hook(lambda g: g * NAN if self.trainer.iter in backward else g)

    def forward(self, batch):
        outputs = self.norm(self.fc(torch.stack([sample["image"] for sample in batch])))
        factor = NAN if self.trainer.iter in self.nan_forward else 1.0
        return {"loss": outputs.square().mean() * factor}


def train_toy(iterations, model, folder=None, accumulation_steps=1, **policy):
    """Return the trainer, whose batches have four images."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(3, generator=generator) for _ in range(4)]
    batches = itertools.repeat([{"image": image} for image in images])
    divergence = DivergencePolicy(**policy, folder=folder)
    trainer = Trainer(
        model, batches, optimizer, accumulation_steps=accumulation_steps, divergence=divergence
    )
    model.trainer = trainer
    (folder / "config.yaml").write_text("model: none") if folder else None
    trainer.train(0, iterations)
    return trainer


def test_steps_are_skipped_up_to_a_number(tmp_path):
    model = Toy(forward={1, 2})
    trainer = train_toy(5, model, tmp_path, policy="skip", max_skipped=2)
    assert trainer.state_dict()["skipped"] == 2
    losses = trainer.storage.history("total_loss").values()
    assert [iteration for _, iteration in losses] == [0, 3, 4]
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert int(model.norm.num_batches_tracked) == 3
    assert [path.name for path in tmp_path.glob("diverged_*")] == ["diverged_0000001.pth"]


def test_one_step_too_many_ends_the_run():
    with pytest.raises(Diverged, match=r"iteration 1 .*train\.divergence\.max_skipped=1"):
        train_toy(4, Toy(forward={0, 1}), policy="skip", max_skipped=1)


def test_a_gradient_that_is_not_finite_is_skipped_too(tmp_path):
    model = Toy(backward={1})
    trainer = train_toy(4, model, tmp_path, accumulation_steps=2, policy="skip")
    assert trainer.divergence.skipped == 1
    assert all(value.isfinite().all() for value in model.state_dict().values())
    report = torch.load(tmp_path / "diverged_0000001.pth", weights_only=True)["report"]
    assert "fc.weight" in report.splitlines()[0]


def test_a_label_without_a_class_is_named(detector, batch):
    batch[1]["instances"].gt_classes[0] = 9
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.1)
    with pytest.raises(Diverged) as raised:
        Trainer(detector, itertools.repeat(batch), optimizer).train(0, 1)
    words = ("(id ", "instance 0 has class 9", "hrnet-kpt check-data")
    assert all(word in str(raised.value) for word in words)


def test_a_label_is_named_even_if_the_gpu_is_lost(detector, batch, monkeypatch):
    """After a failed assertion, every call of the GPU raises, those of a replay too."""

    def fail(*args):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr("hrnet_kpt.engine.divergence.policy.diagnose", fail)
    batch[1]["instances"].gt_classes[0] = 9
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.1)
    with pytest.raises(Diverged) as raised:
        Trainer(detector, itertools.repeat(batch), optimizer).train(0, 1)
    words = ("(id ", "instance 0 has class 9", "hrnet-kpt check-data", "device-side assert")
    assert all(word in str(raised.value) for word in words)


def test_bugs_are_raised_as_they_are():
    model = Toy()
    model.fc.register_forward_pre_hook(lambda module, inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_toy(1, model)


def test_a_full_disk_loses_only_the_reproducer(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hrnet_kpt.engine.divergence.policy.save_reproducer", fail)
    with pytest.raises(Diverged, match=r"^iteration 1 (?!.*replay\.py)"):
        train_toy(2, Toy(forward={1}), tmp_path)
    assert not [*tmp_path.glob("*diverged*")]


@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "checkpoint"])
def test_inputs_that_are_not_reproducers_are_one_line(damage, tmp_path, load_tool, capsys):
    path = tmp_path / "diverged_0000001.pth"
    torch.save({"model": {"a": torch.zeros(1000)}}, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:600])
    elif damage == "text":
        path.write_text("not a file of torch\n")
    elif damage == "missing":
        path.unlink()
    assert load_tool("tools/replay.py").main(["--input", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --input {path} ") and error.count("\n") == 1


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_devices_that_do_not_exist_are_one_line(
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
