"""One data set in the shape of every format: recognized, imported, checked, trained on and evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest

from hrnet_kpt.cli import check_data, import_data, train
from hrnet_kpt.data.formats.recognize import FORMATS, seen_formats

SPLIT = ("coco", "roboflow", "yolo")  # whose samples have a test set


@pytest.fixture(scope="session")
def samples(load_tool):
    return load_tool("tests/data/formats/samples.py")


def positions(folder):
    """Pixels from the image's corner of each labelled keypoint, by the image's name in its order, of both sets."""
    found = {}
    for split in ("train", "test"):
        content = json.loads((folder / f"{split}.json").read_text())
        (category,) = content["categories"]
        for image in content["images"]:
            assert (folder / "images" / image["file_name"]).is_file()
            own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            assert len(own) <= 1
            points = [point for a in own for point in np.reshape(a["keypoints"], (-1, 3)).tolist()]
            found[Path(image["file_name"]).name] = {
                name: (x + 0.5, y + 0.5)
                for name, (x, y, v) in zip(category["keypoints"], points, strict=bool(own))
                if v
            }
    return dict(sorted(found.items()))


@pytest.mark.parametrize("name", FORMATS)
def test_format_is_imported_trained_on_and_evaluated(name, samples, tmp_path, tiny, capsys):
    source, output = tmp_path / "source", tmp_path / "output"
    samples.write(name, source)
    assert list(seen_formats(source)) == [name]
    share = [] if name in SPLIT else ["--test-share", "0.34"]
    assert import_data.main(["--input", str(source), "--output", str(output), *share]) == 0
    found = positions(output)
    cats = dict(zip(found, samples.CATS.values(), strict=True))
    for image, points in found.items():
        assert points == {k: pytest.approx(p, abs=0.01) for k, p in cats[image].items()}, image
    capsys.readouterr()
    assert check_data.main(["--annotations", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "file-name-respelled" not in printed and "area-missing" not in printed

    tiny = [o for o in tiny if not o.startswith(("data.", "train.max_iter"))]
    more = [f"data.root={output}", "train.max_iter=2"]
    assert train.main(["--config-file", "own.py", *tiny, *more]) == 0
    evaluation = json.loads((tmp_path / "run" / "inference" / "evaluation.json").read_text())
    test = json.loads((output / "test.json").read_text())
    assert evaluation["images"]["evaluated"] == len(test["images"]) == 2
    assert evaluation["detected"]["objects"]["labelled"] == len(test["annotations"]) > 0
    tested = [cats[Path(image["file_name"]).name] for image in test["images"]]
    labelled = {row["keypoint"]: row["labelled"] for row in evaluation["per_keypoint"]}
    assert labelled == {k: sum(k in cat for cat in tested) for k in samples.KEYPOINTS}
