"""A stop signal ends a run that waits for data, and nothing is lost."""

import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch
import torch.distributed as dist
from torch import nn

from hrnet_kpt.config import load_config
from hrnet_kpt.data import loaders
from hrnet_kpt.data.loaders import build_test_loader, build_train_loader
from hrnet_kpt.engine import train
from hrnet_kpt.engine.eval_hook import EvalHook
from hrnet_kpt.engine.hooks import SaveCheckpoints, StopOnSignal, Stopped
from hrnet_kpt.engine.run_state import RunState
from hrnet_kpt.engine.trainer import Trainer
from hrnet_kpt.errors import UserError
from hrnet_kpt.weights.labels import Labels

RECORDS = [{"image_id": i, "width": 8, "height": 6} for i in range(16)]
PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture(scope="module")
def uninterrupted(tiny_overrides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(load_config(PAGE, tiny_overrides(folder)))
    return folder


def signal_once_there(path, signum):
    """Send this process a signal shortly after a file exists."""

    def wait():
        while not path.exists():
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "workers", "signum"),
    [
        ("training", 1, signal.SIGTERM),
        ("training", 0, signal.SIGINT),
        ("evaluation", 0, signal.SIGTERM),
    ],
)
def test_a_run_that_waits(
    where,
    workers,
    signum,
    uninterrupted,
    tiny_overrides,
    tmp_path,
    monkeypatch,
    assert_same_run,
    new_children,
):
    folder, there = tmp_path / "run", tmp_path / "there"
    cfg = load_config(PAGE, [*tiny_overrides(folder), f"dataloader.train.num_workers={workers}"])
    dataset = loaders.InfiniteDataset if where == "training" else loaders.Samples
    original = dataset.__getitem__
    # In the middle of the third batch, or of the evaluation.
    position = 5 if where == "training" else 2

    def hang(self, index):
        if type(self) is dataset and index >= position:
            there.touch()
            time.sleep(1000)
        return original(self, index)

    sender = signal_once_there(there, signum)
    with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(dataset, "__getitem__", hang)
        train(cfg)
    sender.join()
    assert stopped.value.signum == signum and "--resume" in str(stopped.value)
    assert not new_children()
    last = torch.load(folder / (folder / "last_checkpoint").read_text(), weights_only=True)
    assert last["iteration"] in ((0, 1) if where == "training" else (3,))
    train(load_config(PAGE, tiny_overrides(folder)), resume=True)
    assert_same_run(folder, uninterrupted)


class Line(nn.Module):
    """With a batch norm, whose statistics a forward pass changes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, batch):
        values = torch.tensor([[float(sample["image_id"])] for sample in batch])
        return {"loss": self.norm(values).square().mean()}


def join_group(rank, folder):
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "store"), 2), rank=rank, world_size=2
    )


def train_one_of_two(rank, folder, hanging):
    """Process 1 waits for an image that never comes, or finishes; process 0 has its batch."""
    join_group(rank, folder)

    def mapper(record):
        return dict(record)

    loader = build_train_loader(RECORDS, mapper, 4, seed=0)
    original = loader.samples.mapper

    def hang(record):
        loader.samples.count = getattr(loader.samples, "count", 0) + 1
        if hanging and rank == 1 and loader.samples.count == 8:
            (folder / "there").touch()
            time.sleep(1000)
        return original(record)

    loader.samples.mapper = hang
    torch.manual_seed(0)
    model = Line()
    trainer = Trainer(model, loader, torch.optim.SGD(model.parameters(), lr=0.1))
    state = RunState(folder, trainer, 0, 5, Labels([], {}))
    trainer.register_hooks([SaveCheckpoints(state, 100), StopOnSignal(state)])
    try:
        trainer.train(0, 3 if not hanging else 10)
    except Stopped as stopped:
        (folder / f"stopped{rank}").write_text(f"{stopped.signum} {trainer.iter}")
    os._exit(0)


@pytest.mark.parametrize(
    "receiver", ["both", pytest.param("the one that waits", marks=pytest.mark.slow)]
)
def test_two_processes_stop_after_the_same_iteration(receiver, tmp_path):
    context = multiprocessing.get_context("fork")
    runs = {}
    for hanging in (True, False):
        folder = tmp_path / str(hanging)
        folder.mkdir()
        children = [
            context.Process(target=train_one_of_two, args=(rank, folder, hanging))
            for rank in range(2)
        ]
        for child in children:
            child.start()
        if hanging:
            while not (folder / "there").exists():
                assert children[1].is_alive()
                time.sleep(0.02)
            time.sleep(0.2)
            for child in children if receiver == "both" else children[1:]:
                os.kill(child.pid, signal.SIGTERM)
        for child in children:
            child.join(20)
            assert child.exitcode == 0, "it hangs"
        name = (folder / "last_checkpoint").read_text()
        runs[hanging] = torch.load(folder / name, weights_only=True)
    for rank in range(2):
        text = (tmp_path / "True" / f"stopped{rank}").read_text()
        assert text == f"{int(signal.SIGTERM)} 2", "the third batch is the last whole one"
    stopped, whole = runs[True], runs[False]
    assert stopped["loaders"] == whole["loaders"]
    for name, value in whole["model"].items():
        assert torch.equal(stopped["model"][name], value), name


def toy_run(folder, mapper, workers, evaluation_loader=None):
    """A training of three iterations of one image each, and an evaluation after the second."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    model.forward = lambda batch: {
        "loss": model.weight.square().sum() * batch[0]["image_id"] + model.bias.sum()
    }
    loader = build_train_loader(RECORDS, mapper, 1, workers, seed=0)
    trainer = Trainer(model, loader, torch.optim.SGD(model.parameters(), lr=0.01))
    state = RunState(folder, trainer, 0, 5, Labels([], {}))
    stop = StopOnSignal(state)
    hooks = [SaveCheckpoints(state, 100), stop]
    if evaluation_loader is not None:

        def evaluate():
            with stop.evaluation():
                list(evaluation_loader)
            return {}

        hooks.insert(0, EvalHook(2, evaluate, state))
    trainer.register_hooks(hooks)
    return trainer


def hang_at(there, image):
    """A mapper that never returns from the image with this id."""

    def mapper(record):
        if record["image_id"] == image:
            there.touch()
            time.sleep(1000)
        return dict(record)

    return mapper


def third_image():
    return build_train_loader(RECORDS, dict, 1, seed=0).samples[2]["image_id"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_wait_ends_with_a_checkpoint_of_the_last_whole_iteration(workers, tmp_path, new_children):
    mapper = hang_at(tmp_path / "there", third_image())
    trainer = toy_run(tmp_path, mapper, workers)
    sender = signal_once_there(tmp_path / "there", signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        trainer.train(0, 4)
    sender.join()
    assert stopped.value.signum == signal.SIGTERM
    assert not new_children()
    content = torch.load(tmp_path / "model_0000001.pth", weights_only=True)
    assert content["iteration"] == 1 and content["loaders"] == [{"position": 2, "waiting": []}]


def test_a_wait_before_the_first_batch_ends_without_a_checkpoint(tmp_path):
    def mapper(record):
        (tmp_path / "there").touch()
        time.sleep(1000)

    sender = signal_once_there(tmp_path / "there", signal.SIGINT)
    with pytest.raises(Stopped, match="no checkpoint"):
        toy_run(tmp_path, mapper, 0).train(0, 4)
    sender.join()
    assert not list(tmp_path.glob("*.pth"))


def test_a_wait_in_an_evaluation_ends_with_the_checkpoint_before_it(tmp_path, new_children):
    hanging = build_test_loader(RECORDS, hang_at(tmp_path / "there", 3), num_workers=1)
    trainer = toy_run(tmp_path, dict, 0, hanging)
    sender = signal_once_there(tmp_path / "there", signal.SIGTERM)
    with pytest.raises(Stopped, match="in the evaluation"):
        trainer.train(0, 4)
    sender.join()
    assert not new_children()
    assert torch.load(tmp_path / "model_0000001.pth", weights_only=True)["iteration"] == 1


def test_a_loader_that_ends_is_one_line():
    model = nn.Linear(1, 1)
    trainer = Trainer(model, [], torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(UserError, match=r"^dataloader\.train .*iteration 0.*$"):
        trainer.train(0, 3)
