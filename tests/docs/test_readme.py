"""What the README shows in Python runs."""

import os
import re
import shutil


def test_prediction_of_a_run(repository, run_folder, drawn_people, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, "output/demo")
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
