"""docs/migration.md names every key that is translated, and where it goes."""

import re

import pytest

from hrnet_kpt.config.yacs import detectron2_keys, maskrcnn_benchmark_keys


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
