"""docs/migration.md names every key that is translated, and where it goes."""

import re

import pytest

from hrnet_kpt.config import load_config
from hrnet_kpt.config.keys import value_at
from hrnet_kpt.config.yacs import detectron2_keys, maskrcnn_benchmark_keys
from hrnet_kpt.config.yacs_keys import YACS_KEYS


@pytest.mark.parametrize(
    ("keys", "title"),
    [
        (detectron2_keys, "## detectron2"),
        (maskrcnn_benchmark_keys, "## maskrcnn-benchmark and HRNet-MaskRCNN-Benchmark"),
    ],
)
def test_tables_are_those_of_the_code(keys, title, repository):
    page = (repository / "docs" / "migration.md").read_text()
    section = page.partition(f"{title}\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (`.*?`) \| (.*) \|$", section, re.MULTILINE))
    named = {key: text for cell, text in rows.items() for key in re.findall(r"`(.*?)`", cell)}
    for key, path in keys.COPIED.items():
        assert named[key] == f"`{path}`"
    for key, text in keys.NOTES.items():
        assert named[key] == text
    assert not set(keys.COMBINED) - set(named)


def test_names_told_on_the_command_line_are_the_same():
    """Of the two tables that know YACS keys, neither contradicts the other."""
    cfg = load_config("hrnet_w18_kpt.py")
    for key, path in YACS_KEYS.items():
        assert value_at(cfg, path) is not None
        for copied in (detectron2_keys.COPIED, maskrcnn_benchmark_keys.COPIED):
            assert copied.get(key, path) == path
