"""`make gpu`: a dry run of all parts on the CPU, what its report lists, and wrong environments."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import torch

# What no CPU has: page-locked memory, and NCCL.
ON_GPUS_ALONE = {
    "test_data::test_images_are_in_page_locked_memory[0]",
    "test_data::test_images_are_in_page_locked_memory[2]",
    "test_data::test_copies_of_page_locked_images_are_complete_and_do_not_wait[0]",
    "test_data::test_copies_of_page_locked_images_are_complete_and_do_not_wait[2]",
    "test_distributed::test_synchronised_batch_norms_of_one_process_are_batch_norms[None]",
    "test_distributed::test_synchronised_batch_norms_of_one_process_are_batch_norms[torch.float16]",
}


@pytest.fixture(scope="module")
def script(load_tool):
    return load_tool("docs/scripts/gpu.py")


@pytest.fixture
def report(script, tmp_path):
    return script.Report(tmp_path, torch.device("cpu"), dry_run=True, minutes=8)


def check(script, folder, passed, skipped):
    """Check the report of a dry run; return it."""
    found = json.loads((folder / "gpu.json").read_text())
    assert found["dry_run"] and found["machine"]["torch"] == torch.__version__
    assert found["missing"] == found["tests"]["failed"] == []
    assert found["tests"]["passed"] >= passed
    assert {line.partition(": ")[0] for line in found["tests"]["skipped"]} == skipped
    rows = found["inference"]
    assert {row["model"] for row in rows} == {*script.PAGES}
    assert {row["kind"] for row in rows} == {"plain", "optimized", "compiled", "graphs"}
    assert {row["dtype"] for row in rows} == {*script.DTYPES}
    assert {row["dtype"] for row in found["steps"]} == {*script.DTYPES}
    assert {row["model"] for row in found["steps"]} == {*script.PAGES}
    for row in (*rows, *found["steps"]):
        assert row["images_per_second"] > 0
    training = found["training"]
    assert training["iterations"] == 3 and training["images/s"] > 0
    assert {"bbox", "keypoints"} <= training.keys()
    table = (folder / "gpu.md").read_text()
    assert table.startswith("# Dry run") and table.count("| R50-FPN of detectron2 |") >= 3
    assert "Not measured" not in table


TESTS = """<testsuites><testsuite>
<testcase classname="tests.gpu.test_data" name="test_a[0]" time="1.5"/>
<testcase classname="tests.gpu.test_data" name="test_b" time="0.5"><skipped message="needs a GPU"/></testcase>
{}</testsuite></testsuites>"""
FAILED = '<testcase classname="tests.gpu.test_c" name="test_d"><failure message="no&#10;second line"/></testcase>'


@pytest.fixture
def finished_tests(script, monkeypatch):
    """The command and the environment with which the tests were started, and what they end with.

    The tests themselves are in this process, in tests/gpu.
    """
    started = {"further": ""}

    def start(command, env, **options):
        [path] = [word.partition("=")[2] for word in command if word.startswith("--junitxml=")]
        Path(path).write_text(TESTS.format(started["further"]))
        started.update(command=command, env=env)

    monkeypatch.setattr(script.subprocess, "run", start)
    return started


def test_a_dry_run_does_everything_on_the_cpu(script, tmp_path, capsys, finished_tests):
    assert script.main(["--dry-run", "--output", str(tmp_path)]) == 0, capsys.readouterr().out
    check(script, tmp_path, 1, {"test_data::test_b"})
    assert "tests/gpu" in finished_tests["command"]
    assert finished_tests["env"]["HRNET_KPT_TEST_DEVICE"] == "cpu"


@pytest.mark.slow
def test_a_dry_run_with_the_tests(script, tmp_path, capfd):
    assert script.main(["--dry-run", "--output", str(tmp_path)]) == 0, capfd.readouterr().out
    check(script, tmp_path, 30, ON_GPUS_ALONE)


def test_a_test_that_fails_is_listed(script, tmp_path, finished_tests, capsys):
    finished_tests["further"] = FAILED
    assert script.main(["--dry-run", "--parts", "tests", "--output", str(tmp_path)]) == 1
    assert "* failed: test_c::test_d: no\n" in (tmp_path / "gpu.md").read_text()
    assert "1 passed, 1 failed, 1 skipped" in capsys.readouterr().out


def test_all_tests_for_gpus_are_those_that_it_runs(repository):
    marked = {
        path.relative_to(repository).parts[1]
        for path in (repository / "tests").rglob("*.py")
        if re.search(r"mark\.gpu\b", path.read_text()) and path.name != "test_gpu.py"
    }
    assert marked == {"gpu"}


def test_what_fails_or_has_no_time_is_listed_and_the_rest_goes_on(script, report):
    def fail():
        raise RuntimeError("CUDA error: out of luck")

    done = []
    report.case("a", fail)
    script.LEAST, least = 0.0, script.LEAST
    report.case("b", lambda: time.sleep(30), seconds=0.05)
    script.LEAST = least
    report.case("c", lambda: done.append("too late"), seconds=1.0)
    report.case("d", lambda: done.append("d"))
    assert done == ["d"]
    missing = json.loads((report.folder / "gpu.json").read_text())["missing"]
    assert [(one["case"], one["reason"].split(":")[0]) for one in missing] == [
        ("a", "failed"), ("b", "no time"), ("c", "no time"),
    ]  # fmt: skip
    assert "out of luck" in (report.folder / "gpu.md").read_text()


def test_a_batch_for_which_memory_has_no_room_is_halved(script, report, monkeypatch):
    def time_training(cfg, size, batch, repeats, device, amp_dtype):
        if batch > 4:
            raise torch.OutOfMemoryError
        time = dict.fromkeys(("median", "min", "max"), 0.5)
        return {"height": 1, "width": 1, "batch_size": batch, "memory": 1.0, "step": time}

    monkeypatch.setattr(script, "time_training", time_training)
    monkeypatch.setitem(script.DRY, "TRAINING_BATCH", 16)
    script.time_steps(report, "HRNet-W18", "float16")
    [row] = report.found["steps"]
    assert (row["batch_size"], row["images_per_second"]) == (4, 8)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [("gpu", "--dry-run"), ("torch", "2.11"), ("pytest", "pip install pytest")],
)
def test_wrong_environments_are_one_line(script, wrong, words, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: wrong != "gpu")
    if wrong == "torch":
        monkeypatch.setattr(torch, "__version__", "2.10.1+cu128")
    elif wrong == "pytest":
        find = script.importlib.util.find_spec
        monkeypatch.setattr(
            script.importlib.util,
            "find_spec",
            lambda name: None if name == "pytest" else find(name),
        )
    assert script.main(["--output", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and words in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("flags", "dry"), [([], False), (["--dry-run"], True), (["-n"], True)])
def test_make_passes_its_own_dry_run_on(repository, flags, dry):
    command = ["make", "--no-print-directory", "gpu", *flags, "GPU_PYTHON=echo", "GPU=--minutes 3"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        command, cwd=repository, env=env, capture_output=True, text=True, check=True
    )
    words = done.stdout.splitlines()[-1].split()
    assert words == ["docs/scripts/gpu.py", *["--dry-run"] * dry, "--minutes", "3"]
