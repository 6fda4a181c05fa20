"""CVAT's COCO Keypoints 1.0, in the shape in which Datumaro writes it."""

import json

import pytest
from PIL import Image

from hrnet_kpt.data.formats import cvat
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.errors import UserError

from . import malformed

HEADER = {
    "licenses": [{"name": "", "id": 0, "url": ""}],
    "info": dict.fromkeys(
        ("contributor", "date_created", "description", "url", "version", "year"), ""
    ),
}
CAT = {
    "id": 1,
    "name": "cat",
    "supercategory": "",
    "keypoints": ["nose", "l_ear", "r_ear"],
    "skeleton": [[1, 2], [1, 3]],
}
BOX = {"id": 2, "name": "box", "supercategory": "", "keypoints": [], "skeleton": []}
LEG = {"id": 6, "name": "leg", "supercategory": "", "keypoints": ["hip", "paw"], "skeleton": []}


def skeleton(keypoints, image=1, **keys):
    """A skeleton's annotation: the box is the extent of its keypoints that are not outside, to two decimals."""
    labelled = [keypoints[i : i + 2] for i in range(0, len(keypoints), 3) if keypoints[i + 2]]
    xs, ys = zip(*labelled, strict=True) if labelled else ([0], [0])
    box = [min(xs), min(ys), round(max(xs) - min(xs), 2), round(max(ys) - min(ys), 2)]
    return {
        "image_id": image,
        "category_id": 1,
        "segmentation": [],
        "area": box[2] * box[3],
        "bbox": box,
        "iscrowd": 0,
        "attributes": {"occluded": False, "keyframe": False},
        "keypoints": keypoints,
        "num_keypoints": len(labelled),
        **keys,
    }


CAT_OF_TWO = skeleton([8.5, 4, 2, 2.5, 3.25, 1, 19, 1, 0])


def write(folder, subsets=None, images="images", size=(20, 10), extension=".jpg"):
    """An export; subsets: annotations by the subset's name. Each subset has the images 0 and 1 of its own."""
    for number, (subset, annotations) in enumerate((subsets or {"default": [CAT_OF_TWO]}).items()):
        entries = []
        for index in range(2):
            name = f"frame_{number}0000{index}{extension}"
            path = folder / images.format(subset) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 10)).save(path, "PNG")
            entry = {"id": index + 1, "width": size[0], "height": size[1], "file_name": name}
            entries.append(
                {**entry, "license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
            )
        content = {**HEADER, "categories": [CAT, BOX, LEG], "images": entries}
        content["annotations"] = [{"id": i, **a} for i, a in enumerate(annotations, 1)]
        path = folder / "annotations" / f"person_keypoints_{subset}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def read(path, **options):
    return cvat.read(path, Options(**options))


def counts(counter, word):
    return sum(count for what, count in counter.items() if word in what)


@pytest.mark.parametrize("images", ["images", "images/{}"])
def test_keypoints_count_from_the_corner(tmp_path, images):
    write(tmp_path, images=images)
    file = tmp_path / "annotations" / "person_keypoints_default.json"
    for path in (tmp_path, file):
        assert cvat.recognize(path) == "annotations/person_keypoints_default.json"
        imported = read(path)
        assert list(imported.splits) == ["all"] and len(imported.splits["all"]["images"]) == 2
        assert imported.categories == [CAT]
        [annotation] = imported.splits["all"]["annotations"]
        assert annotation["keypoints"] == [8, 3.5, 2, 2, 2.75, 1, 0, 0, 0]
        assert annotation["bbox"] == [2.5, 3.25, 6, 0.75]  # the box does count from the corner
        assert annotation["num_keypoints"] == 2
        assert not {"area", "segmentation"} & set(annotation)
        assert counts(imported.assumed, "--grow-boxes") == 1
        assert counts(imported.assumed, "without a skeleton") == 1
        assert counts(imported.left_out, "label") == 2  # box and leg


def test_boxes_of_skeletons_grow(tmp_path):
    rectangle = {**CAT_OF_TWO, "image_id": 2, "category_id": 2, "bbox": [1, 2, 10, 6]}
    imported = read(write(tmp_path, {"default": [CAT_OF_TWO, rectangle]}), grow_boxes="0.5")
    grown, drawn = imported.splits["all"]["annotations"]
    assert grown["bbox"] == [0, 0.25, 11.5, 6.75]  # 3 px on every side, up to the border
    assert drawn["bbox"] == [1, 2, 10, 6]
    assert drawn["category_id"] == 1  # a rectangle that is grouped with the skeleton
    with pytest.raises(UserError, match="--grow-boxes"):
        read(tmp_path, grow_boxes="much")


def test_skeletons_of_one_point_have_no_box_until_it_grows_by_pixels(tmp_path):
    write(tmp_path, {"default": [skeleton([8, 4, 2, 0, 0, 0, 0, 0, 0])]})
    for margin, empty in (("", 1), ("0.5", 1), ("2px", 0)):
        imported = read(tmp_path, grow_boxes=margin)
        assert counts(imported.assumed, "without width") == empty
    assert imported.splits["all"]["annotations"][0]["bbox"] == [6, 2, 4, 4]


def test_subsets_are_splits(tmp_path):
    subsets = {"Train": [CAT_OF_TWO], "Validation": [CAT_OF_TWO], "Test": [skeleton([1, 2, 2] * 3)]}
    imported = read(write(tmp_path, subsets, "images/{}", extension=".PNG"))
    assert {s: [i["file_name"] for i in p["images"]] for s, p in imported.splits.items()} == {
        "train": ["frame_000000.PNG", "frame_000001.PNG"],
        "val": ["frame_100000.PNG", "frame_100001.PNG"],
        "test": ["frame_200000.PNG", "frame_200001.PNG"],
    }
    assert [len(part["annotations"]) for part in imported.splits.values()] == [1, 1, 1]


def test_subsets_that_are_no_splits_keep_their_frames_apart(tmp_path):
    write(tmp_path, {"monday": [CAT_OF_TWO], "friday": [CAT_OF_TWO]}, "images/{}")
    second = tmp_path / "annotations" / "person_keypoints_friday.json"
    second.write_text(second.read_text().replace("frame_1", "frame_0"))  # both have frame_000000
    for file in (tmp_path / "images" / "friday").iterdir():
        file.rename(file.with_name(file.name.replace("frame_1", "frame_0")))
    imported = read(tmp_path)
    assert sorted(imported.files) == [
        f"images/{day}/frame_00000{i}.jpg" for day in ("friday", "monday") for i in (0, 1)
    ]
    assert len(imported.splits["all"]["annotations"]) == 2


def test_what_is_outside_or_grouped_with_a_mask_is_counted(tmp_path):
    rle = {"counts": [100, 20, 80], "size": [10, 20]}
    masked = {**CAT_OF_TWO, "bbox": [2, 3, 9, 6], "iscrowd": 1, "segmentation": rle, "area": 20.0}
    outside = skeleton([8, 4, 0, 2, 3, 0, 1, 1, 0])
    tracked = {**CAT_OF_TWO, "attributes": {"occluded": False, "track_id": 3, "keyframe": True}}
    imported = read(write(tmp_path, {"default": [masked, outside, tracked]}, size=(0, 0)))
    first, second = imported.splits["all"]["annotations"]
    assert (first["iscrowd"], first["segmentation"], first["area"]) == (0, rle, 20.0)
    assert second["attributes"]["track_id"] == 3
    assert counts(imported.left_out, "outside") == 1
    assert counts(imported.assumed, "mask") == 1
    assert imported.splits["all"]["images"][0]["width"] == 20  # from the file


def change(folder, edit):
    path = folder / "annotations" / "person_keypoints_default.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_points_without_a_skeleton_are_refused(tmp_path):
    write(tmp_path, {"default": []})
    with pytest.raises(UserError, match="no skeleton is drawn"):
        read(tmp_path)
    labels = [{**BOX, "id": i, "name": name} for i, name in enumerate(("nose", "tail"), 1)]
    change(tmp_path, lambda content: content.update(categories=labels))
    with pytest.raises(UserError, match=r"nose, tail.*skeleton"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"keypoints": [1, 2]}, "keypoints"),
        ({"keypoints": [1, 2, 3] * 3}, "visibility"),
        ({"keypoints": ["1", 2, 2] * 3}, "keypoints"),
        ({"keypoints": [1, 2, 2]}, "1 keypoints"),
        ({"keypoints": [1, 2, 2] * 2}, "2 keypoints"),
        ({"bbox": [1, 2, 3]}, "bbox"),
        ({"bbox": [1, 2, 3, float("inf")]}, "bbox"),
    ],
)
def test_wrong_annotations_are_named(tmp_path, keys, reason):
    write(tmp_path)
    change(tmp_path, lambda content: content["annotations"][0].update(id=7, **keys))
    with pytest.raises(UserError, match=rf"^{tmp_path}: annotation 7[ :].*{reason}"):
        read(tmp_path)


def test_other_folders_are_not_recognized(tmp_path):
    assert cvat.recognize(tmp_path / "missing") == cvat.recognize(tmp_path) == ""
    with pytest.raises(UserError, match="COCO Keypoints"):
        read(tmp_path)
    write(tmp_path, {"train2017": [CAT_OF_TWO]})
    assert cvat.recognize(tmp_path)
    path = tmp_path / "annotations" / "person_keypoints_train2017.json"
    info = {"info": {"description": "COCO 2017 Dataset"}}  # COCO's own
    path.write_text(json.dumps({**info, **json.loads(path.read_text())}))
    assert cvat.recognize(tmp_path) == ""


def test_file_of_another_name_is_recognized_by_its_content(tmp_path):
    write(tmp_path)
    file = tmp_path / "annotations" / "person_keypoints_default.json"
    renamed = file.rename(tmp_path / "cats.json")
    assert cvat.recognize(tmp_path) == cvat.recognize(renamed) == "cats.json"
    assert len(read(tmp_path).splits["all"]["annotations"]) == 1
    text = renamed.read_text()
    for key in ("occluded", "num_keypoints", "licenses"):  # of another program that writes COCO
        renamed.write_text(text.replace(f'"{key}"', '"other"'))
        assert cvat.recognize(tmp_path) == ""


def test_malformed_files_are_refused_in_one_line(tmp_path):
    rectangle = {**CAT_OF_TWO, "category_id": 2, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    folder = write(tmp_path / "set", {"Train": [CAT_OF_TWO, rectangle], "Test": [CAT_OF_TWO]})
    malformed.check(folder, lambda: read(folder, grow_boxes="2px"))
