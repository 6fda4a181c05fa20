"""What is read from a data set, and from the machine."""

import json

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.analysis.new_config.machine import has_bfloat16, this_machine
from hrnet_kpt.analysis.new_config.survey import is_fixed_camera, survey_data
from hrnet_kpt.errors import UserError

POINTS = [30, 40, 2, 35, 45, 2]


@pytest.fixture
def write_json(tmp_path):
    """Function that writes a json of as many images of 100 x 50 pixels as `objects`, each with these objects.

    An object is its category, its box and its keypoints.
    """

    def write_json(name, objects):
        images, annotations = [], []
        for number, own in enumerate(objects):
            file = f"{name}{number}.png"
            Image.new("RGB", (100, 50), (9 * number, 90, 90)).save(tmp_path / file)
            images.append({"id": number, "file_name": file, "width": 100, "height": 50})
            for category, box, points in own:
                entry = {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0, "bbox": box}
                annotations.append({**entry, "category_id": category, "keypoints": points})
        categories = [
            {"id": 1, "name": "rat", "keypoints": ["left_ear", "right_ear"]},
            {"id": 2, "name": "box", "keypoints": []},
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return str(tmp_path / f"{name}.json"), str(tmp_path)

    return write_json


def test_objects_are_counted_and_measured(write_json):
    rat, box = (1, [10, 5, 40, 20], POINTS), (2, [0, 0, 10, 30], [])
    unlabeled = (1, [0, 0, 10, 10], [0] * 6)
    train = write_json("train", [[rat, rat, box], [rat], [box], [rat], [rat], [unlabeled], []])
    test = write_json("test", [[rat] * 4, []])
    survey = survey_data(train, test)
    assert (survey.images, survey.objects, survey.unlabeled) == (5, 7, 2)
    assert survey.class_objects == {"rat": 5, "box": 2}
    assert survey.class_images == {"rat": 4, "box": 2}
    assert (survey.most_objects, survey.most_of_class) == (4, 4)  # of the test set
    assert (survey.test_images, survey.test_objects) == (2, 4)
    assert survey.keypoints == ("left_ear", "right_ear")
    assert survey.flip_pairs == (("left_ear", "right_ear"),)
    assert survey.image_range == "8-bit" and survey.short_side == 50
    # Twice the size, unless the longer side would be above 150.
    assert survey.box_sizes_at(100, 999)[0].tolist() == [80, 40]
    assert survey.box_sizes_at(100, 150)[0].tolist() == [60, 30]
    boxes = survey_data(train, test, with_keypoints=False)
    assert (boxes.images, boxes.objects, boxes.keypoints) == (6, 8, ())


def test_too_few_images_and_an_empty_test_set(write_json):
    rat = (1, [10, 5, 40, 20], POINTS)
    full, few = write_json("full", [[rat]] * 5), write_json("few", [[rat]] * 4 + [[]])
    survey_data(full, full)
    with pytest.raises(UserError, match=r"few\.json: 4 of its 5 images"):
        survey_data(few, full)
    with pytest.raises(UserError, match=r"empty\.json: 2 images and no object"):
        survey_data(full, write_json("empty", [[], []]))


def test_frames_of_a_fixed_camera_are_alike(tmp_path):
    random = np.random.default_rng(0)
    background = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for number in range(6):
        frame = background.copy()
        frame[5 * number : 5 * number + 20, 20:50] = 0  # an object that moves
        Image.fromarray(frame).save(tmp_path / f"frame{number}.png")
        other = random.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
        Image.fromarray(other).save(tmp_path / f"other{number}.png")
    frames, others = (
        [str(tmp_path / f"{name}{number}.png") for number in range(6)]
        for name in ("frame", "other")
    )
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert is_fixed_camera([*frames, str(tmp_path / "broken.png"), None])
    assert not is_fixed_camera(others)
    assert not is_fixed_camera(frames[:2])


def test_bfloat16_is_among_the_flags_of_the_processor():
    x86 = "processor\t: 0\nflags\t\t: fpu sse2 avx512f {}\nbugs\t\t:\n"
    assert has_bfloat16(x86.format("avx512_bf16"))
    assert has_bfloat16(x86.format("amx_bf16 amx_tile"))
    assert has_bfloat16("Features\t: fp asimd bf16 i8mm\n")
    assert not has_bfloat16(x86.format("avx2")) and not has_bfloat16("")


def test_a_gpu_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert this_machine().device == "cpu"
    with pytest.raises(UserError, match="--device cuda"):
        this_machine("cuda")
