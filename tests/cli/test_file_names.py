"""file_names that differ from the names of the files, in all code that opens images."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hrnet_kpt.cli.check_data import main
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.errors import UserError
from hrnet_kpt.evaluation.ground_truth import load_ground_truth
from hrnet_kpt.inference.predict.coco import coco_ids
from hrnet_kpt.inference.predict.inputs import find_inputs
from hrnet_kpt.visualization.run_images import paths_by_id

CLASSES = {"person": list(COCO_PERSON.names)}


@pytest.fixture
def respelt(synthetic_people, tmp_path):
    """A json with file_names of other systems, and the folder of its images, two of them in subfolders."""
    content = json.loads((synthetic_people / "test.json").read_text())
    folder = tmp_path / "images"
    files = ["Käfer 1.JPG", "day1/a+b.jpg", "day2/x.jpg", "y.jpg"]
    names = ["K%C3%A4fer%201.jpg", "C:\\set\\day1\\A+B.jpg", "x", "y.jpg"]
    for image, file, name in zip(content["images"], files, names, strict=True):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(synthetic_people / "test" / image["file_name"], folder / file)
        image["file_name"] = name
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content), encoding="utf-16")
    return path, folder, [str(folder / file) for file in files]


def test_check_reads_and_repairs_them(respelt, tmp_path, capsys):
    path, folder, files = respelt
    arguments = ["--images", str(folder)]
    draw = ["--draw", str(tmp_path / "samples")]
    assert main(["--annotations", str(path), *arguments, *draw]) == 0
    text = capsys.readouterr().out
    assert text.count("file-name-respelled: 3 images") == 1 and "3 of 4, other folders 2" in text
    assert Image.open(tmp_path / "samples" / "samples.png").height > 300
    fixed = tmp_path / "fixed.json"
    assert main(["--annotations", str(path), *arguments, "--fix", str(fixed)]) == 0
    names = [image["file_name"] for image in json.loads(fixed.read_text())["images"]]
    assert names == [str(Path(file).relative_to(folder)) for file in files]
    capsys.readouterr()
    assert main(["--annotations", str(fixed), *arguments]) == 0
    assert "file-name-respelled" not in capsys.readouterr().out


def test_training_and_visualization_open_them(respelt, caplog):
    path, folder, files = respelt
    with caplog.at_level(logging.INFO):
        records = load_keypoint_dataset(str(path), str(folder), COCO_PERSON, CLASSES)
    assert [record["file_name"] for record in records] == files
    assert sum("3 of 4" in record.getMessage() for record in caplog.records) == 1
    truth = load_ground_truth(path, COCO_PERSON, CLASSES)
    assert list(paths_by_id(truth, folder).values()) == files


def test_ids_of_inputs(respelt):
    path, folder, files = respelt
    inputs = find_inputs([str(folder)])
    ids = coco_ids(inputs, COCO_PERSON, CLASSES, str(path))
    numbers = [image["id"] for image in json.loads(path.read_text("utf-16"))["images"]]
    assert {str(folder / name): number for name, number in ids.images.items()} == dict(
        zip(files, numbers, strict=True)
    )
    assert "3 of 4" in ids.origin
    for other in ("z.jpg", "day3/x.jpg"):  # without an entry; with the entry of another image
        shutil.copy(files[0], folder / Path(other).name)
        with pytest.raises(UserError, match=Path(other).name):
            coco_ids(find_inputs([str(folder)]), COCO_PERSON, CLASSES, str(path))
        (folder / Path(other).name).unlink()


def test_missing_files_are_found(respelt, tmp_path, refused):
    path, folder, files = respelt
    Path(files[2]).rename(folder / "other.jpg")
    arguments = ["--annotations", str(path), "--images", str(folder), "--skip-opening-images"]
    (line,) = refused(main, arguments)
    assert "image-missing: 1 image" in line and "4 files" in line
    Path(files[0]).with_name("käfer 1.jpg").touch()
    (line,) = refused(main, arguments)
    assert "image-missing: 2 images" in line and "K%C3%A4fer%201.jpg" in line
