"""README.md and MODEL_ZOO.md: the example runs, the table is complete."""

import os
import re
import shlex
import shutil


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


def test_commands_of_the_readme_are_valid(repository, parse_commands):
    text = (repository / "README.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^(?:\$ )?(tools/\w+\.py --.*)$", text, re.MULTILINE)
    assert len(commands) >= 15
    parse_commands(map(shlex.split, commands))


def test_every_config_is_listed_once(repository):
    page = (repository / "MODEL_ZOO.md").read_text()
    listed = re.findall(r"^\| \[`(\w+\.py)`\]\(configs/\1\) \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (repository / "configs").glob("*.py"))
    assert "AP on COCO was not measured" in page
