"""COCO-format data sets in their usual layouts, and Roboflow's exports, read and refused."""

import gzip
import json

import pytest
from PIL import Image

from hrnet_kpt.data.formats import coco, roboflow
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.errors import UserError

from . import malformed

CAT = {"id": 1, "name": "cat", "keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [[1, 2]]}


@pytest.fixture
def write(tmp_path):
    """Function that writes a json, with an object on each image, and small images in a folder."""

    def write(file, names, images=None, categories=(CAT,), first=1, **more):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in names if images is not None else ():
            (tmp_path / images / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 24), (first, 90, 90)).save(tmp_path / images / name)
        content = {
            "images": [
                {"id": i, "file_name": n, "width": 32, "height": 24}
                for i, n in enumerate(names, first)
            ],
            "annotations": [
                {
                    "id": i,
                    "image_id": i,
                    "category_id": categories[-1]["id"],
                    "bbox": [1, 2, i, 9],
                    "keypoints": KEYPOINTS,
                }
                for i, _ in enumerate(names, first)
            ],
            "categories": list(categories),
            **more,
        }
        path.write_text(json.dumps(content))
        return path

    return write


KEYPOINTS = [5, 6, 2, 7, 8, 1, 0, 0, 0]


def read(path, module=coco):
    return module.read(path, Options())


def shape(imported):
    """The file names of each split."""
    return {
        split: [image["file_name"] for image in part["images"]]
        for split, part in imported.splits.items()
    }


LAYOUTS = {
    "beside": [("all.json", ["a.png"], "", "all", "a.png")],
    "above": [("all.json", ["a.png"], "photos/1", "all", "photos/1/a.png")],
    "images": [
        ("train.json", ["a.png"], "images", "train", "a.png"),
        ("test.json", ["b.png"], "images", "test", "b.png"),
    ],
    "coco": [
        ("annotations/person_keypoints_train2017.json", ["01.png"], "train2017", "train", "01.png"),
        ("annotations/person_keypoints_val2017.json", ["02.png"], "val2017", "val", "02.png"),
    ],
    "coco with images": [
        ("annotations/train.json", ["a.png"], "images/train", "train", "a.png"),
        ("annotations/val.json", ["b.png"], "images/val", "val", "b.png"),
    ],
    "folders": [
        ("training/labels.json", ["a.png"], "training/images", "train", "a.png"),
        ("validation/labels.json", ["b.png"], "validation/images", "val", "b.png"),
    ],
    "names": [
        ("cats_train.json", ["x/a.png"], "photos", "train", "photos/x/a.png"),
        ("cats_test.json", ["x/b.png"], "photos", "test", "photos/x/b.png"),
    ],
    "equal names": [
        ("train.json", ["1.png"], "train", "train", "train/1.png"),
        ("test.json", ["1.png"], "test", "test", "test/1.png"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, write, tmp_path):
    files = LAYOUTS[layout]
    for number, (file, names, images, *_) in enumerate(files):
        write(file, names, images, first=10 * number + 1)
    assert files[0][0] in coco.recognize(tmp_path)
    imported = read(tmp_path)
    malformed.assert_consistent(imported)
    assert shape(imported) == {split: [name] for *_, split, name in files}
    for _, (name,), images, split, new in files:
        part = imported.splits[split]
        assert imported.files[new].samefile(tmp_path / images / name)
        assert (part["annotations"][0]["bbox"][2], part["annotations"][0]["keypoints"]) == (
            part["images"][0]["id"],
            KEYPOINTS,
        )
    assert not imported.left_out


def test_json_alone_finds_images_beside_or_above_it(write, tmp_path):
    for images in ("train2017", "elsewhere"):
        path = write(
            f"{images}/annotations/person_keypoints_train2017.json", ["a.png"], f"{images}/{images}"
        )
        assert shape(read(path))["train"][0].endswith("a.png")
    path = write("c/val.json", ["c.png"], "c")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert coco.recognize(path) == "val.json"
    assert shape(read(path)) == {"val": ["c.png"]}


def test_keypoints_are_taken_of_several_tasks(write, tmp_path):
    person = {"id": 1, "name": "person"}
    for split in ("train", "val"):
        write(f"annotations/instances_{split}2017.json", [f"{split}.png"], None, [person])
        write(f"annotations/person_keypoints_{split}2017.json", [f"{split}.png"], f"{split}2017")
    write("annotations/image_info_test2017.json", ["t.png"], "test2017", annotations=None)
    imported = read(tmp_path)
    assert [c["name"] for c in imported.categories] == ["cat"]
    assert set(imported.splits) == {"train", "val"}
    assert sum(imported.left_out.values()) == 3
    assert any("instances_train2017.json" in what for what in imported.left_out)


def test_files_of_one_split_are_merged(write, tmp_path):
    """Categories by name, whatever their ids and the order of their keypoints; repeated ids are numbered anew."""
    dog = {"id": 7, "name": "dog", "keypoints": ["tail"]}
    write("a.json", ["a.png", "b.png"], "", [dog, CAT])
    other = {**CAT, "id": 7, "keypoints": ["right_ear", "nose", "left_ear"]}
    write("b.json", ["b.png", "c.png"], "", [{**dog, "id": 3}, other], licenses=[{"id": 1}])
    imported = read(tmp_path)
    assert {c["name"]: c["id"] for c in imported.categories} == {"cat": 1, "dog": 7}
    (part,) = imported.splits.values()
    assert [image["file_name"] for image in part["images"]] == ["a.png", "b.png", "c.png"]
    ids = [image["id"] for image in part["images"]]
    objects = [(a["image_id"], a["category_id"], a["keypoints"]) for a in part["annotations"]]
    turned = [*KEYPOINTS[3:], *KEYPOINTS[:3]]
    assert objects == [
        (ids[0], 1, KEYPOINTS), (ids[1], 1, KEYPOINTS), (ids[1], 1, turned), (ids[2], 1, turned),
    ]  # fmt: skip
    assert len({a["id"] for a in part["annotations"]}) == 4
    assert imported.info == {"licenses": [{"id": 1}]}


def test_keys_and_ids_of_one_file_stay(write, tmp_path):
    path = write("all.json", ["a.png"], "", first=785)
    content = json.loads(path.read_text())
    kept = {
        "iscrowd": 0,
        "area": 7.5,
        "segmentation": [[1, 1, 9, 1, 9, 9]],
        "score": 3,
        "attributes": {"x": 1},
    }
    content["annotations"][0] |= kept
    content["categories"][0]["sigmas"] = [0.1, 0.2, 0.3]
    path.write_text(json.dumps(content))
    imported = read(path)
    assert imported.splits == {"all": {k: content[k] for k in ("images", "annotations")}}
    assert imported.categories == content["categories"]


def test_missing_images_are_left_out_with_their_objects_and_counted(write, tmp_path):
    write("train.json", ["a.png", "b.png", "c.png"], "")
    (tmp_path / "b.png").unlink()
    imported = read(tmp_path)
    assert shape(imported) == {"train": ["a.png", "c.png"]}
    assert [a["image_id"] for a in imported.splits["train"]["annotations"]] == [1, 3]
    assert sorted(imported.left_out.values()) == [1, 1]
    (tmp_path / "a.png").unlink(), (tmp_path / "c.png").unlink()
    with pytest.raises(UserError, match=r"train\.json.*none of the 3 images"):
        read(tmp_path)


def test_references_to_nothing_are_left_out_and_counted(write, tmp_path):
    path = write("all.json", ["a.png", "b.png"], "")
    content = json.loads(path.read_text())
    content["annotations"][0]["image_id"] = 99
    content["annotations"][1]["category_id"] = 99
    content["annotations"].append({**content["annotations"][0], "id": 3, "image_id": "2"})
    path.write_text(json.dumps(content))
    imported = read(path)
    assert [a["id"] for a in imported.splits["all"]["annotations"]] == [3]
    assert sorted(imported.left_out.values()) == [1, 1]


def test_file_without_split_beside_split_ones_is_left_out(write, tmp_path):
    for name in ("all", "all_train", "all_test"):
        write(f"{name}.json", [f"{name}.png"], "")
    imported = read(tmp_path)
    assert set(imported.splits) == {"train", "test"}
    assert [what for what in imported.left_out if what.startswith("all.json: ")]


@pytest.mark.parametrize(
    ("categories", "word"),
    [
        ([{**CAT, "keypoints": ["nose"]}], "nose"),
        ([{**CAT, "keypoints": "nose"}], "names-malformed"),
    ],
)
def test_files_that_contradict_one_another_are_refused(categories, word, write, tmp_path):
    write("a.json", ["a.png"], "")
    write("b.json", ["b.png"], "", categories)
    with pytest.raises(UserError, match=word):
        read(tmp_path)


@pytest.mark.parametrize("name", ["train", "Train2017", "cats-train", "x_training_1", "TRAIN.v2"])
def test_train_is_recognized_in_a_name(name, tmp_path):
    assert coco.split_of(tmp_path / f"{name}.json", tmp_path) == "train"


@pytest.mark.parametrize("name", ["trains", "trainer", "minival2014", "train_test", "constrain"])
def test_no_split_is_guessed_from_other_names(name, tmp_path):
    assert coco.split_of(tmp_path / f"{name}.json", tmp_path) == "all"


def test_other_json_files_are_no_coco(tmp_path):
    texts = [
        '{"shapes": [], "imagePath": "a"}',
        '[{"annotations": []}]',
        "{}",
        "",
        "\x00",
        '{"images": 1}',
    ]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.json").write_text(text)
    assert coco.recognize(tmp_path) == ""
    assert coco.recognize(tmp_path / "nothing") == ""
    with pytest.raises(UserError, match="no COCO-format json"):
        read(tmp_path)


def test_options_of_other_formats_are_refused(write, tmp_path):
    write("all.json", ["a.png"], "")
    for options in (Options(keypoints=["a"]), Options(ignore=["a"]), Options(grow_boxes="0.2")):
        with pytest.raises(UserError, match="--"):
            coco.read(tmp_path, options)


def test_roboflow(write, tmp_path):
    """The category that only groups the others is left out, and the splits are those of the folders."""
    dummy = {"id": 0, "name": "cats", "supercategory": "none"}
    cat = {**CAT, "supercategory": "cats"}
    for number, split in enumerate(("train", "valid", "test")):
        names = [f"{split}.rf.0123456789abcdef0123456789abcdef.jpg"]
        write(f"{split}/_annotations.coco.json", names, split, [dummy, cat], first=number)
    assert coco.recognize(tmp_path) == ""
    assert "train/_annotations.coco.json" in roboflow.recognize(tmp_path)
    imported = read(tmp_path, roboflow)
    malformed.assert_consistent(imported)
    assert list(imported.splits) == ["train", "val", "test"]
    assert imported.categories == [cat]
    assert [what for what in imported.left_out if "'cats'" in what]
    assert shape(read(tmp_path / "train", roboflow)) == {"all": shape(imported)["train"]}
    alone = tmp_path / "valid" / "_annotations.coco.json"
    assert roboflow.recognize(alone) and shape(read(alone, roboflow)) == {
        "all": shape(imported)["val"]
    }


@pytest.mark.parametrize("module", [coco, roboflow])
def test_malformed_files_are_read_or_refused_in_one_line(module, write, tmp_path):
    for split in ("train", "test"):
        file = f"{split}.json" if module is coco else f"{split}/_annotations.coco.json"
        write(file, [f"{split}{i}.png" for i in range(2)], split)
    malformed.check(tmp_path, lambda: read(tmp_path, module), numbers=False)
