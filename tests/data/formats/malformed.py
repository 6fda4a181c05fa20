"""Damaged copies of a data set, for the readers of all formats: each is read, or refused in one line.

A test gets this module as the fixture `malformed`:

    def test_malformed_files_are_refused_in_one_line(malformed, tmp_path):
        write_fixture(tmp_path / "set")  # a valid folder, tiny
        malformed.check(tmp_path / "set", lambda: yolo.read(tmp_path / "set", Options()))
"""

import json
from contextlib import contextmanager

import numpy as np
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hrnet_kpt.errors import UserError

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
JSON, YAML, TABLES = {".json"}, {".yaml", ".yml"}, {".csv", ".txt"}
# What stands for any other value.
VALUES = (
    None, True, -1, 0, 1.5, 10**9, 10**40, 1e308, float("nan"), float("inf"), "", "x", "\x00", "é/../..", [], [[]],
    [None], ["x", 1], {}, {"x": 1},
)  # fmt: skip
WORDS = (
    "",
    "x",
    "nan",
    "inf",
    "-1",
    "1e999",
    "9" * 400,
    "1.5",
    "\x00",
    '"',
    "é",
    "-",
    "[",
    "#",
    "../..",
)


def check(folder, read, *, numbers=True, suffixes=None):
    """Damage one file of the folder at a time, and call `read`: it returns an Imported, or raises UserError.

    HYPOTHESIS_PROFILE=default tries new and more damages.

    Args:
        folder: A valid data set. The files are as before at the end.
        read: Function without arguments; its result is passed to `assert_consistent`, if it is not None.
        numbers: Whether coordinates must be finite numbers in what is read.
        suffixes: Of the files to damage, such as {".h5"}; by default all but images.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and (path.suffix.lower() in suffixes if suffixes else path.suffix.lower() not in IMAGES)
    )
    assert files, f"{folder} has no file to damage"
    assert_consistent(read(), numbers)

    examples = 15 if settings().derandomize else 300

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def damaged(data):
        path = data.draw(st.sampled_from(files), label="file")
        original = path.read_bytes()
        content = damage(data.draw, path.suffix.lower(), original)
        assume(content != original)
        with replaced(path, content):
            try:
                result = read()
            except UserError as error:
                assert str(error).strip(), "the error says nothing"
                assert len(str(error).splitlines()[0]) < 1000
            else:
                assert_consistent(result, numbers)

    damaged()


@contextmanager
def replaced(path, content):
    """Another content of the file, None for no file, during the block."""
    original = path.read_bytes()
    path.unlink()  # it may be a link
    if content is not None:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(original)


def damage(draw, suffix, original):
    """The content of a file after one kind of damage; None: the file is missing."""
    kinds = ["cut", "bytes", "bytes", "empty", "missing"]
    if suffix in JSON | YAML:
        kinds += ["value"] * 10
    if suffix in TABLES:
        kinds += ["word"] * 10
    kind = draw(st.sampled_from(kinds), label="damage")
    if kind == "missing":
        return None
    if kind == "empty":
        return b""
    if kind == "cut":
        return original[: draw(st.integers(0, max(len(original) - 1, 0)))]
    if kind == "bytes":
        changed = bytearray(original)
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, max(len(changed) - 1, 0)))
            changed[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
        return bytes(changed)
    if kind == "word":
        return damage_table(draw, original.decode()).encode()
    if suffix in JSON:
        return json.dumps(damage_value(draw, json.loads(original))).encode()
    return yaml.safe_dump(damage_value(draw, yaml.safe_load(original)), sort_keys=False).encode()


def damage_value(draw, content):
    """A JSON-like value in which one value, at any depth, is another one, removed, repeated or shortened."""
    if isinstance(content, dict | list) and content and draw(st.integers(0, 7)):
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        key = draw(st.sampled_from(keys))
        changed = content.copy()
        kind = draw(st.sampled_from(["inside"] * 6 + ["remove", "repeat", "rename"]))
        if kind == "inside":
            changed[key] = damage_value(draw, content[key])
        elif kind == "remove":
            del changed[key]
        elif isinstance(changed, list):
            changed.insert(key, content[key])
        elif kind == "rename":
            changed[draw(st.sampled_from(["x", "", "0"]))] = changed.pop(key)
        else:
            changed[key] = [content[key], content[key]]
        return changed
    return draw(st.sampled_from(VALUES))


def damage_table(draw, text):
    """A table of words, separated by commas or spaces, in which one word or line is another one, or removed."""
    lines = text.split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    kind = draw(
        st.sampled_from(["word", "word", "word", "remove word", "add word", "remove", "repeat"])
    )
    if kind == "remove":
        del lines[at]
    elif kind == "repeat":
        lines.insert(at, lines[at])
    else:
        separator = "," if "," in lines[at] else " "
        words = lines[at].split(separator)
        place = draw(st.integers(0, len(words) - 1))
        if kind == "word":
            words[place] = draw(st.sampled_from(WORDS))
        elif kind == "add word":
            words.insert(place, draw(st.sampled_from(WORDS)))
        else:
            del words[place]
        lines[at] = separator.join(words)
    return "\n".join(lines)


def assert_consistent(imported, numbers=True):
    """Ids are unique, references have what they refer to, arrays have their lengths; numbers: all are finite."""
    if imported is None:
        return
    assert imported.splits and set(imported.splits) <= {"train", "val", "test", "all"}
    json.dumps([imported.categories, imported.splits])
    keypoints = {c["id"]: len(c.get("keypoints", ())) for c in imported.categories}
    assert len(keypoints) == len(imported.categories)
    images = [image for part in imported.splits.values() for image in part["images"]]
    annotations = [a for part in imported.splits.values() for a in part["annotations"]]
    for entries in (images, annotations):
        assert len({entry["id"] for entry in entries}) == len(entries)
    names = {image["file_name"] for image in images}
    assert names <= {*imported.files, *imported.frames}
    assert all(imported.files[name].is_file() for name in names & imported.files.keys())
    assert not any(name.startswith("/") or ".." in name.split("/") for name in names)
    for part in imported.splits.values():
        ids = {image["id"] for image in part["images"]}
        assert len({image["file_name"] for image in part["images"]}) == len(ids)
        assert all(a["image_id"] in ids for a in part["annotations"])
    assert all(a["category_id"] in keypoints for a in annotations)
    if numbers:
        for annotation in annotations:
            assert len(annotation["bbox"]) == 4 and np.isfinite(annotation["bbox"]).all()
            assert len(annotation["keypoints"]) == 3 * keypoints[annotation["category_id"]]
            assert np.isfinite(annotation["keypoints"]).all()
