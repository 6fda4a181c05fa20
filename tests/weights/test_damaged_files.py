"""Files that are cut short, damaged, or of another kind: the error is one line that names the file."""

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
from hrnet_kpt.weights.read import read_checkpoint

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
# hypothesis calls a test many times with the same tmp_path.
reusing = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def refused(tmp_path, refusal):
    """Function of a file's content: the message that refuses it, which names the file and is short."""

    def refused(content):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        message = refusal(read_checkpoint, path)
        assert str(path) in message
        assert len(message.replace(str(path), "")) < 400
        return message

    return refused


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize(
    "kept", [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, -1, -2, -8, -30]
)
def test_file_that_is_cut_short_is_refused(kind, kept, refused):
    """`kept` is the fraction of the bytes that are left, or minus the number of missing ones."""
    content = CONTENTS[kind]
    refused(content[: kept if kept < 0 else max(1, int(kept * len(content)))])


@pytest.mark.parametrize("kind", CONTENTS)
@reusing
@given(data=st.data())
def test_damaged_file_is_read_or_refused_and_nothing_else(kind, data, tmp_path):
    content = bytearray(CONTENTS[kind])
    first = data.draw(st.integers(0, len(content) - 1))
    # Most of a file is numbers, which cannot be wrong: half of the damage goes to the header.
    first = first if data.draw(st.booleans()) else first % 200
    other = data.draw(st.binary(min_size=1, max_size=16))
    content[first : first + len(other)] = other
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    try:
        read_checkpoint(path)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        assert str(path) in str(error)


@reusing
@given(
    content=st.binary(max_size=300),
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04"]),
)
def test_random_bytes_are_refused(content, start, refused):
    refused(start + content)


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


def image(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def script():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.rand(1, 2)), buffer)
    return buffer.getvalue()


# Functions that make a file's content, and what the message must name.
OTHER_FILES = {
    "nothing": (lambda: b"", ""),
    "page": (lambda: b"\n<!DOCTYPE html><html><title>Sign in</title></html>", "web page"),
    "pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "git lfs pull",
    ),
    "json": (lambda: json.dumps({"error": "Not Found"}).encode(), ""),
    "yaml": (lambda: b"model:\n  weights: x.pth\n", ""),
    "jpeg": (lambda: image("JPEG"), ""),
    "png": (lambda: image("PNG"), ""),
    "tar": (lambda: b"\x1f\x8b\x08\x00" + bytes(20), ""),
    "zip": (lambda: zipped(["photographs/1.txt"]), ""),
    "empty zip": (lambda: zipped([]), ""),
    "npz": (arrays, ""),
    "torchscript": (script, "TorchScript"),
    "text": (lambda: b"The weights are elsewhere.", ""),
    "pickled list": (lambda: pickle.dumps([1, 2]), ""),
    "no tensors": (lambda: pickle.dumps({"epoch": 3, "lr": 0.1}), "epoch, lr"),
    "longdouble": (lambda: pickle.dumps({"w": np.ones(2, np.longdouble)}), "(w)"),
    # The message does not list all keys.
    "many keys": (lambda: pickle.dumps({f"key{i}": i for i in range(1000)}), "key0, key1"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_file_of_something_else_is_refused(kind, refused):
    make, words = OTHER_FILES[kind]
    assert words in refused(make())
