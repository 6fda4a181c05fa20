"""tools/rank_images.py on a tiny run: files, ties, near-duplicates, images that cannot be read, wrong inputs."""

import csv
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hrnet_kpt.analysis.ranking import doubt, sheet
from hrnet_kpt.analysis.ranking.doubt import compare_mirrored, doubt_of
from hrnet_kpt.cli import rank_images
from hrnet_kpt.inference import Predictor


@pytest.fixture
def photos(synthetic_people, tmp_path, monkeypatch):
    """A folder with the first four images of the training set, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doubt, "MIN_SCORE", 0.0)  # scores of the tiny model are low
    monkeypatch.setattr(sheet, "CELL", 100)
    (tmp_path / "photos").mkdir()
    for path in sorted((synthetic_people / "train").iterdir())[:4]:
        shutil.copy(path, tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def rank(run_folder):
    return lambda *words: rank_images.main(["--run", str(run_folder), *map(str, words)])


def rows(folder):
    with open(f"{folder}/ranking.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_images_are_ordered_by_their_doubt(rank, photos, run_folder, capsys):
    shutil.copy(photos / "000002.jpg", photos / "again, ü.jpg")
    (photos / "bad.jpg").write_text("no image")
    assert rank("--input", "photos", "--output", "out") == 3
    assert "photos/bad.jpg" in capsys.readouterr().err.splitlines()[-1]
    found = rows("out")
    assert [row["rank"] for row in found] == [str(rank) for rank in range(1, 6)]
    predictor = Predictor.from_run(run_folder)
    for row in found:
        image = Image.open(row["image"]).convert("RGB")
        expected = doubt_of(*compare_mirrored(predictor, image))
        for key in ("score", "keypoints", "boxes", "mirror"):
            assert float(row[key]) == pytest.approx(getattr(expected, key), abs=1e-4)
        assert int(row["objects"]) == sum(o["score"] >= 0.5 for o in predictor(image).objects)
    scores = [float(row["score"]) for row in found[:-1]]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4
    copies = {"photos/000002.jpg", "photos/again, ü.jpg"}
    assert {found[-1]["image"], found[-1]["duplicate_of"]} == copies
    assert not any(row["duplicate_of"] for row in found[:-1])
    paths = Path("out/images.txt").read_text().splitlines()
    assert paths == [row["image"] for row in found]
    width, height = Image.open("out/ranking.jpg").size
    assert 400 < width < 500 and 200 < height < 300, "two rows of four"


def test_a_second_call_gives_the_same(rank, photos):
    """Also if the ranking is below the input: it is no input itself."""
    files = [photos / "ranking" / name for name in ("ranking.csv", "images.txt", "ranking.jpg")]
    assert rank("--input", "photos", "--output", "photos/ranking") == 0
    before = [file.read_bytes() for file in files]
    assert rank("--input", "photos", "--output", "photos/ranking") == 0
    assert [file.read_bytes() for file in files] == before
    assert len(rows("photos/ranking")) == 4


def test_a_list_and_overrides_are_taken(rank, photos):
    Path("list.txt").write_text("photos/000003.jpg\nphotos/000001.jpg\n")
    override = "inference.keypoint_decoding=dark"
    assert rank("--output", "out", "--input", "@list.txt", override) == 0
    assert {row["image"] for row in rows("out")} == {"photos/000003.jpg", "photos/000001.jpg"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--input", "nowhere", "--output", "out"], "nowhere"),
        (["--input", "empty", "--output", "out"], "empty"),
        (["--input", "clip.mp4", "--output", "out"], "frames"),
        (["--input", "photos", "--output", "list.txt"], "list.txt"),
        (["--input", "bad.jpg", "--output", "out"], "bad.jpg"),
        (["--input", "data.x=1", "--output", "out"], "--input"),
        (["--input", "photos", "--output", "out", "data.x=1"], "data.x"),
        (["--input", "photos", "--output", "out", "--run", "empty"], "run folder"),
    ],
)
def test_wrong_inputs_are_one_line(rank, photos, capsys, words, expected):
    Path("empty").mkdir()
    for name in ("list.txt", "clip.mp4", "bad.jpg"):
        Path(name).write_text("x")
    assert rank(*words) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("skipped: ")]
    assert lines[-1].startswith("error: ") and expected in lines[-1]
    assert len([line for line in lines if not line.startswith("warning: ")]) == 1
    assert not Path("out/ranking.csv").exists()
