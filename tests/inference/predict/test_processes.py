"""tools/predict.py in several processes of torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# "--": torchrun would take --run for one of its own flags.
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--")


def test_two_processes_have_the_results_of_one(
    predict, photos, clip, files_in, repository, run_folder
):
    clip(photos / "clip.mp4")
    (photos / "broken.jpg").write_bytes(b"no image")
    words = ["--input", "photos", "--score-thresh", "0"]
    assert predict(*words, "--output", "one", "--json", "one.json") == 3
    command = [*TWO, repository / "tools" / "predict.py", "--run", run_folder, *words]
    done = subprocess.run(
        [*command, "--output", "two", "--json", "two.json"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("skipped: photos/broken.jpg") == 1
    assert "inputs: 4 predicted, 0 done before, 1 skipped" in done.stdout
    assert files_in("two") == files_in("one")
    ours, expected = (json.loads(Path(name).read_text()) for name in ("two.json", "one.json"))
    for one, other in zip(ours, expected, strict=True):
        for key in ("image_id", "file_name", "category_id", "frame"):
            assert one.get(key) == other.get(key)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.1)
    assert {path.name for path in Path(".").iterdir()} == {
        "photos",
        "one",
        "two",
        "one.json",
        "two.json",
    }


def test_records_of_interrupted_processes_are_kept(predict, photos, seen):
    words = ["--input", "photos", "--json", "found.jsonl", "--score-thresh", "0"]
    assert predict(*words) == 0
    file, content = Path("found.jsonl"), Path("found.jsonl").read_bytes()
    first, second, third = content.splitlines(keepends=True)
    file.write_bytes(first)
    Path("found.jsonl.part0").write_bytes(third[:-9])  # killed while it was written
    Path("found.jsonl.part1").write_bytes(second)
    seen.clear()
    assert predict(*words) == 0
    assert len(seen) == 1 and file.read_bytes() == content
    Path("found.jsonl.part1").write_bytes(second)
    assert predict(*words, "--restart") == 0
    assert file.read_bytes() == content and not list(Path(".").glob("*.part*"))
    Path("found.jsonl.part1").write_text("another program's\n")
    assert predict(*words) == 2
