"""Labels that are written for other programs: read back by this package, and by other means."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from hrnet_kpt.data.categories import read_labels, to_categories
from hrnet_kpt.data.formats.imported import Imported, Options
from hrnet_kpt.data.formats.label_writers import WRITERS, refuse_names, write_labels
from hrnet_kpt.data.formats.recognize import recognize, seen_formats
from hrnet_kpt.data.schema import COCO_PERSON, KeypointSchema
from hrnet_kpt.errors import UserError

PERSON, DOG = ["nose", "left_eye", "right_eye"], ["tail", "nose"]
CATEGORIES = [
    {
        "id": 1,
        "name": "person",
        "keypoints": PERSON,
        "skeleton": [[1, 2], [1, 3]],
        "flip_pairs": [["left_eye", "right_eye"]],
    },
    {"id": 2, "name": "car", "keypoints": [], "skeleton": []},
    {"id": 3, "name": "big dog", "keypoints": DOG, "skeleton": [[1, 2]], "flip_pairs": []},
]
SIZES = {
    "a b.jpg": (173, 91),
    "größe 2/ü [x] 50%.png": (64, 203),
    "x/images/a b.jpg": (31, 30),
    "empty.png": (40, 40),
}
NEWER = {"cvat": "cvat-xml"}


@pytest.fixture
def labels(tmp_path):
    """Random objects of three classes, with v of 0, 1 and 2, in COCO's coordinates, on images of several sizes."""
    random = np.random.default_rng(0)
    source = tmp_path / "photos"
    labels = Imported(source, [dict(category) for category in CATEGORIES])
    labels.splits["all"] = {"images": [], "annotations": []}
    for name, size in SIZES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (90, 110, 90)).save(source / name)
        image = labels.add_image("all", source / name, size)
        for category in CATEGORIES if name != "empty.png" else ():
            for _ in range(2):
                x, y = random.uniform(0, 0.4, 2) * size
                width, height = random.uniform(0.2, 0.6, 2) * size
                count = len(category["keypoints"])
                points = random.uniform(0, 1, (count, 3)) * (width, height, 0) + (x, y, 0)
                points[:, 2] = random.permutation([0, 1, 2])[:count]
                points[:, :2] -= 0.5
                box = x, y, x + width, y + height
                labels.add_object("all", image, category["id"], box, points)
    return labels


def objects(imported):
    """Class, box and labelled keypoints with v of each object, by the last two parts of the image's name, sorted."""
    categories = {c["id"]: c for c in imported.categories}
    found = {}
    for part in imported.splits.values():
        for image in part["images"]:
            name = "/".join(image["file_name"].split("/")[-2:]).removeprefix("images/")
            found[name if "x/" not in image["file_name"] else "x/images/a b.jpg"] = sorted(
                (
                    categories[a["category_id"]]["name"],
                    a["bbox"],
                    {
                        k: tuple(a["keypoints"][3 * i : 3 * i + 3])
                        for i, k in enumerate(categories[a["category_id"]]["keypoints"])
                        if a["keypoints"][3 * i + 2]
                    },
                )
                for a in part["annotations"]
                if a["image_id"] == image["id"]
            )
    return found


def read_back(folder):
    module, _ = recognize(folder)
    names = [] if module.NAME not in ("labelme", "label-studio") else ["tail", *PERSON]
    return module.read(folder, Options(keypoints=names))


@pytest.mark.parametrize("name", WRITERS)
def test_labels_are_read_back_as_they_were(name, labels, tmp_path):
    """Within 0.01 pixels, with the flag of every keypoint, and the keypoints of each class."""
    expected = objects(labels)
    write_labels(labels, tmp_path / "out", name)
    assert list(seen_formats(tmp_path / "out")) == [NEWER.get(name, name)]
    imported = read_back(tmp_path / "out")
    found = objects(imported)
    assert found.keys() == expected.keys() and sum(map(len, found.values())) == 18
    for image, ours in expected.items():
        for (class_, box, points), (other, its_box, its_points) in zip(
            ours, found[image], strict=True
        ):
            assert class_ == other
            assert its_box == pytest.approx(box, abs=0.01)
            assert its_points.keys() == points.keys()
            for keypoint, (x, y, v) in points.items():
                assert its_points[keypoint] == (
                    pytest.approx(x, abs=0.01),
                    pytest.approx(y, abs=0.01),
                    v,
                )
    names = {c["name"]: set(c["keypoints"]) for c in imported.categories}
    assert names == {"person": set(PERSON), "car": set(), "big dog": set(DOG)}
    assert not imported.left_out


@pytest.mark.parametrize("name", ["cvat", "label-studio", "labelme", "coco"])
def test_boxes_of_a_model_without_keypoints_are_read_back(name, labels, tmp_path):
    """YOLO's labels of boxes alone have another layout, which is not that of YOLO-pose."""
    labels.categories = [labels.categories[1]]
    part = labels.splits["all"]
    part["annotations"] = [a for a in part["annotations"] if a["category_id"] == 2]
    expected = objects(labels)
    write_labels(labels, tmp_path / "out", name)
    module, _ = recognize(tmp_path / "out")
    found = objects(module.read(tmp_path / "out", Options()))
    assert found.keys() == expected.keys() and sum(map(len, found.values())) == 6
    for image, ours in expected.items():
        for (_, box, _), (class_, its_box, points) in zip(ours, found[image], strict=True):
            assert class_ == "car" and its_box == pytest.approx(box, abs=0.01) and not points


@pytest.mark.parametrize("name", ["cvat", "coco"])
def test_skeletons_and_the_order_of_keypoints_are_kept(name, labels, tmp_path):
    write_labels(labels, tmp_path / "out", name)
    categories = read_back(tmp_path / "out").categories
    for category in CATEGORIES:
        (own,) = (c for c in categories if c["name"] == category["name"])
        assert own["keypoints"] == category["keypoints"]
        assert sorted(map(sorted, own["skeleton"])) == sorted(map(sorted, category["skeleton"]))


@pytest.mark.parametrize("name", WRITERS)
def test_images_are_links(name, labels, tmp_path):
    write_labels(labels, tmp_path / "out", name)
    for image in SIZES:
        link = tmp_path / "out" / "images" / image
        assert link.is_symlink() and link.resolve() == tmp_path / "photos" / image


def corner_points(annotation):
    return [
        (x + 0.5, y + 0.5, v) for x, y, v in np.reshape(annotation["keypoints"], (-1, 3)).tolist()
    ]


def test_cvat_gets_skeletons_grouped_with_rectangles(labels, tmp_path):
    """The elements and attributes that CVAT reads, in pixels from the image's corner."""
    write_labels(labels, tmp_path / "out", "cvat")
    root = ElementTree.parse(tmp_path / "out" / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    images = root.findall("image")
    assert {i.get("name"): (int(i.get("width")), int(i.get("height"))) for i in images} == SIZES
    assert [int(i.get("id")) for i in images] == [0, 1, 2, 3]
    skeletons = [(i, s) for i in images for s in i.iter("skeleton")]
    groups = [s.get("group_id") for _, s in skeletons]
    assert len(set(groups)) == len(groups) == 12 and "0" not in groups
    own = [a for a in labels.splits["all"]["annotations"] if len(a["keypoints"])]
    for annotation, (image, skeleton) in zip(own, skeletons, strict=True):
        group = f"box[@group_id='{skeleton.get('group_id')}']"
        (rectangle,) = image.findall(group)
        x, y, width, height = annotation["bbox"]
        corners = [float(rectangle.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]
        assert corners == pytest.approx([x, y, x + width, y + height], abs=1e-3)
        assert rectangle.get("label") == skeleton.get("label") + " box"
        points = skeleton.findall("points")
        assert [p.get("label") for p in points] in (PERSON, DOG)
        for (px, py, v), point in zip(corner_points(annotation), points, strict=True):
            place = [float(value) for value in point.get("points").split(",")]
            assert place == pytest.approx([px, py], abs=1e-3), "of v = 0, too"
            flags = point.get("outside"), point.get("occluded")
            assert flags == {0: ("1", "0"), 1: ("0", "1"), 2: ("0", "0")}[v]
    assert len([b for i in images for b in i.findall("box") if b.get("label") == "car"]) == 6


def test_labels_of_the_cvat_task(labels, tmp_path):
    """What CVAT's label constructor takes: templates whose nodes are the points, and edges that join nodes."""
    write_labels(labels, tmp_path / "out", "cvat")
    task = json.loads((tmp_path / "out" / "labels.json").read_text())
    kinds = [(label["name"], label["type"]) for label in task]
    assert kinds == [
        ("person", "skeleton"),
        ("person box", "rectangle"),
        ("car", "rectangle"),
        ("big dog", "skeleton"),
        ("big dog box", "rectangle"),
    ]
    assert all(label["attributes"] == [] for label in task)
    dog = task[3]
    assert [(s["name"], s["type"]) for s in dog["sublabels"]] == [(n, "points") for n in DOG]
    svg = ElementTree.fromstring(f"<svg>{dog['svg']}</svg>")
    nodes = {c.get("data-node-id"): c.get("data-label-name") for c in svg.iter("circle")}
    assert nodes == {"1": "tail", "2": "nose"}
    places = [float(c.get(key)) for c in svg.iter("circle") for key in ("cx", "cy")]
    assert all(0 < place < 100 for place in places)
    edges = [(e.get("data-node-from"), e.get("data-node-to")) for e in svg.iter("line")]
    assert edges == [("1", "2")]


def test_label_studio_gets_predictions_in_percent(labels, tmp_path):
    write_labels(labels, tmp_path / "out", "label-studio")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    interface = ElementTree.parse(tmp_path / "out" / "label_config.xml").getroot()
    controls = {control.get("name"): control for control in interface}
    assert controls["image"].get("value") == "$image"
    assert [task["data"]["image"].partition("?d=")[2] for task in tasks][:2] == [
        "images/a%20b.jpg",
        "images/gr%C3%B6%C3%9Fe%202/%C3%BC%20%5Bx%5D%2050%25.png",
    ]
    for task, size in zip(tasks, SIZES.values(), strict=True):
        assert "annotations" not in task
        ((prediction,), own) = task["predictions"], labels.splits["all"]["annotations"]
        own = [a for a in own if a["image_id"] == task["id"]]
        regions = prediction["result"]
        boxes = [r["value"] for r in regions if r["type"] == "rectanglelabels"]
        found = [[box[key] for key in ("x", "y", "width", "height")] for box in boxes]
        percent = [100 / size[0], 100 / size[1]] * 2
        assert found == [pytest.approx(np.multiply(a["bbox"], percent), abs=1e-3) for a in own]
        points = [r for r in regions if r["type"] == "keypointlabels"]
        expected = [p for a in own for p in corner_points(a) if p[2]]
        for region, (x, y, _) in zip(points, expected, strict=True):
            place = region["value"]["x"], region["value"]["y"]
            assert place == pytest.approx((x * percent[0], y * percent[1]), abs=1e-3)
        hidden = {r["id"] for r in regions if r["type"] == "choices"}
        assert hidden == {r["id"] for r, p in zip(points, expected, strict=True) if p[2] == 1}
        for region in regions:
            control = controls[region["from_name"]]
            assert region["to_name"] == control.get("toName") == "image"
            assert control.tag.lower() == region["type"]
            assert (region["original_width"], region["original_height"]) == size
            values = {value.get("value") for value in control}
            assert set(region["value"][region["type"]]) <= values


def test_pycocotools_reads_the_coco_json(labels, tmp_path):
    write_labels(labels, tmp_path / "out", "coco")
    coco = COCO(tmp_path / "out" / "annotations.json")
    assert {i["file_name"]: (i["width"], i["height"]) for i in coco.imgs.values()} == SIZES
    assert len(coco.getAnnIds(catIds=[1])) == len(coco.getAnnIds(catIds=[2])) == 6
    for annotation in coco.anns.values():
        points = np.reshape(annotation["keypoints"], (-1, 3))
        assert annotation["num_keypoints"] == (points[:, 2] > 0).sum()
        assert not points[points[:, 2] == 0].any()
        assert 0 < annotation["area"] <= np.prod(annotation["bbox"][2:])
    assert coco.loadCats(1)[0]["skeleton"] == [[1, 2], [1, 3]]


def test_rows_and_yaml_of_yolo(labels, tmp_path):
    """Classes with fewer keypoints have rows of the same length; flip_idx is left out where it fits one class only."""
    write_labels(labels, tmp_path / "out", "yolo")
    header = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert header["names"] == {0: "person", 1: "car", 2: "big dog"}
    assert header["kpt_shape"] == [3, 3] and header["kpt_names"] == {0: PERSON, 1: [], 2: DOG}
    assert "flip_idx" not in header
    assert (tmp_path / "out" / "labels" / "empty.txt").read_text() == ""
    rows = (tmp_path / "out" / "labels" / "a b.txt").read_text().splitlines()
    own = [a for a in labels.splits["all"]["annotations"] if a["image_id"] == 1]
    for row, annotation in zip(rows, own, strict=True):
        kind, *values = map(float, row.split())
        assert kind == annotation["category_id"] - 1 and len(values) == 4 + 9
        x, y, width, height = annotation["bbox"]
        sides = [173, 91] * 2
        center = [x + width / 2, y + height / 2, width, height]
        assert np.multiply(values[:4], sides) == pytest.approx(center, abs=1e-4)
        for place, (px, py, v) in enumerate(corner_points(annotation)):
            expected = (px / 173, py / 91, v) if v else (0, 0, 0)
            assert values[4 + 3 * place : 7 + 3 * place] == pytest.approx(expected, abs=1e-6)
    labels.categories = labels.categories[:2]
    labels.splits["all"]["annotations"] = []
    write_labels(labels, tmp_path / "person", "yolo")
    header = yaml.safe_load((tmp_path / "person" / "data.yaml").read_text())
    assert header["flip_idx"] == [0, 2, 1]
    labels.categories = [labels.categories[1]]
    write_labels(labels, tmp_path / "boxes", "yolo")
    assert "kpt_shape" not in yaml.safe_load((tmp_path / "boxes" / "data.yaml").read_text())


def test_labelme_files_are_beside_their_images(labels, tmp_path):
    write_labels(labels, tmp_path / "out", "labelme")
    files = sorted((tmp_path / "out").rglob("*.json"))
    assert len(files) == len(SIZES)
    own = iter(labels.splits["all"]["annotations"])
    for name, size in SIZES.items():
        content = json.loads((tmp_path / "out/images" / name).with_suffix(".json").read_text())
        assert content["imagePath"] == name.split("/")[-1] and content["imageData"] is None
        assert (content["imageWidth"], content["imageHeight"]) == size
        groups = {}
        for shape in content["shapes"]:
            groups.setdefault(shape["group_id"], []).append(shape)
        for (rectangle, *points), annotation in zip(groups.values(), own, strict=False):
            assert rectangle["shape_type"] == "rectangle"
            x, y, width, height = annotation["bbox"]
            corners = [[x, y], [x + width, y + height]]
            assert np.allclose(rectangle["points"], corners, atol=1e-3)
            expected = [p for p in corner_points(annotation) if p[2]]
            for shape, (px, py, v) in zip(points, expected, strict=True):
                assert shape["points"] == [pytest.approx([px, py], abs=1e-3)]
                assert shape["flags"] == {"hidden": v == 1}


def test_names_that_do_not_fit_are_refused():
    for name, same in (("yolo", ["a.jpg", "a.png"]), ("labelme", ["x/a.b.jpg", "x/a.b.png"])):
        refuse_names([*same[:1], "b/a.png"], name)
        with pytest.raises(UserError, match=r"\.jpg and .*\.png"):
            refuse_names(same, name)
        refuse_names(same, "cvat")
    with pytest.raises(UserError, match="UTF-8"):
        refuse_names(["\udcff.jpg"], "coco")


def test_categories_of_a_schema_are_read_back():
    schema = KeypointSchema(
        ["cat/nose", "cat/l_ear", "cat/r_ear", "dog/nose"],
        [("cat/l_ear", "cat/r_ear")],
        [("cat/nose", "cat/l_ear")],
        [0.1, 0.2, 0.2, 0.3],
        ["cat/nose", "cat/l_ear"],
    )
    classes = {"cat": list(schema.names[:3]), "dog": ["dog/nose"], "car": []}
    content = {"categories": to_categories(schema, classes)}
    assert content["categories"][0]["keypoints"] == ["nose", "l_ear", "r_ear"]
    assert read_labels(content, "x", share_keypoints=False) == (schema, classes)
    person = {"person": list(COCO_PERSON.names)}
    content = {"categories": to_categories(COCO_PERSON, person)}
    assert read_labels(content, "x") == (COCO_PERSON, person)
