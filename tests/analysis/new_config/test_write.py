"""The source of the file: short, valid Python for any names, and known again by its checksum."""

import ast
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hrnet_kpt.analysis.new_config import choose, run, write
from hrnet_kpt.analysis.new_config.appearance import Colors, Direction
from hrnet_kpt.analysis.new_config.choose import Choice, Times
from hrnet_kpt.config import load_config
from hrnet_kpt.errors import UserError


def test_longest_file_has_60_lines(survey_of, machine_of):
    """All choices that there can be."""
    names = [f"class_number_{number}" for number in range(9)]
    survey = survey_of(
        [(200, 50)] * 9 + [(50, 200)] * 9,
        (1920, 1080),
        class_objects=dict.fromkeys(names, 123_456),
        class_images=dict.fromkeys(names[:5], 1) | dict.fromkeys(names[5:], 18),
        most_objects=300,
        most_of_class=290,
        unlabeled=123_456,
        keypoints=[f"left_keypoint_{number}" for number in range(30)],
        image_range=(0, 65535),
        colors=Colors(new=12.3, known=14.5),
        direction=Direction("left_keypoint_1", "left_keypoint_29", 0.123),
    )
    machine = machine_of(name="A Processor of a Long Name @ 2.70 GHz", bfloat16=True)
    page = load_config("own.py")
    folder = "/home/somebody/photographs/mice"
    files = {split: (f"{folder}/{split}.json", folder) for split in ("train", "test")}
    times = Times(1.23, 45.6, 78.9)
    choices = [
        run._paths(files, Path("configs/mine.py")),
        *run._choose_model(survey, machine, page),
        *choose.choose_schedule(survey, 4, 1234.5, times),
    ]
    command = run.command(data=folder, minutes=1234.5, output="configs/mine.py")
    facts = [
        run.title(survey),
        f"Written by: {command}",
        f"Data: {' '.join(run.describe_data(survey))}",
        f"Machine: {run._describe(machine, times)}",
    ]
    source = write.config_source(facts, "own.py", "The page of --base.", choices)
    lines = source.splitlines()
    assert len(lines) <= 60
    assert all(len(line) <= 120 or folder in line for line in lines)
    # Every setting of every choice is a statement after its comment.
    assert sum(len(choice.settings) for choice in choices) <= source.count(" = ") + source.count(
        "("
    )


def test_names_and_paths_of_any_characters(tmp_path):
    path = 'a "quoted" \\ ${path} of ünï """'
    settings = {"data.train": {"annotations": path, "images": "b"}, "train.log_period": 5}
    facts = [f"A title with {path}", f"Fact: {path}"]
    source = write.config_source(facts, "own.py", f"Reason: {path}", [Choice(path, settings)])
    docstring, _, _, *statements = ast.parse(source).body
    assert path in ast.literal_eval(docstring.value)
    scope = {"data": OmegaConf.create({"train": {}}), "train": OmegaConf.create()}
    exec(compile(ast.Module(statements, []), "file", "exec"), scope)
    assert OmegaConf.to_container(scope["data"])["train"] == {"annotations": path, "images": "b"}
    assert scope["train"].log_period == 5


def test_checksum_shows_changes(tmp_path):
    path = tmp_path / "mine.py"
    write.refuse_to_overwrite(path, False)  # there is none
    source = write.config_source(["Title"], "own.py", "Reason", [Choice("Why", {"train.seed": 5})])
    path.write_text(source)
    write.refuse_to_overwrite(path, False)
    for changed in (
        source.replace("5", "6"),
        source + "\n",
        source.replace("Why", "Because"),
        "x = 1\n",
    ):
        path.write_text(changed)
        with pytest.raises(UserError, match="--overwrite"):
            write.refuse_to_overwrite(path, False)
        write.refuse_to_overwrite(path, True)
