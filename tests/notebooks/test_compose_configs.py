"""The notebook on configs runs from top to bottom, in any folder, and is committed without its outputs."""

import base64
import io
import json
import re
import warnings
from types import SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from hrnet_kpt.config import check_config, load_config

NOTEBOOK = "notebooks/compose_configs.ipynb"
# The beginning of a path on somebody's machine.
ABSOLUTE_PATH = re.compile(r"(?<![\w.~}])/(home|root|tmp|Users|mnt|opt|work|data)/|\b[A-Z]:\\")


@pytest.fixture
def notebook(repository):
    return nbformat.read(repository / NOTEBOOK, as_version=nbformat.NO_CONVERT)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The kernel's folder for temporary files; neither it nor its settings are the user's."""
    for name in ("TMPDIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    # No kernel but that of the interpreter that runs the tests.
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    return tmp_path / "TMPDIR"


def test_cells_run_one_after_the_other(notebook, tmp_path, monkeypatch, capsys, whole_runs):
    """All of them, in this process: two iterations of the training, and the commands without a process."""
    done = SimpleNamespace(stdout="done\n", stderr="", returncode=0)
    monkeypatch.setattr("subprocess.run", lambda *command, **options: done)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    names, printed = {}, {}
    with warnings.catch_warnings():
        for cell in notebook.cells:
            if cell.cell_type == "code":
                if cell.id == "train":
                    names["cfg"].train.update(max_iter=2, log_period=1)
                    names["cfg"].train.checkpointer.period = 2
                    names["cfg"].lr_multiplier.warmup_iters = 1
                exec(cell.source, names)
                printed[cell.id] = capsys.readouterr().out
    assert_told(printed)
    assert names["results"].keys() == {"bbox", "keypoints"}
    saved = load_config(names["folder"] / "my_config.py")
    assert saved.train.output_dir == str(names["folder"] / "next_run")
    assert check_config(saved) == []
    written = load_config(names["path"])
    assert written.data.train.annotations == str(names["folder"] / "more_people" / "train.json")


def assert_told(printed):
    """What the cells print, by their names."""
    for name, words in EXPECTED.items():
        assert all(word in printed[name] for word in words), (name, printed[name])
    for name in ("width", "fpn-wired", "light-head", "compose", "settings"):
        assert "no findings" in printed[name]


EXPECTED = {
    "look": ["64 follows it"],
    "override": ["train.max_iters=300", "did you mean train.max_iter", "neither true nor false"],
    "check": ["value-unread", "train.max_iters"],
    "check-wiring": ["feature-unknown", "['res4']", "shape-differs", "channels=256"],
    "fpn": ["feature-unused", "p5"],
    "save": ["no differences"],
    "command": ["exit status 0"],
    "command-train": ["exit status 0"],
    "new-config": ["12 training images of 96 x 96", 'load_page("own.py")', "# "],
}


@pytest.mark.slow
def test_runs_and_leaves_a_config_that_trains(notebook, temporary, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    resources = {"metadata": {"path": str(elsewhere)}}
    NotebookClient(notebook, timeout=500, kernel_name="python3", resources=resources).execute()

    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    printed = {name: written(found, "stdout") for name, found in outputs.items()}
    assert_told(printed)
    assert "no errors" in printed["command"]
    for name in ("untrained", "curves", "predictions", "heatmaps"):
        [output] = outputs[name]
        image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
        assert image.width > 700
        assert len(image.convert("L").reduce(8).getcolors()) > 20

    # Readable: no warnings but the one that COCO is not there, which the text explains.
    warned = {name: written(found, "stderr") for name, found in outputs.items()}
    assert [name for name, text in warned.items() if text] == ["diff"]
    assert len(warned["diff"].splitlines()) == 1
    assert "using COCO's 17 keypoints" in warned["diff"]

    [folder] = temporary.glob("configs_*")
    rows = [json.loads(line) for line in (folder / "run" / "metrics.json").open()]
    losses = [row["total_loss"] for row in rows if "total_loss" in row]
    assert losses[-1] < 0.8 * losses[0]
    assert (folder / "next_run" / "model_final.pth").is_file()
    saved = load_config(folder / "my_config.py")
    assert saved.train.output_dir == str(folder / "next_run")
    # The folder is in use by now: by the notebook's own command.
    assert [finding.name for finding in check_config(saved)] == ["output-used"]
    assert list(elsewhere.iterdir()) == []


def test_is_committed_clean(repository, notebook):
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert not ABSOLUTE_PATH.search((repository / NOTEBOOK).read_text())


def written(outputs, stream):
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == stream)
