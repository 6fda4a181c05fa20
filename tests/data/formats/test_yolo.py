"""YOLO-pose: layouts, coordinates, names and flips; written by docs/scripts/yolo_labels.py and read back."""

import json
import re

import numpy as np
import pytest
import yaml
from PIL import Image

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.data.formats import yolo
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.errors import UserError

from . import malformed

# In an image of 20 x 10 pixels: the box from 4, 1 to 16, 9; keypoints at 5, 2 and 15, 8 from the corner.
ROW = "0 0.5 0.5 0.6 0.8 0.25 0.2 2 0 0 0 0.75 0.8 1"
NAMES = ["nose", "left_ear", "right_ear"]


def image(path, size=(20, 10), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "gray").save(path, **options)
    return path


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def write(folder, rows=None, **keys):
    """A folder as ultralytics documents it: images a (train), b (val); their rows by name, ROW by default."""
    content = {
        "train": "images/train",
        "val": "images/val",
        "kpt_shape": [3, 3],
        "flip_idx": [0, 2, 1],
        "names": {0: "cat"},
        "kpt_names": {0: NAMES},
        **keys,
    }
    for name, split in (("a", "train"), ("b", "val")):
        image(folder / "images" / split / f"{name}.png")
        row = (rows or {}).get(name, ROW)
        if row is not None:
            text(folder / "labels" / split / f"{name}.txt", row)
    text(
        folder / "data.yaml",
        yaml.safe_dump({key: value for key, value in content.items() if value is not ...}),
    )
    return folder


def read(path, **options):
    return yolo.read(path, Options(**options))


def names_of(imported):
    return {s: [i["file_name"] for i in part["images"]] for s, part in imported.splits.items()}


def only(imported, split="train"):
    [annotation] = imported.splits[split]["annotations"]
    return annotation


def test_fractions_become_pixels(tmp_path):
    write(tmp_path)
    for path in (tmp_path, tmp_path / "data.yaml", tmp_path.parent):
        assert yolo.recognize(path) == "data.yaml with `kpt_shape`"
    imported = read(tmp_path)
    assert imported.root == tmp_path / "images"
    assert names_of(imported) == {"train": ["train/a.png"], "val": ["val/b.png"]}
    assert imported.categories == [
        {
            "id": 1,
            "name": "cat",
            "keypoints": NAMES,
            "skeleton": [],
            "flip_pairs": [["left_ear", "right_ear"]],
        }
    ]
    annotation = only(imported)
    assert annotation["bbox"] == pytest.approx([4, 1, 12, 8])
    # Pixel indices: half a pixel less than from the corner.
    assert annotation["keypoints"] == [4.5, 1.5, 2, 0, 0, 0, 14.5, 7.5, 1]
    assert annotation["num_keypoints"] == 2
    assert not imported.left_out and not imported.assumed


@pytest.mark.parametrize("name", ["a.txt", "data.yml"])
def test_other_folders_are_not_recognized(tmp_path, name):
    assert yolo.recognize(tmp_path / "missing") == ""
    text(tmp_path / name, "train: images\nnames: [cat]\n")
    assert yolo.recognize(tmp_path) == yolo.recognize(tmp_path / name) == ""


def test_two_numbers_a_keypoint(tmp_path):
    row = "0 0.5 0.5 0.5 0.6 0.25 0.2 0 0 -1 -1"
    imported = read(write(tmp_path, {"a": row, "b": ""}, kpt_shape=[3, 2]))
    assert only(imported)["keypoints"] == [4.5, 1.5, 2, 0, 0, 0, 0, 0, 0]
    assert imported.splits["val"]["annotations"] == []
    assert sorted(imported.assumed.values()) == [1, 2]  # labelled; not labelled


def layout_beside(folder):
    write(folder, train="a", val="b")
    for name, split in (("a", "train"), ("b", "val")):
        image(folder / name / "i.png")
        (folder / "labels" / split / f"{name}.txt").rename(folder / name / "i.txt")
    return {"train": ["a/i.png"], "val": ["b/i.png"]}


def layout_roboflow(folder):
    write(folder, train="../train/images", val="../valid/images", test="../test/images", path=...)
    for split in ("train", "valid"):
        image(folder / split / "images" / "x.jpg")
        text(folder / split / "labels" / "x.txt", ROW)
    return {"train": ["train/images/x.jpg"], "val": ["valid/images/x.jpg"]}


def layout_lists(folder):
    write(folder, train="lists/train.txt", val=["lists/val.txt", "images/more"])
    image(folder / "images" / "more" / "c.png")
    text(folder / "labels" / "more" / "c.txt", ROW)
    text(
        folder / "lists" / "train.txt",
        f"./../images/train/a.png\n\n{folder}/images/train/gone.png\n",
    )
    text(folder / "lists" / "val.txt", "/home/me/set/images/val/b.png\r\n")
    return {"train": ["train/a.png"], "val": ["val/b.png", "more/c.png"]}


def layout_cvat(folder):
    """As CVAT's export Ultralytics YOLO Pose 1.0."""
    write(folder, path="./", train="train.txt", val=...)
    text(folder / "train.txt", "images/train/a.png\n")
    return {"train": ["a.png"]}


def layout_of_another_machine(folder):
    write(folder, path="C:\\Users\\me\\cats", train="C:\\Users\\me\\cats\\images\\train")
    return {"train": ["train/a.png"], "val": ["val/b.png"]}


def layout_elsewhere(folder):
    """The yaml in one folder, the images in another, which `path` names."""
    write(folder / "datasets" / "cats", path="../datasets/cats")
    text(folder / "configs" / "cats.yaml", (folder / "datasets/cats/data.yaml").read_text())
    (folder / "datasets/cats/data.yaml").unlink()
    return {"train": ["train/a.png"], "val": ["val/b.png"]}


@pytest.mark.parametrize(
    "layout",
    [
        layout_beside,
        layout_roboflow,
        layout_lists,
        layout_cvat,
        layout_of_another_machine,
        layout_elsewhere,
    ],
)
def test_layouts(tmp_path, layout):
    expected = layout(tmp_path)
    imported = read(tmp_path)
    assert names_of(imported) == expected
    assert sum(len(part["annotations"]) for part in imported.splits.values()) == sum(
        map(len, expected.values())
    )
    expected_left_out = {layout_roboflow: 1, layout_lists: 1}.get(layout, 0)
    assert sum(imported.left_out.values()) == expected_left_out


def test_each_image_is_in_one_split(tmp_path):
    imported = read(write(tmp_path, val=["images/val", "images/train/a.png"], test="images/val"))
    assert names_of(imported) == {"train": ["train/a.png"], "val": ["val/b.png"]}
    assert sorted(imported.left_out.values()) == [1, 1]
    same = read(write(tmp_path, train="images", val="images"))
    assert names_of(same) == {"train": ["train/a.png", "val/b.png"]}


def test_what_is_missing_is_counted(tmp_path):
    write(tmp_path, {"a": f"{ROW}\n\n{ROW}\n", "b": None})
    text(tmp_path / "images/train/broken.jpg", "no image")
    image(tmp_path / "images/train/empty.png")
    text(tmp_path / "labels/train/empty.txt", "")
    text(tmp_path / "labels/train/gone.txt", ROW)
    text(tmp_path / "labels/train/classes.txt", "cat")
    imported = read(tmp_path)
    assert len(imported.splits["train"]["images"]) == 2
    assert len(imported.splits["train"]["annotations"]) == 1
    [(_, missing)] = imported.assumed.items()
    assert missing == 1  # b has no label file
    assert sorted(imported.left_out.values()) == [1, 1, 1]  # row, broken, gone


def test_rotated_photographs_are_upright(tmp_path):
    write(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    image(tmp_path / "images/train/a.jpg", (10, 20), exif=exif)  # 20 x 10 when upright
    (tmp_path / "images/train/a.png").unlink()
    imported = read(tmp_path)
    assert imported.splits["train"]["images"][0]["width"] == 20
    assert only(imported)["keypoints"][6:8] == [14.5, 7.5]


def test_names_of_keypoints(tmp_path):
    bones = COCO_PERSON.skeleton
    person = {"kpt_shape": [17, 3], "names": ["person"], "flip_idx": COCO_PERSON.flip_indices}
    row = "0 0.5 0.5 1 1" + 17 * " 0.5 0.5 2"
    write(tmp_path, {"a": row, "b": row}, **person, kpt_names=...)
    imported = read(tmp_path)
    schema, _ = read_labels({"categories": imported.categories}, "x")
    assert schema == COCO_PERSON
    assert imported.categories[0]["skeleton"][0] == [
        1 + COCO_PERSON.names.index(name) for name in bones[0]
    ]
    assert list(imported.assumed.values()) == [17]

    write(tmp_path, kpt_names=...)
    schema, _ = read_labels({"categories": read(tmp_path).categories}, "x")
    assert schema.flip_indices == [0, 2, 1]
    schema, _ = read_labels({"categories": read(tmp_path, keypoints=list("abc")).categories}, "x")
    assert schema.names == ("a", "b", "c") and schema.flip_pairs == (("b", "c"),)
    with pytest.raises(UserError, match="--keypoints"):
        read(tmp_path, keypoints=["a"])
    with pytest.raises(UserError, match="--ignore"):
        read(tmp_path, ignore=["a"])


def test_classes_may_have_fewer_keypoints(tmp_path):
    rows = {"a": ROW, "b": ROW.replace("0", "1", 1)}
    write(tmp_path, rows, names=["cat", "cart"], nc=2, kpt_names={0: NAMES, 1: ["axle", "wheel"]})
    imported = read(tmp_path)
    assert [c["keypoints"] for c in imported.categories] == [NAMES, ["axle", "wheel"]]
    assert imported.categories[1]["flip_pairs"] == []
    assert only(imported, "val")["keypoints"] == [4.5, 1.5, 2, 0, 0, 0]
    assert list(imported.left_out.values()) == [1]


@pytest.mark.parametrize(
    ("keys", "pairs", "assumed"),
    [
        ({"flip_idx": [0, 1, 2]}, [], 1),  # against left_ear and right_ear
        ({"flip_idx": [1, 0, 2]}, [["nose", "left_ear"]], 1),
        ({"flip_idx": ...}, [("left_ear", "right_ear")], 0),
        ({"flip_idx": ..., "kpt_names": ["a", "b", "c"]}, [], 3),
        ({"flip_idx": [0, 2, 1], "kpt_names": [["a", "r_ear", "l_ear"]]}, [["l_ear", "r_ear"]], 0),
    ],
)
def test_flip_idx_counts_and_not_the_names(tmp_path, keys, pairs, assumed):
    imported = read(write(tmp_path, **keys))
    schema, _ = read_labels({"categories": imported.categories}, "x")
    assert list(schema.flip_pairs) == [tuple(pair) for pair in pairs]
    assert sum(imported.assumed.values()) == assumed


def test_boxes_that_are_extents_of_keypoints_grow_or_are_counted(tmp_path):
    write(tmp_path, {"a": "0 0.5 0.5 0.5 0.6 0.25 0.2 2 0.5 0.5 1 0.75 0.8 1"})
    assert list(read(tmp_path).assumed.values()) == [1]
    grown = read(tmp_path, grow_boxes="3px")
    assert only(grown)["bbox"] == [2, 0, 16, 10]
    assert only(grown, "val")["bbox"] == pytest.approx([4, 1, 12, 8])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ROW + " 1 1", "kpt_shape"),
        ("0 0.5 0.5 0.5 0.6", "box"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2", "polygon"),
        ("0 0.5 0.5 0.5 0.6 0.25 0.2 0 0 0.75 0.8", r"\[3, 2\]"),
        (ROW.replace("0", "1", 1), "class 1"),
        (ROW.replace("0", "0.5", 1), "class 0.5"),
        (ROW.replace("0.25", "x"), "number"),
        (ROW.replace("0.25", "nan"), "number"),
        (ROW.replace("0.25", "5"), "fraction"),
        (ROW.replace("0.6", "-0.6"), "negative"),
        (ROW.replace("0.2 2", "0.2 0.9"), "0.9"),
    ],
)
def test_wrong_rows_are_named_with_file_and_line(tmp_path, row, reason):
    write(tmp_path, {"a": f"{ROW}\n{row}\n", "b": row})
    with pytest.raises(UserError) as error:
        read(tmp_path)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{tmp_path}/labels/train/a.txt: line 2: ")
    assert second.startswith(f"{tmp_path}/labels/val/b.txt: line 1: ")
    assert re.search(reason, first)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"kpt_shape": ...}, "kpt_shape"),
        ({"kpt_shape": [3]}, "kpt_shape"),
        ({"kpt_shape": [3, 4]}, "kpt_shape"),
        ({"kpt_shape": [10**12, 2]}, "kpt_shape"),
        ({"flip_idx": [1, 2, 0]}, "flip_idx"),
        ({"flip_idx": [0, 1]}, "flip_idx"),
        ({"names": ...}, "names"),
        ({"names": {1: "cat"}}, "names"),
        ({"names": ["cat", "cat"]}, "names"),
        ({"nc": 2}, "nc"),
        ({"kpt_names": {1: NAMES}}, "kpt_names"),
        ({"kpt_names": {0: [*NAMES, "tail"]}}, "kpt_names"),
        ({"kpt_names": {0: ["nose", "nose", "ear"]}}, "kpt_names"),
        ({"train": "images/gone"}, "train"),
        ({"train": "labels", "val": "labels"}, "no images"),
        ({"train": ..., "val": ...}, "no images"),
    ],
)
def test_a_wrong_yaml_is_named_with_the_key(tmp_path, keys, reason):
    write(tmp_path, **keys)
    with pytest.raises(UserError, match=rf"^{tmp_path}/data.yaml: [^\n]*{reason}[^\n]*$"):
        read(tmp_path)


def test_folders_without_one_yaml_or_without_labels_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.yaml"):
        read(tmp_path)
    write(tmp_path, {"a": None, "b": None})
    with pytest.raises(UserError, match=r"labels/train/a\.txt"):
        read(tmp_path)
    for name in ("x.yaml", "y.yaml"):
        text(tmp_path / name, (tmp_path / "data.yaml").read_text())
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(UserError, match=r"x\.yaml, y\.yaml"):
        read(tmp_path)


def test_malformed_files_are_refused_in_one_line(tmp_path):
    folder = write(tmp_path / "set", train="train.txt", path=".")
    text(folder / "train.txt", "images/train/a.png\n")
    malformed.check(folder, lambda: read(folder))


def test_labels_written_by_the_script_are_read_back(tmp_path, load_tool, synthetic_people):
    """COCO to YOLO and back: boxes and keypoints within 0.001 pixels."""
    load_tool("docs/scripts/yolo_labels.py").write_labels(synthetic_people, tmp_path / "yolo")
    imported = read(tmp_path / "yolo")
    for split, name in (("train", "train"), ("val", "test")):
        original = json.loads((synthetic_people / f"{name}.json").read_text())
        order = {image["id"]: n for n, image in enumerate(original["images"])}
        annotations = sorted(
            (a for a in original["annotations"] if not a["iscrowd"]),
            key=lambda a: order[a["image_id"]],
        )
        back = imported.splits[split]["annotations"]
        assert len(back) == len(annotations) > 0
        for new, old in zip(back, annotations, strict=True):
            np.testing.assert_allclose(new["bbox"], old["bbox"], atol=1e-3)
            labelled = np.reshape(old["keypoints"], (-1, 3))
            labelled[labelled[:, 2] == 0] = 0
            np.testing.assert_allclose(np.reshape(new["keypoints"], (-1, 3)), labelled, atol=1e-3)
    assert imported.categories[0]["keypoints"] == list(COCO_PERSON.names)


def test_a_class_may_have_no_keypoints(tmp_path):
    rows = {"a": ROW, "b": "1 0.5 0.5 0.5 0.5" + 9 * " 0"}
    write(tmp_path, rows, names=["cat", "car"], nc=2, kpt_names={0: NAMES, 1: []})
    imported = read(tmp_path)
    assert [c["keypoints"] for c in imported.categories] == [NAMES, []]
    assert only(imported, "val")["keypoints"] == [] and not imported.left_out
