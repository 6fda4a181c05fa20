"""README.md, MODEL_ZOO.md and docs/migration.md: the example runs, the tables are complete."""

import os
import re
import shutil

import pytest

from hrnet_kpt.config.yacs import detectron2_keys, maskrcnn_benchmark_keys


def test_example_of_the_readme_runs(
    repository, run_folder, synthetic_people, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, "output/demo")
    shutil.copy(min((synthetic_people / "test").iterdir(), key=os.path.basename), "photo.jpg")
    capsys.readouterr()
    readme = (repository / "README.md").read_text()
    [example] = [
        text for text in re.findall(r"```python\n(.*?)```", readme, re.S) if "Predictor" in text
    ]
    exec(compile(example, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    found = [line for line in lines if re.fullmatch(r"[01]\.\d\d \[.*\] \[.*\]", line)]
    assert len(found) == 3


def test_every_config_is_listed_once(repository):
    page = (repository / "MODEL_ZOO.md").read_text()
    listed = re.findall(r"^\| \[`(\w+\.py)`\]\(configs/\1\) \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (repository / "configs").glob("*.py"))
    assert "AP on COCO was not measured" in page


@pytest.mark.parametrize(
    ("keys", "title"),
    [
        (detectron2_keys, "## detectron2"),
        (maskrcnn_benchmark_keys, "## maskrcnn-benchmark and HRNet-MaskRCNN-Benchmark"),
    ],
)
def test_every_key_that_is_translated_is_in_the_tables(keys, title, repository):
    page = (repository / "docs" / "migration.md").read_text()
    section = page.partition(f"{title}\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (`.*?`) \| (.*) \|$", section, re.MULTILINE))
    named = {key: text for cell, text in rows.items() for key in re.findall(r"`(.*?)`", cell)}
    for key, path in keys.COPIED.items():
        assert named[key] == f"`{path}`"
    for key, text in keys.NOTES.items():
        assert named[key] == text
    assert not set(keys.COMBINED) - set(named)
