"""The ground truth of a run."""

import json
import shutil

import pytest

from hrnet_kpt.analysis.errors.report import images_not_read, load_run


def test_images_that_the_evaluation_could_not_read_are_left_out(run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    path = folder / "inference" / "evaluation.json"
    content = json.loads(path.read_text())
    assert content["images"] == {"listed": 4, "evaluated": 4, "not_read": []}
    content["images"]["not_read"] = [1, 4]
    path.write_text(json.dumps(content))
    truth, *_ = load_run(folder)
    assert sorted(truth.coco.imgs) == [2, 3]
    assert not {a["image_id"] for a in truth.coco.anns.values()} & {1, 4}


@pytest.mark.parametrize("content", [None, "", "[]", '{"bbox": {}}'])
def test_evaluations_of_older_versions_are_over_all_images(content, tmp_path):
    path = tmp_path / "evaluation.json"
    if content is not None:
        path.write_text(content)
    assert images_not_read(path) == []
