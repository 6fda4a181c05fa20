"""What the README shows in Python runs."""

import os
import re
import shutil

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train


def test_prediction_of_a_run(
    repository, tiny_overrides, drawn_people, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    threshold = "model.roi_heads.box_predictor.test_score_thresh=0.0"
    train(
        load_config("hrnet_w18_small_kpt_synthetic.py", [*tiny_overrides("output/demo"), threshold])
    )
    shutil.copy(min((drawn_people / "test").iterdir(), key=os.path.basename), "photo.jpg")
    capsys.readouterr()
    readme = (repository / "README.md").read_text()
    [example] = [
        text for text in re.findall(r"```python\n(.*?)```", readme, re.S) if "Predictor" in text
    ]
    exec(compile(example, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    found = [line for line in lines if re.fullmatch(r"[01]\.\d\d \[.*\] \[.*\]", line)]
    assert len(found) == 3
