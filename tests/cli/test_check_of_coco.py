"""--check with a data set in COCO's folder layout."""

import json
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch

from hrnet_kpt.cli.train import main
from hrnet_kpt.modeling import HRNet

SCRATCH = ["model.backbone.bottom_up.norm=BN", "train.init_checkpoint="]
PAGES = {"hrnet_w18_kpt.py": "person_keypoints", "hrnet_w18_mask.py": "instances"}


@pytest.fixture
def coco(synthetic_people, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    root = tmp_path / "datasets" / "coco"
    (root / "annotations").mkdir(parents=True)
    for split, year in (("train", "train2017"), ("test", "val2017")):
        shutil.copytree(synthetic_people / split, root / year)
        content = json.loads((synthetic_people / f"{split}.json").read_text())
        (root / f"annotations/person_keypoints_{year}.json").write_text(json.dumps(content))
        for key in ("keypoints", "skeleton"):
            del content["categories"][0][key]
        (root / f"annotations/instances_{year}.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("name", PAGES)
def test_a_complete_folder_has_no_findings(name, coco, capsys):
    assert main(["--config-file", name, "--check", *SCRATCH]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "warning: " not in out
    assert ("horizontal mirroring swaps left_eye/right_eye" in out) == (name == "hrnet_w18_kpt.py")


@pytest.mark.parametrize(
    ("name", "change", "finding"),
    [
        ("hrnet_w18_kpt.py", lambda c: c["images"][0].update(file_name="x.jpg"), "image-missing"),
        ("hrnet_w18_kpt.py", lambda c: c["annotations"][0]["keypoints"].pop(), "keypoints-length"),
        ("hrnet_w18_kpt.py", lambda c: c["annotations"][0].update(bbox=[1, 2]), "box-not-numbers"),
        ("hrnet_w18_mask.py", lambda c: c["annotations"][0].pop("segmentation"), "segmentation"),
    ],
)
def test_an_error_of_the_data_is_one_line(name, change, finding, coco, refused):
    path = coco / "annotations" / f"{PAGES[name]}_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert finding in refused(main, ["--config-file", name, "--check", *SCRATCH])[0]


def test_weights_that_cannot_be_fetched_are_a_warning(coco, capsys):
    weights = "train.init_checkpoint=http://127.0.0.1:9/w18.pth"
    assert main(["--config-file", "hrnet_w18_kpt.py", "--check", weights]) == 0
    assert f"warning: {weights} " in capsys.readouterr().out


def test_weights_are_fetched_and_compared(coco, capsys, tmp_path):
    """Those of an HRNet of another width."""
    other = HRNet(width=8, num_modules=(1, 1, 1, 1), num_blocks=(1, 1, 1, 1))
    torch.save(other.state_dict(), tmp_path / "other.pth")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/other.pth"
        weights = f"train.init_checkpoint={url}"
        status = main(["--config-file", "hrnet_w18_kpt.py", "--check", weights])
        server.shutdown()
    assert status == 2
    assert (
        "\nerror: weights-unfit: " in capsys.readouterr().err
    )  # after the download's progress bar
