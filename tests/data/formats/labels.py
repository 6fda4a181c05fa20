"""Labels as Label Studio and labelme write them, and what is read of them."""

import json

from hrnet_kpt.data.formats.imported import Options

NAMES = ["nose", "left_ear", "right_ear"]
SIZE = (200, 100)


def reader(module, path):
    def read(content, keypoints=NAMES, **options):
        path.write_text(json.dumps(content))
        return module.read(path, Options(keypoints=keypoints, **options))

    return read


def objects_of(imported):
    return imported.splits["all"]["annotations"]


def found(imported):
    """Box and labelled keypoints, from the image's corner, of each object."""
    objects = []
    for annotation in objects_of(imported):
        names = imported.categories[annotation["category_id"] - 1]["keypoints"]
        points = zip(names, *[iter(annotation["keypoints"])] * 3, strict=True)
        named = {n: (round(x + 0.5, 6), round(y + 0.5, 6)) for n, x, y, v in points if v}
        objects.append((tuple(round(v, 6) for v in annotation["bbox"]), named))
    return objects


def region(kind, id_, label, parent=None, **value):
    return {
        "id": id_,
        "type": kind,
        "original_width": SIZE[0],
        "original_height": SIZE[1],
        "image_rotation": 0,
        "value": {kind: [label], **value},
        **({"parentID": parent} if parent else {}),
    }


def rectangle(id_, x, y, width, height, label="cat", **more):
    """In pixels; Label Studio has percentages."""
    value = {"x": x / 2, "y": y, "width": width / 2, "height": height}
    return region("rectanglelabels", id_, label, **value, **more)


def keypoint(id_, label, x, y, parent=None):
    return region("keypointlabels", id_, label, parent, x=x / 2, y=y, width=0.3)


def task(*results, data=None, **more):
    annotation = {"id": 1, "was_cancelled": False, "result": list(results), **more}
    return {"id": 1, "data": data or {"image": "/data/upload/1/a.jpg"}, "annotations": [annotation]}


def shape(kind, label, points, group=None, **more):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, **more}


def file(*shapes, **more):
    size = {"imageWidth": SIZE[0], "imageHeight": SIZE[1]}
    return {"imagePath": "a.jpg", **size, "shapes": list(shapes), **more}


def as_task(boxes, points):
    """A task with boxes, and points with the id of their box or None."""
    marked = [keypoint(f"p{i}", name, x, y, g) for i, (name, x, y, g) in enumerate(points)]
    return [task(*(rectangle(f"b{i}", *box) for i, box in enumerate(boxes)), *marked)]


def as_file(boxes, points):
    return file(
        *(
            shape("rectangle", "cat", [[x + w, y], [x, y + h]], f"b{i}")
            for i, (x, y, w, h) in enumerate(boxes)
        ),
        *(shape("point", name, [[x, y]], group) for name, x, y, group in points),
    )


WRITERS = {"label_studio": as_task, "labelme": as_file}


ONE = [rectangle("b", 20, 10, 60, 40), keypoint("p", "nose", 50, 30, "b")]


CAT = [
    shape("rectangle", "cat", [[80, 50], [20, 10]], 1, flags={}),
    shape("point", "nose", [[50, 30]], 1, flags=None),
]


# Two boxes, and points in one of them, in both or in none.
MIXED = (
    [(0, 0, 60, 60), (40, 40, 60, 60)],
    [
        ("nose", 50, 50, None),
        ("nose", 10, 10, "b0"),
        ("left_ear", 70, 70, "b1"),
        ("nose", 150, 20, "z"),
        ("left_ear", 160, 30, "z"),
    ],
)
