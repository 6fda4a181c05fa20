"""One small data set in the shape of each format: photographs with at most one cat each.

    samples.write("yolo", tmp_path / "set")

Positions are in pixels from the image's corner here, and what each program counts from in the files.
"""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

SIZE = (48, 40)
KEYPOINTS = ["nose", "left_ear", "right_ear"]
BONES = [("nose", "left_ear"), ("nose", "right_ear")]
# Positions of the keypoints by the photograph's name; the fourth has no left ear, and the last one no cat.
CATS = {
    f"img{i}": {"nose": (10 + i, 12.5), "left_ear": (20 + i, 10.25), "right_ear": (25 + i, 30)}
    for i in range(1, 6)
} | {"img6": {}}
del CATS["img4"]["left_ear"]
TRAIN, TEST = ["img1", "img2", "img3", "img6"], ["img4", "img5"]  # where a format has splits


def write(name, folder):
    """Write the data set in a format into a new folder."""
    folder.mkdir(parents=True)
    {
        "coco": coco,
        "roboflow": roboflow,
        "yolo": yolo,
        "cvat": cvat,
        "cvat-xml": cvat_xml,
        "label-studio": label_studio,
        "labelme": labelme,
        "deeplabcut": deeplabcut,
        "sleap": sleap,
    }[name](folder)


def photographs(folder, names=CATS, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        image = Image.new("RGB", SIZE, (90, 110, 90))
        for x, y in CATS[name].values():
            image.putpixel((int(x), int(y)), (250, 20, 20))
        image.save(folder / f"{name}{suffix}")


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def extent(name):
    """x, y, width and height of the box that the keypoints span."""
    low, high = np.min(list(CATS[name].values()), 0), np.max(list(CATS[name].values()), 0)
    return [*low.tolist(), *(high - low).tolist()]


def box(name):
    """x, y, width and height of the box that was drawn: the extent and two pixels."""
    x, y, width, height = extent(name)
    return [x - 2, y - 2, width + 4, height + 4]


def flat(name, shift=0.0):
    """x, y, v of all keypoints in one list."""
    points = [CATS[name].get(keypoint) for keypoint in KEYPOINTS]
    return [v for p in points for v in ((p[0] + shift, p[1] + shift, 2) if p else (0, 0, 0))]


def coco_json(names, suffix=".png", shift=-0.5, box=box, **keys):
    bones = [[KEYPOINTS.index(end) + 1 for end in bone] for bone in BONES]
    cat = {"id": 1, "name": "cat", "keypoints": KEYPOINTS, "skeleton": bones}
    images, annotations = [], []
    for id_, name in enumerate(names, 1):
        size = {"width": SIZE[0], "height": SIZE[1]}
        images.append({"id": id_, "file_name": f"{name}{suffix}", **size})
        if CATS[name]:
            entry = {"keypoints": flat(name, shift), "num_keypoints": len(CATS[name])}
            entry |= {"bbox": box(name), "area": 200.0, "iscrowd": 0, "segmentation": []}
            ids = {"id": len(annotations) + 1, "image_id": id_, "category_id": 1}
            annotations.append({**ids, **entry, **keys})
    return {"images": images, "categories": [cat], "annotations": annotations}


def coco(folder):
    for split, names in (("train2017", TRAIN), ("val2017", TEST)):
        photographs(folder / split, names)
        dump(folder / "annotations" / f"person_keypoints_{split}.json", coco_json(names))


def roboflow(folder):
    for split, names in (("train", TRAIN), ("valid", TEST)):
        suffix = "_png.rf.0123456789abcdef0123456789abcdef.png"
        photographs(folder / split, names, suffix)
        content = coco_json(names, suffix)
        animals = {"id": 0, "name": "animals", "supercategory": "none"}
        content["categories"] = [animals, {**content["categories"][0], "supercategory": "animals"}]
        info = {"info": {"contributor": ""}, "licenses": [{"id": 1, "url": "", "name": ""}]}
        dump(folder / split / "_annotations.coco.json", {**info, **content})


def yolo(folder):
    for split, names in (("train", TRAIN), ("val", TEST)):
        photographs(folder / "images" / split, names)
        for name in names:
            row = ""
            if CATS[name]:
                x, y, width, height = box(name)
                shares = np.array([x + width / 2, y + height / 2, width, height]) / (SIZE * 2)
                points = np.reshape(flat(name), (3, 3)) / (*SIZE, 1)
                row = " ".join(f"{value:.8g}" for value in (0, *shares, *points.ravel())) + "\n"
            path = folder / "labels" / split / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(row)
    header = {"path": "/datasets/cats", "train": "images/train", "val": "images/val"}
    header |= {"kpt_shape": [3, 3], "flip_idx": [0, 2, 1], "names": {0: "cat"}}
    (folder / "data.yaml").write_text(yaml.safe_dump({**header, "kpt_names": {0: KEYPOINTS}}))


def cvat(folder):
    photographs(folder / "images" / "default")
    header = {"licenses": [{"name": "", "id": 0, "url": ""}], "info": {"contributor": ""}}
    attributes = {"occluded": False, "keyframe": False}
    content = coco_json(CATS, shift=0.0, box=extent, attributes=attributes)
    dump(folder / "annotations" / "person_keypoints_default.json", {**header, **content})


def cvat_xml(folder):
    photographs(folder / "images")
    labels = "".join(
        f"<label><name>{name}</name><parent>cat</parent></label>" for name in KEYPOINTS
    )
    xml = f"<annotations><meta><task><labels><label><name>cat</name></label>{labels}</labels></task></meta>"
    for id_, (name, points) in enumerate(CATS.items()):
        xml += f'<image id="{id_}" name="{name}.png" width="{SIZE[0]}" height="{SIZE[1]}">'
        if points:
            x, y, width, height = box(name)
            corners = f'xtl="{x}" ytl="{y}" xbr="{x + width}" ybr="{y + height}"'
            xml += f'<box label="cat box" {corners} group_id="{id_ + 1}"/>'
            xml += f'<skeleton label="cat" group_id="{id_ + 1}">'
            for keypoint in KEYPOINTS:
                px, py = points.get(keypoint, (0, 0))
                outside = int(keypoint not in points)
                xml += f'<points label="{keypoint}" outside="{outside}" occluded="0" points="{px},{py}"/>'
            xml += "</skeleton>"
        xml += "</image>"
    (folder / "annotations.xml").write_text(xml + "</annotations>")


def label_studio(folder):
    photographs(folder / "images")
    percent = np.array([100, 100]) / SIZE
    tasks = []
    for id_, (name, points) in enumerate(CATS.items(), 1):
        size = {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0}
        result = []
        if points:
            x, y, width, height = (box(name) * np.tile(percent, 2)).tolist()
            value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
            value["rectanglelabels"] = ["cat"]
            result.append({"id": "box", "type": "rectanglelabels", "value": value, **size})
        for label, point in points.items():
            x, y = (point * percent).tolist()
            value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [label]}
            marked = {"id": label, "type": "keypointlabels", "value": value, "parentID": "box"}
            result.append({**marked, **size})
        annotation = {"id": id_, "completed_by": 1, "was_cancelled": False, "result": result}
        data = {"image": f"/data/upload/1/0a1b2c3d-{name}.png"}
        tasks.append({"id": id_, "annotations": [annotation], "data": data})
    dump(folder / "project-1.json", tasks)


def labelme(folder):
    photographs(folder)
    for name, points in CATS.items():
        shapes = []
        if points:
            x, y, width, height = box(name)
            shapes.append(("rectangle", "cat", [[x, y], [x + width, y + height]]))
        shapes += [("point", label, [list(point)]) for label, point in points.items()]
        size = {"imageWidth": SIZE[0], "imageHeight": SIZE[1]}
        content = {"version": "5.5.0", "flags": {}, "imagePath": f"{name}.png", "imageData": None}
        content["shapes"] = [
            {"label": label, "points": corners, "group_id": 1, "shape_type": kind, "flags": {}}
            for kind, label, corners in shapes
        ]
        dump(folder / f"{name}.json", {**content, **size})


def deeplabcut(folder):
    video = folder / "labeled-data" / "clip"
    photographs(video)
    config = {"Task": "cats", "scorer": "Ann", "multianimalproject": None, "bodyparts": KEYPOINTS}
    config["skeleton"] = [list(bone) for bone in BONES]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    names = [name for name in KEYPOINTS for _ in "xy"]
    rows = [["scorer", *["Ann"] * 6], ["bodyparts", *names], ["coords", *["x", "y"] * 3]]
    for name, points in CATS.items():
        values = [v - 0.5 for keypoint in KEYPOINTS for v in points.get(keypoint, (np.nan, np.nan))]
        cells = ["" if np.isnan(value) else value for value in values]
        rows.append([f"labeled-data/clip/{name}.png", *cells])
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    (video / "CollectedData_Ann.csv").write_text(text)


def sleap(folder):
    sio = pytest.importorskip("sleap_io")
    photographs(folder)
    video = sio.Video.from_filename([str(folder / f"{name}.png") for name in CATS])
    skeleton = sio.Skeleton([*KEYPOINTS], BONES, [("left_ear", "right_ear")], name="cat")
    frames = []
    for index, points in enumerate(CATS.values()):
        xy = [np.subtract(points.get(name, (np.nan, np.nan)), 0.5) for name in KEYPOINTS]
        instances = [sio.Instance.from_numpy(np.array(xy), skeleton=skeleton)] if points else []
        frames.append(sio.LabeledFrame(video, index, instances, is_negative=not points))
    path = folder / "labels.pkg.slp"
    sio.save_slp(sio.Labels(frames), str(path), embed=True, verbose=False)
    for name in CATS:
        (folder / f"{name}.png").unlink()
