"""Files of weights: every format and wrapper is read alike, and nothing in a file is run."""

import builtins
import os
import pickle
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from hrnet_kpt.errors import UserError
from hrnet_kpt.weights.read import read_checkpoint, unwrap


def save_zip(tensors, path):
    torch.save(tensors, path)


def save_legacy(tensors, path):
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def save_pickle(tensors, path, protocol=pickle.DEFAULT_PROTOCOL):
    path.write_bytes(pickle.dumps({n: v.numpy() for n, v in tensors.items()}, protocol))


FORMATS = {
    "safetensors": safetensors.torch.save_file,
    "zip": save_zip,
    "legacy": save_legacy,
    "pickle": save_pickle,
    "pickle2": lambda tensors, path: save_pickle(tensors, path, 2),
}
every_format = pytest.mark.parametrize("kind", FORMATS)


@pytest.fixture
def tensors():
    """Some kinds of numbers and shapes."""
    return {
        "conv1.weight": torch.rand(4, 3, 3, 3),
        "bn1.num_batches_tracked": torch.tensor(7),
        "half": torch.rand(5).half(),
        "double": torch.rand(2, 3, dtype=torch.double),
        "integer": torch.arange(12, dtype=torch.int32).reshape(3, 4),
    }


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


@every_format
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin", "w.pkl", "w"])
def test_content_decides_not_the_name(kind, name, tensors, tmp_path):
    FORMATS[kind](tensors, tmp_path / name)
    found = read_checkpoint(tmp_path / name)[0]
    if kind == "safetensors":  # keeps no order
        found = {key: found[key] for key in tensors}
    assert_equal(found, tensors)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_zoo_pickle_gives_its_arrays_without_the_author(protocol, tmp_path, refusal):
    arrays = {"conv1.weight": np.ones((2, 3), "f4"), "stem.bias": np.arange(4.0)[1::2]}
    content = {"model": arrays, "__author__": "Caffe2", "matching_heuristics": True}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content, protocol))
    if protocol < 2:  # the text protocols
        assert "R-50.pkl" in refusal(read_checkpoint, tmp_path / "R-50.pkl")
        return
    found = read_checkpoint(tmp_path / "R-50.pkl")[0]
    assert_equal(found, {name: torch.from_numpy(value.copy()) for name, value in arrays.items()})


def test_pickle_of_python_2_is_read(tmp_path):
    # What Python 2 wrote for {"w": numpy.array([1, 2], "<f4")}: strings are bytes there.
    letters = (
        b"\x80\x02}q\x00U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08\x00\x00\x80?\x00\x00\x00@tbs."
    )
    (tmp_path / "old.pkl").write_bytes(letters)
    assert_equal(read_checkpoint(tmp_path / "old.pkl")[0], {"w": torch.tensor([1.0, 2.0])})


WEIGHT, EMA_WEIGHT = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
PLAIN, EMA = {"conv.weight": WEIGHT}, {"conv.weight": EMA_WEIGHT}
WRAPPED = {
    "bare": (PLAIN, PLAIN),
    "state_dict": ({"state_dict": PLAIN, "epoch": 3}, PLAIN),
    "model": ({"model": PLAIN, "optimizer": {"state": {0: {"exp_avg": EMA_WEIGHT}}}}, PLAIN),
    "nested": ({"model": {"state_dict": PLAIN}}, PLAIN),
    "module": ({"state_dict": {"module.conv.weight": WEIGHT}}, PLAIN),
    "compiled": ({"model": {"_orig_mod.conv.weight": WEIGHT}}, PLAIN),
    "compiled within module": ({"module._orig_mod.conv.weight": WEIGHT}, PLAIN),
    "timm's EMA": ({"state_dict": PLAIN, "state_dict_ema": EMA}, EMA),
    "model_ema": ({"model": PLAIN, "model_ema": {"module.conv.weight": EMA_WEIGHT}}, EMA),
    "empty EMA": ({"state_dict": PLAIN, "state_dict_ema": None}, PLAIN),
    # mmengine exchanges the two in its checkpoints: state_dict is what it tests with.
    "mmengine": (
        {
            "state_dict": EMA,
            "ema_state_dict": {"steps": torch.tensor(9), "module.conv.weight": WEIGHT},
        },
        EMA,
    ),
    "EMA alone": (
        {"ema_state_dict": {"steps": torch.tensor(9), "module.conv.weight": EMA_WEIGHT}},
        EMA,
    ),
    "AveragedModel": ({"n_averaged": torch.tensor(9), "module.conv.weight": EMA_WEIGHT}, EMA),
    "mmcv": ({"state_dict": {**EMA, "ema_backbone_conv_weight": WEIGHT}}, EMA),
    # HRNet's pose code: the network's name, scores as numbers of numpy's, and the best weights.
    "pose": (
        {
            "epoch": 210,
            "model": "pose_hrnet",
            "state_dict": {"module.conv.weight": WEIGHT},
            "best_state_dict": EMA,
            "perf": np.float64(0.74),
            "optimizer": {"state": {}, "param_groups": [{"lr": np.float32(1e-3)}]},
        },
        PLAIN,
    ),
    "numbers": ({0: WEIGHT}, {"0": WEIGHT}),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_what_training_scripts_wrap_around_weights_is_looked_through(name, save, tmp_path):
    content, expected = WRAPPED[name]
    save(content, tmp_path / "checkpoint.pth")
    assert_equal(read_checkpoint(tmp_path / "checkpoint.pth")[0], expected)
    assert_equal(unwrap(content), expected)


class Runs:
    """Its pickle calls a function with arguments when it is loaded, and sets the result's state, if given."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def save_bare(content, path):
    path.write_bytes(pickle.dumps(content, 2))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_bare])
@pytest.mark.parametrize("place", ["value", "beside"])
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, r"(posix|nt)\.system"), (builtins.exec, r"(\w+\.)?exec")],
)
def test_pickle_that_would_run_code_is_refused_and_does_not(
    save, place, function, named, tmp_path, refusal
):
    made = tmp_path / "made"
    command = {os.system: f"touch {made}", builtins.exec: f"open({str(made)!r}, 'w')"}[function]
    runs = Runs(function, (command,))
    weights = {"weight": np.ones(2, "f4")}
    content = (
        {"model": {**weights, "x": runs}} if place == "value" else {"model": weights, "x": runs}
    )
    path = tmp_path / "trap.pth"
    save(content, path)
    message = refusal(read_checkpoint, path)
    assert "trap.pth" in message and re.search(rf"holds {named}\b", message)
    assert not made.exists()
    function(command)  # the trap is one
    assert made.exists()


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_bare])
@pytest.mark.parametrize(
    "state",
    [(3, "<", 1234, -1, -1, 0), (3, "<", None, ("x",), {"x": 1}, 4, 4, 0), (3, "|", None), ()],
)
def test_array_with_wrong_arguments_does_not_kill_the_process(save, state, tmp_path):
    # With the first state, numpy 2.2's own dtype reads memory that is not there.
    save({"x": Runs(np.dtype, ("f4", False, True), state), "w": np.ones(2)}, tmp_path / "w.pth")
    try:
        assert_equal(read_checkpoint(tmp_path / "w.pth")[0], {"w": torch.ones(2).double()})
    except UserError as error:
        assert "w.pth" in str(error)


@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", "u1", ">i2", "i8"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pickled_array_is_the_one_that_numpy_reads(dtype, protocol, order, tmp_path):
    array = np.asarray(np.arange(12).reshape(3, 4) % 5, dtype=dtype, order=order)
    content = pickle.dumps({"w": array, "scalar": array[0, 0], "words": np.array(["a"])}, protocol)
    (tmp_path / "w.pkl").write_bytes(content)
    expected = pickle.loads(content)["w"]
    found = read_checkpoint(tmp_path / "w.pkl")[0]
    assert list(found) == ["w"]
    assert found["w"].numpy().dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found["w"].numpy(), expected)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_whole_network_is_refused_with_a_remedy(save, tmp_path, refusal):
    save(nn.Linear(2, 2), tmp_path / "net.pth")
    message = refusal(read_checkpoint, tmp_path / "net.pth")
    assert "torch.nn.modules.linear.Linear" in message and "save_file" in message


EXOTIC = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8),
    "8 bits": lambda: torch.rand(3).to(torch.float8_e4m3fn),
    "meta": lambda: torch.rand(3, device="meta"),
}


@pytest.mark.parametrize("kind", EXOTIC)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensor_that_is_not_plain_numbers_is_refused_by_name(kind, tmp_path, refusal):
    torch.save({"conv.weight": torch.rand(3), "odd.weight": EXOTIC[kind]()}, tmp_path / "w.pth")
    message = refusal(read_checkpoint, tmp_path / "w.pth")
    assert "w.pth" in message and "odd.weight" in message
