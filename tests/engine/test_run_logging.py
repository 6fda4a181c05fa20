"""log.txt and metrics.json after a crash: complete lines, each iteration once."""

import json
import logging
import math
from pathlib import Path

import pytest
from detectron2.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from hrnet_kpt.engine.run_logging import LogFile, MetricsWriter, ProgressWriter, rewind_metrics
from hrnet_kpt.io import to_json
from hrnet_kpt.visualization import run_images
from hrnet_kpt.visualization.run_images import draw_curves


@settings(max_examples=100, deadline=None)
@given(lines=st.integers(0, 6), cut=st.integers(0, 400), start=st.integers(0, 8))
def test_metrics_are_cut_to_whole_lines_before_an_iteration(lines, cut, start, tmp_path_factory):
    path = tmp_path_factory.mktemp("metrics") / "metrics.json"
    text = "".join(json.dumps({"iteration": 2 * i, "loss": i / 3}) + "\n" for i in range(lines))[
        :cut
    ]
    path.write_text(text)
    last = rewind_metrics(path, start)
    whole = [json.loads(line) for line in text.split("\n")[:-1]]
    kept = [row for row in whole if row["iteration"] < start]
    assert [json.loads(line) for line in path.read_text().splitlines()] == kept
    assert last == max((row["iteration"] for row in kept), default=-1)
    assert path.read_text() == "".join(f"{json.dumps(row)}\n" for row in kept)


def test_there_may_be_no_file(tmp_path):
    assert rewind_metrics(tmp_path / "metrics.json", 3) == -1
    assert not list(tmp_path.iterdir())


def test_progress_is_one_line_per_step_and_a_log_is_continued(tmp_path):
    logger = logging.getLogger("hrnet_kpt.engine.run_logging")
    logger.setLevel(logging.INFO)
    for start in (0, 2):
        handler = LogFile(tmp_path / "log.txt")
        logger.addHandler(handler)
        with EventStorage(start) as storage:
            writer = ProgressWriter(10)
            for iteration in (start, start + 1):
                storage.iter = iteration
                storage.put_scalar("total_loss", 1.5)
                writer.write()
                storage.iter += 1
                writer.write()  # no new step
        logger.removeHandler(handler)
        handler.close()
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        [f"iter: {i}", "total_loss: 1.5"] for i in range(4)
    ]


def test_metrics_writer_writes_each_iteration_once(tmp_path):
    path = tmp_path / "metrics.json"
    with EventStorage() as storage:
        for start in (0, 2):
            writer = MetricsWriter(path, start)
            for iteration in range(start + 2):
                storage.iter = iteration
                storage.put_scalar("loss", float(iteration), smoothing_hint=False)
                writer.write()
            writer.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"iteration": i, "loss": float(i)} for i in range(4)]


def test_a_log_on_a_full_disk_is_reported_once(capsys):
    handler = LogFile(Path("/dev/full"))
    for _ in range(2):
        handler.emit(logging.makeLogRecord({"msg": "lost"}))
    handler.close()
    err = capsys.readouterr().err
    assert err.count("No space left on device") == 1 and "/dev/full" in err


def test_metrics_on_a_full_disk_are_an_error():
    with EventStorage() as storage:
        storage.put_scalar("loss", 1.0)
        with pytest.raises(ValueError, match=r"/dev/full"):
            MetricsWriter(Path("/dev/full")).write()


def strict(text):
    def refuse(name):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_null(value, tmp_path):
    path = tmp_path / "metrics.json"
    with EventStorage() as storage:
        writer = MetricsWriter(path)
        storage.put_scalar("keypoints/AP", value, smoothing_hint=False)
        storage.put_scalar("lr", 0.5, smoothing_hint=False)
        writer.write()
        writer.close()
    assert strict(path.read_text()) == {"iteration": 0, "keypoints/AP": None, "lr": 0.5}


def test_curves_have_gaps_for_them_also_in_older_files(tmp_path):
    lines = [
        f'{{"iteration": {i}, "total_loss": {v}, "lr": 0.1, "keypoints/AP": {v}}}'
        for i, v in enumerate(["1.0", "null", "NaN", "Infinity", "2.0"])
    ]
    (tmp_path / "metrics.json").write_text("".join(f"{line}\n" for line in lines))
    draw_curves(tmp_path / "metrics.json", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 100
    assert rewind_metrics(tmp_path / "metrics.json", 4) == 3


def test_curves_show_where_ap_on_test_and_training_images_part(tmp_path, monkeypatch):
    test, train = [50.0, 40.0, 5.0], [60.0, 80.0, 99.0]
    lines = [
        {"iteration": 10 * i, "total_loss": 1.0, "lr": 0.1, "bbox/AP": a, "bbox_train/AP": b}
        for i, (a, b) in enumerate(zip(test, train, strict=True))
    ]
    (tmp_path / "metrics.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    figures = []
    monkeypatch.setattr(
        run_images, "Figure", lambda **size: figures.append(Figure(**size)) or figures[-1]
    )
    draw_curves(tmp_path / "metrics.json", tmp_path / "curves.png")
    drawn = [line.get_xydata().tolist() for line in figures[0].axes[1].lines]
    assert drawn[:2] == [[[0, a], [10, b], [20, c]] for a, b, c in (test, train)]
    assert [x for x, _ in drawn[2]] == [0, 0]  # a vertical line at the best
    labels = [text.get_text() for text in figures[0].axes[1].get_legend().get_texts()]
    assert labels[:2] == ["bbox/AP", "bbox_train/AP"] and len(labels) == 3


NUMBERS = st.floats() | st.integers() | st.none() | st.booleans() | st.text(max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        NUMBERS,
        lambda child: (
            st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=3), child, max_size=3)
        ),
    )
)
def test_json_is_standard_conforming(content):
    def expected(node):
        if isinstance(node, dict):
            return {key: expected(child) for key, child in node.items()}
        if isinstance(node, list):
            return [expected(child) for child in node]
        return None if isinstance(node, float) and not math.isfinite(node) else node

    assert strict(to_json(content)) == expected(content)
