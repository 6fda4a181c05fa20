"""What docs/prediction.md and docs/deployment.md say is so."""

import json
import re
import shlex
import shutil
import sys

import pytest

from hrnet_kpt.config import load_config
from hrnet_kpt.inference import Predictor

PAGES = ("prediction.md", "deployment.md")


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_understood(code_blocks, parse_commands, page):
    lines = "".join(code_blocks(page, "")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("tools/")]
    assert commands
    parse_commands(commands)


def test_example_in_python_runs(code_blocks, run_of_a_model, capsys):
    [example] = code_blocks("prediction.md", "python")
    exec(compile(example, "prediction.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(r"0\.\d\d nose at [\d.]+ [\d.]+, right with \d+%", line)


def test_line_of_json_has_the_keys_that_are_shown(code_blocks, run_of_a_model, load_tool):
    [shown] = code_blocks("prediction.md", "json")
    arguments = ["--run", "output/demo", "--input", "photo.jpg", "--json", "found.jsonl"]
    assert load_tool("tools/predict.py").main(arguments) == 0
    [line] = (run_of_a_model / "found.jsonl").read_text().splitlines()
    shown, line = json.loads(shown), json.loads(line)
    assert list(shown) == list(line)
    assert list(shown["objects"][0]) == list(line["objects"][0])


def test_settings_of_augmentation_are_the_configs(repository):
    text = (repository / "docs" / "prediction.md").read_text()
    told = dict(re.findall(r"^\| `inference\.tta\.(\w+)` \| `?([^`|]+?)`? \|", text, re.MULTILINE))
    node = load_config("hrnet_w18_small_kpt_synthetic.py").inference.tta
    known = {
        key: json.dumps(value) if isinstance(value, str) else str(value)
        for key, value in node.items()
        if key not in ("_target_", "enabled", "keypoints", "classes")
    }
    assert told == known


@pytest.mark.slow
def test_exported_example_runs(
    repository, code_blocks, run_of_a_model, load_tool, monkeypatch, capsys
):
    """Of an HRNet; tests/inference/export/test_onnx_runner.py runs it with less."""
    [example] = code_blocks("deployment.md", "python")
    run = "output/demo"
    arguments = ["--config-file", f"{run}/config.yaml", "--weights", f"{run}/model_final.pth"]
    assert load_tool("tools/export_model.py").main([*arguments, "--output", "people.onnx"]) == 0
    monkeypatch.syspath_prepend(repository / "projects" / "hrnet_kpt" / "inference")
    capsys.readouterr()
    example = example.replace("score_threshold=0.5", "score_threshold=0.0")
    exec(compile(example, "deployment.md", "exec"), {})
    sys.modules.pop("onnx_runner")
    lines = capsys.readouterr().out.splitlines()
    expected = Predictor.from_run(run)("photo.jpg").objects
    assert len(lines) == len(expected)
    for line, found in zip(lines, expected, strict=True):
        word, score = line.split()[:2]
        assert word == found["class"] and float(score) == pytest.approx(found["score"], abs=1e-3)


@pytest.fixture
def run_of_a_model(run_folder, drawn_people, tmp_path, monkeypatch):
    """The current folder: it has a run in output/demo, and a photo."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, "output/demo")
    shutil.copy(min((drawn_people / "test").iterdir()), "photo.jpg")
    return tmp_path
