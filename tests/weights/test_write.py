"""Files of weights, whole or not at all."""

import os
import stat
from pathlib import Path

import pytest
import torch

from hrnet_kpt.weights.read import read_weights
from hrnet_kpt.weights.write import sha256_of, write_weights

both = pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])


@pytest.fixture
def tensors():
    numbers = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    return {
        "whole": numbers,
        "rows": numbers[2:4],  # shares memory
        "columns": numbers.t(),  # is not contiguous
        "half": numbers.half(),
        "counter": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }


@both
def test_what_is_written_is_read_back_bit_by_bit(name, tensors, tmp_path):
    path = write_weights(tensors, tmp_path / name)
    read = read_weights(path)
    assert list(sorted(read)) == sorted(tensors)
    for key, value in tensors.items():
        assert read[key].dtype == value.dtype and torch.equal(read[key], value)


@both
def test_part_of_a_tensor_is_written_without_the_rest(name, tmp_path):
    path = write_weights({"one": torch.zeros(100_000)[:1]}, tmp_path / name)
    assert path.stat().st_size < 4000


@both
def test_hash_in_the_name_is_that_of_the_content(name, tensors, tmp_path):
    path = write_weights(tensors, tmp_path / name, add_hash=True)
    stem, suffix = name.split(".")
    assert path.name == f"{stem}-{sha256_of(path)[:8]}.{suffix}"
    assert [path] == list(tmp_path.iterdir())


@both
def test_others_may_read_it_as_any_file(name, tensors, tmp_path):
    (tmp_path / "plain").touch()
    path = write_weights(tensors, tmp_path / name)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")


@both
@pytest.mark.parametrize("module, function", [(Path, "write_bytes"), (os, "replace")])
def test_failure_leaves_the_old_file_and_nothing_else(
    name, module, function, tensors, tmp_path, monkeypatch
):
    path = tmp_path / name
    path.write_bytes(b"old")
    monkeypatch.setattr(module, function, fail)
    with pytest.raises(ValueError, match=rf"{name} cannot be written: .*No space left") as raised:
        write_weights(tensors, path)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["w.pt", "w", "w.pkl", "nowhere/w.pth", "folder.pth"])
def test_place_that_cannot_be_written_is_refused(name, tensors, tmp_path):
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(ValueError, match=rf"{name} cannot be written: "):
        write_weights(tensors, tmp_path / name)


@both
def test_interrupt_leaves_the_old_file_and_nothing_else(name, tensors, tmp_path, monkeypatch):
    path = tmp_path / name
    path.write_bytes(b"old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_weights(tensors, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@both
def test_file_may_be_written_over_itself(name, tmp_path):
    # What is read is mapped into memory: a writer that opened the same file would change what it writes.
    path = write_weights({"a": torch.rand(300, 300)}, tmp_path / name)
    expected = read_weights(path)["a"].clone()
    write_weights({"b": read_weights(path)["a"]}, path)
    assert torch.equal(read_weights(path)["b"], expected)
