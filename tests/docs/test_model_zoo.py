"""MODEL_ZOO.md and docs/comparison.md."""

import re


def test_every_config_is_listed_once(repository):
    page = (repository / "MODEL_ZOO.md").read_text()
    listed = re.findall(r"^\| \[`(\w+\.py)`\]\(configs/\1\) \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (repository / "configs").glob("*.py"))
    assert "AP on COCO was not measured" in page
