"""Writing weights: complete files, or none."""

import os
import stat
from pathlib import Path

import pytest
import torch

from hrnet_kpt.errors import UserError
from hrnet_kpt.weights.read import read_checkpoint
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
    read = read_checkpoint(path)[0]
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


@both
@pytest.mark.parametrize(
    ("module", "function", "error", "raised"),
    [
        (Path, "write_bytes", OSError(28, "No space left on device"), UserError),
        (os, "replace", OSError(28, "No space left on device"), UserError),
        (os, "replace", KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_failure_leaves_only_the_old_file(
    name, module, function, error, raised, tensors, tmp_path, monkeypatch
):
    def fail(*args, **kwargs):
        raise error

    path = tmp_path / name
    path.write_bytes(b"old")
    monkeypatch.setattr(module, function, fail)
    with pytest.raises(raised) as found:
        write_weights(tensors, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    if raised is UserError:
        message = str(found.value)
        assert name in message and "No space left" in message and "\n" not in message


@pytest.mark.parametrize("name", ["w.pt", "w", "w.pkl", "nowhere/w.pth", "folder.pth"])
def test_path_that_cannot_be_written_is_refused(name, tensors, tmp_path, refusal):
    (tmp_path / "folder.pth").mkdir()
    assert name in refusal(write_weights, tensors, tmp_path / name)


@both
def test_file_may_be_written_over_itself(name, tmp_path):
    # The tensors are mapped from the file: writing into it would change them.
    path = write_weights({"a": torch.rand(300, 300)}, tmp_path / name)
    expected = read_checkpoint(path)[0]["a"].clone()
    write_weights({"b": read_checkpoint(path)[0]["a"]}, path)
    assert torch.equal(read_checkpoint(path)[0]["b"], expected)
