"""What a run logs about mirrored images, and how data.image_range is resolved."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.structures import Instances
from PIL import Image

from hrnet_kpt.config import load_config
from hrnet_kpt.data.synthetic import write_synthetic_people
from hrnet_kpt.engine import train
from hrnet_kpt.engine.prepare import check_data
from hrnet_kpt.engine.setup import describe_mirrors, mirror_directions
from hrnet_kpt.errors import UserError
from hrnet_kpt.inference import Predictor
from hrnet_kpt.inference.predictor import to_array

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """60 images of 12 bits with synthetic people, whose keypoints have numbers as names."""
    root = tmp_path_factory.mktemp("numbered")
    write_synthetic_people(str(root), num_train=60, num_test=1, image_size=96)
    content = json.loads((root / "train.json").read_text())
    content["categories"][0]["keypoints"] = [str(i) for i in range(17)]
    (root / "train.json").write_text(json.dumps(content))
    deepen(root / "train", 4095)
    first = content["images"][0]["id"]
    content["images"] = content["images"][:1]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == first]
    (root / "test.json").write_text(json.dumps(content))
    return [
        *(f"data.{s}.annotations={root}/{s}.json" for s in ("train", "test")),
        *(f"data.{s}.images={root / 'train'}" for s in ("train", "test")),
    ]


def deepen(folder, top, kind=np.uint16, low=0):
    """Replace images, in place, by ones with gray levels from low to top."""
    for path in folder.glob("*[!n]"):  # not the json
        gray = np.asarray(Image.open(path).convert("L")).astype(float)
        gray = (gray - gray.min()) / (gray.max() - gray.min())
        Image.fromarray((low + gray * (top - low)).astype(kind)).save(path, "TIFF")


def found(warnings):
    return [warning for warning in warnings if "flip-pairs-unknown" in warning]


def test_unknown_flip_pairs_are_a_warning_if_images_are_mirrored(tiny, numbered):
    cfg = load_config(PAGE, [*tiny, *numbered])
    [warning] = found(check_data(cfg, "train", "test"))
    assert '["5","6"]' in warning
    assert "1/2" not in describe_mirrors(cfg)
    pairs = "[[" + "],[".join(f'"{i}","{i + 1}"' for i in range(1, 17, 2)) + "]]"
    paired = load_config(PAGE, [*tiny, *numbered, f"data.keypoints={{flip_pairs:{pairs}}}"])
    assert found(check_data(paired, "train", "test")) == []
    assert "1/2, 3/4" in describe_mirrors(paired)
    unflipped = load_config(PAGE, [*tiny, *numbered])
    del unflipped.dataloader.train.mapper.augmentations[1]
    assert found(check_data(unflipped, "train", "test")) == []
    assert mirror_directions(unflipped) == set()
    assert found(check_data(load_config(PAGE, [*tiny, *numbered]), "test")) == []


def test_near_and_off_are_taken_as_left_and_right(tiny, write_set, tmp_path):
    cfg = load_config(PAGE, [*tiny, *write_set({"horse": ["nose", "nearknee", "offknee"]})])
    assert "nearknee/offknee (near" in describe_mirrors(cfg)
    cfg = load_config(PAGE, [*tiny, *write_set({"cat": ["nose", "l1", "r1"]}, tmp_path / "other")])
    assert describe_mirrors(cfg).endswith(" l1/r1")


def test_a_training_logs_the_flip_warning_and_saves_the_range(tiny, numbered, tmp_path):
    """The warning is logged again right before the first iteration; training and prediction scale alike."""
    overrides = [*tiny, *numbered, "train.max_iter=1", "train.eval_period=0"]
    train(load_config(PAGE, overrides))
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    logged = [i for i, line in enumerate(lines) if "flip-pairs-unknown" in line]
    [start] = [i for i, line in enumerate(lines) if "Training from iteration" in line]
    assert len(logged) == 2 and logged[1] == start - 1

    config = tmp_path / "run" / "config.yaml"
    assert list(load_config(config).data.image_range) == [0, 4095]
    assert load_config(config, ["data.image_range=auto"]).data.image_range == "auto"
    assert load_config(config, ["data.image_range=[0,1]"]).data.image_range == [0, 1]
    predictor = Predictor.from_run(tmp_path / "run")
    values = np.linspace(0, 4095, 96 * 96).reshape(96, 96).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    seen = []
    predictor.model.inference = lambda samples: (
        seen.append(samples[0]["image"]) or [{"instances": Instances((96, 96))}]
    )
    level = np.rint(values * (255 / 4095)).astype(np.uint8)
    for image in (level, values, tmp_path / "deep.png", Image.fromarray(values)):
        predictor(image)
    assert seen[0].max() == 255 and all((other == seen[0]).all() for other in seen[1:])


def test_the_range_of_8_bit_images_is_resolved(tiny, write_set, tmp_path):
    paths = write_set({"dot": ["a", "b"]})
    cfg = load_config(PAGE, [*tiny, *paths])
    check_data(cfg, "train", "test")
    assert cfg.data.image_range == "8-bit"
    other = write_set({"dot": ["a", "b"]}, tmp_path / "other")
    deepen(tmp_path / "other", 4095)
    deep_test = [*paths, *(path for path in other if path.startswith("data.test"))]
    with pytest.raises(UserError, match=r"data\.image_range=\[0,4095\]"):  # before a model is built
        check_data(load_config(PAGE, [*tiny, *deep_test]), "train", "test")
    generated = load_config(PAGE, tiny)
    check_data(generated, "train", "test")
    assert generated.data.image_range == "8-bit"


def test_an_ambiguous_range_is_refused_unless_the_config_has_one(tiny, write_set):
    paths = write_set({"dot": ["a", "b"]})
    deepen(Path(load_config(PAGE, [*tiny, *paths]).data.train.images), 3000, np.int32, -1000)
    with pytest.raises(UserError, match=r"-1000 .*data\.image_range=\[") as raised:
        check_data(load_config(PAGE, [*tiny, *paths]), "train", "test")
    assert "\n" not in str(raised.value)
    cfg = load_config(PAGE, [*tiny, *paths, "data.image_range=[-500,1500]"])
    check_data(cfg, "train", "test")
    assert list(cfg.data.image_range) == [-500, 1500]


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint16), np.zeros((4, 4, 3), np.float32)])
def test_arrays_of_other_types_need_a_range(image):
    with pytest.raises(UserError, match=r"data\.image_range"):
        to_array(image)
    found = to_array(image + np.asarray(3, image.dtype), image_range=[0, 6])
    assert found.shape == (4, 4, 3) and found.dtype == np.uint8 and set(found.ravel()) == {128}
