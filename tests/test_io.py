"""Atomic writes, and JSON files in other encodings, damaged, or of another format."""

import gzip
import json
import math
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrnet_kpt.data.coco import read_coco
from hrnet_kpt.errors import UserError
from hrnet_kpt.io import atomic_write, read_json_file, remove_unfinished

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("añ左é", max_size=3), inner)
    ),
    max_leaves=8,
)
# With a byte order mark: utf-16 and utf-32 write one themselves.
ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    *(f"utf-{n}{order}" for n in (16, 32) for order in ("", "-le", "-be")),
]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=VALUES,
    encoding=st.sampled_from(ENCODINGS),
    compressed=st.booleans(),
    ascii_only=st.booleans(),
    padding=st.sampled_from(["", "\n", "\r\n\0", " \0\0"]),
)
def test_every_encoding_is_read(value, encoding, compressed, ascii_only, padding, tmp_path):
    content = (json.dumps([value], ensure_ascii=ascii_only) + padding).encode(encoding)
    path = tmp_path / "a.json"
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert read_json_file(path) == [value]


def test_windows_1252_is_read_with_a_warning(tmp_path, caplog):
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(["Käfer – links"], ensure_ascii=False).encode("cp1252"))
    assert read_json_file(path) == ["Käfer – links"]
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "byte 3" in record.getMessage()


def test_nan_and_infinity_are_floats(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[NaN, -Infinity]")
    first, second = read_json_file(path)
    assert math.isnan(first) and second == -math.inf


def test_json_lines_are_read_only_on_request(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\r\n')
    assert read_json_file(path, lines=True) == [{"a": 1}, {"a": 2}]
    with pytest.raises(UserError, match=r"a\.jsonl: .* 2 "):
        read_json_file(path)
    path.write_text('{"a": 1}\n{"a": 2}\nthe end')
    with pytest.raises(UserError, match="line 2, column 1"):
        read_json_file(path, lines=True)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \n", "empty"),
        (b'{"images": [{"id": 1}, {"id"', "cut off"),
        (b'{"images": [{"id": 1}, {"file_name": "im0', "cut off"),
        (b'{"images": tru', "cut off"),
        (b'{"images": [\n{"id": 01}]}', "line 2"),
        (b"{'images': []}", "column 2"),
        (b'{"images": []} done', "'done'"),
        (b"id,file_name\n1,a.png\n", "begins with 'id,file_name"),
        (b"[" * 100_000, "deep"),
        (b"[" + b"1" * 10_000 + b"]", "digit"),
        (gzip.compress(b"[1, 2, 3]", mtime=0)[:-9], "gzip"),
        (b"PK\x03\x04\x14\x00", "zip"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b'<?xml version="1.0"?>', "XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b'["\x81\xff"]', "byte 2"),
        (b"\xff\xfe[\x00\x00\xd8]\x00", "UTF-16"),
    ],
)
def test_other_files_are_refused_in_one_line(content, word, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    for read in (read_json_file, read_coco):
        with pytest.raises(UserError) as raised:
            read(path)
        (line,) = str(raised.value).splitlines()
        assert line.startswith(f"{path}: ") and word in line and len(line) < 300


@pytest.mark.parametrize("name", ["", "none.json", "a\0b.json"])
def test_paths_without_a_file_are_refused(name, tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        read_json_file(f"{tmp_path}/{name}")


def test_write_is_atomic(tmp_path):
    path = tmp_path / "w.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as unfinished:
        unfinished.write_text("half")
        assert path.read_text() == "old" and unfinished.suffix == ".json"
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == [path] and path.read_text() == "old"
    with atomic_write(path) as unfinished:
        unfinished.write_text("new")
    assert [*tmp_path.iterdir()] == [path] and path.read_text() == "new"
    unfinished.write_text("left by a kill")
    remove_unfinished(tmp_path)
    assert [*tmp_path.iterdir()] == [path]


def test_windows_syncs_files_that_are_open_for_writing_and_no_folders(tmp_path, monkeypatch):
    """FlushFileBuffers needs a handle with write access, and os.open refuses folders there."""
    opened, open_ = [], os.open
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append(flags) or open_(path, flags))
    with atomic_write(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("x")
    assert (tmp_path / "a.txt").read_text() == "x"
    assert opened == [os.O_RDWR]
