"""Files that are cut short, damaged, or something else: one line that names the file, whatever the reader raises."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet_kpt.errors import UserError
from hrnet_kpt.weights.read import read_weights

TENSORS = {f"layer{i}.weight": torch.arange(60.0).reshape(3, 20) + i for i in range(4)}


def saved(**options):
    buffer = io.BytesIO()
    torch.save({"model": TENSORS}, buffer, **options)
    return buffer.getvalue()


CONTENTS = {
    "safetensors": safetensors.torch.save(TENSORS),
    "zip": saved(),
    "legacy": saved(_use_new_zipfile_serialization=False),
    "pickle": pickle.dumps({name: value.numpy() for name, value in TENSORS.items()}, 2),
}
# hypothesis calls a test many times with the same tmp_path: a file more or less does not matter.
reusing = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def refusal(content, path):
    """The message that refuses a file of this content; it is one line and names the file."""
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_weights(path)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    assert len(message.replace(str(path), "")) < 400
    return message


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
def test_file_that_is_cut_short_is_refused(kind, share, tmp_path):
    content = CONTENTS[kind]
    refusal(content[: max(1, int(share * len(content)))], tmp_path / "weights.pth")


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("missing", [1, 2, 8, 30])
def test_file_that_lacks_its_last_bytes_is_refused(kind, missing, tmp_path):
    refusal(CONTENTS[kind][:-missing], tmp_path / "weights.pth")


@pytest.mark.parametrize("kind", CONTENTS)
@reusing
@given(data=st.data())
def test_damaged_file_is_read_or_refused_and_nothing_else(kind, data, tmp_path):
    content = bytearray(CONTENTS[kind])
    first = data.draw(st.integers(0, len(content) - 1))
    # Most of a file is numbers, of which none is wrong: half of the damage goes to what describes them.
    first = first if data.draw(st.booleans()) else first % 200
    other = data.draw(st.binary(min_size=1, max_size=16))
    content[first : first + len(other)] = other
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    try:
        read_weights(path)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        assert str(path) in str(error)


@reusing
@given(
    content=st.binary(max_size=300),
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04"]),
)
def test_random_bytes_are_refused(content, start, tmp_path):
    refusal(start + content, tmp_path / "weights.pth")


def zipped(names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return buffer.getvalue()


def arrays():
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.ones(3))
    return buffer.getvalue()


def picture(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def script():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.rand(1, 2)), buffer)
    return buffer.getvalue()


IMPOSTORS = {
    "nothing": (lambda: b"", "it is empty"),
    "page": (lambda: b"\n<!DOCTYPE html><html><title>Sign in</title></html>", "a web page"),
    "pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "git lfs pull",
    ),
    "json": (lambda: json.dumps({"error": "Not Found"}).encode(), "none of"),
    "yaml": (lambda: b"model:\n  weights: x.pth\n", "none of"),
    "jpeg": (lambda: picture("JPEG"), "none of"),
    "png": (lambda: picture("PNG"), "none of"),
    "tar": (lambda: b"\x1f\x8b\x08\x00" + bytes(20), "none of"),
    "zip": (lambda: zipped(["photographs/1.txt"]), "cut short or damaged"),
    "zip of nothing": (lambda: zipped([]), "cut short or damaged"),
    "npz": (arrays, "cut short or damaged"),
    "torchscript": (script, "TorchScript"),
    "text": (lambda: b"The weights are elsewhere.", "none of"),
    "pickled list": (lambda: pickle.dumps([1, 2]), "it holds no tensors"),
    "no tensors": (
        lambda: pickle.dumps({"epoch": 3, "lr": 0.1}),
        r"it holds no tensors (epoch, lr)",
    ),
    "longdouble": (
        lambda: pickle.dumps({"w": np.ones(2, np.longdouble)}),
        "it holds no tensors (w)",
    ),
}


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_file_of_something_else_is_refused(kind, tmp_path):
    make, words = IMPOSTORS[kind]
    assert words in refusal(make(), tmp_path / "weights.pth")


def test_file_of_everything_but_tensors_does_not_list_all_of_it(tmp_path):
    content = pickle.dumps({f"key{i}": i for i in range(1000)})
    refusal(content, tmp_path / "weights.pth")
