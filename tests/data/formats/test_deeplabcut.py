"""DeepLabCut projects: tables in all their shapes, and config.yaml."""

import pickle
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.data.formats import deeplabcut
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.errors import UserError

from . import malformed

CONFIG = """\
# Project definitions (do not edit)
Task: reaching
scorer: Ann
date: Oct30
multianimalproject:
identity:

project_path: C:\\Users\\Ann\\reaching
video_sets:
  WILL BE AUTOMATICALLY UPDATED BY DEMO CODE:
    crop: 0, 640, 0, 480
bodyparts:
- nose
- ear
- tail
skeleton:
- - nose
  - ear
  - tail
- - bodypart1
  - bodypart2
skeleton_color: black
"""
TABLE = """\
scorer,Ann,Ann,Ann,Ann,Ann,Ann
bodyparts,nose,nose,ear,ear,tail,tail
coords,x,y,x,y,x,y
labeled-data/clip/img1.png,10.0,20.0,,,30.0,24.004
labeled-data/clip/img2.png,,,,,,
"""
NOSE_AND_TAIL = [10, 20, 2, 0, 0, 0, 30, 24, 2]
MULTI = """\
scorer: Ann
multianimalproject: true
individuals:
- a
- b
uniquebodyparts:
- door
multianimalbodyparts:
- nose
- tail
bodyparts: MULTI!
skeleton: []
"""
MULTI_TABLE = """\
scorer,,,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann
individuals,,,a,a,a,a,b,b,b,b,single,single
bodyparts,,,nose,nose,tail,tail,nose,nose,tail,tail,door,door
coords,,,x,y,x,y,x,y,x,y,x,y
labeled-data,clip,img1.png,1,2,11,2,20,30,20,40,5,6
labeled-data,clip,img2.png,,,,,20,31,,,,
"""


def write_project(root, config=CONFIG, tables=None, images=2):
    """A project with one video, `clip`; images of 64 x 48 pixels."""
    folder = root / "labeled-data" / "clip"
    folder.mkdir(parents=True)
    (root / "config.yaml").write_text(config)
    for name, text in ({"Ann.csv": TABLE} if tables is None else tables).items():
        (folder / f"CollectedData_{name}").write_text(text)
    for number in range(1, images + 1):
        Image.new("L", (64, 48)).save(folder / f"img{number}.png")
    return root


def read(root, **options):
    return deeplabcut.read(root, Options(**options))


def keypoints(imported):
    return [annotation["keypoints"] for annotation in imported.splits["all"]["annotations"]]


def test_single_animal(tmp_path):
    imported = read(write_project(tmp_path, images=3) / "config.yaml")
    (category,) = imported.categories
    assert category["keypoints"] == ["nose", "ear", "tail"]
    assert category["skeleton"] == [[1, 2], [2, 3]]  # a chain of three; the placeholder is left out
    part = imported.splits["all"]
    assert [image["file_name"] for image in part["images"]] == [
        "labeled-data/clip/img1.png",
        "labeled-data/clip/img2.png",  # the row is empty: no animal
    ]
    assert (part["images"][0]["width"], part["images"][0]["height"]) == (64, 48)
    (annotation,) = part["annotations"]
    assert annotation["image_id"] == part["images"][0]["id"]
    assert annotation["keypoints"] == NOSE_AND_TAIL
    # The extent is 20 x 4, so 4 pixels are added on every side.
    assert annotation["bbox"] == [6, 16, 28, 12]
    assert sorted(imported.left_out.values()) == [1, 1]  # img3 has no row; the placeholder
    assert [*imported.assumed.values()] == [1]  # one box


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("labeled-data/clip/", "labeled-data\\clip\\"),
        ("labeled-data/clip/", "labeled-data/old name of the folder/"),
        ("labeled-data/clip/", "C:\\Users\\Ann\\reaching\\labeled-data\\clip\\"),
        ("scorer,", "\ufeffscorer,"),
        ("\n", "\r\n"),
        (
            "labeled-data/clip/img2.png,,,,,,\n",
            "labeled-data/clip/img2.png,nan,NaN,,, ,\n\n,,,,,,\n",
        ),
    ],
)
def test_rows_as_other_machines_write_them(tmp_path, old, new):
    imported = read(write_project(tmp_path, tables={"Ann.csv": TABLE.replace(old, new)}))
    assert keypoints(imported) == [NOSE_AND_TAIL]
    assert len(imported.splits["all"]["images"]) == 2


def test_paths_in_three_columns(tmp_path):
    lines = [line.split(",", 1) for line in TABLE.splitlines()]
    text = "".join(
        f"{first.replace('/', ',') if '/' in first else first + ',,'},{rest}\n"
        for first, rest in lines
    )
    assert "\nlabeled-data,clip,img1.png,10.0," in text
    imported = read(write_project(tmp_path, tables={"Ann.csv": text}))
    assert keypoints(imported) == [NOSE_AND_TAIL]


def test_several_animals_and_unique_bodyparts(tmp_path):
    imported = read(write_project(tmp_path, MULTI, {"Ann.csv": MULTI_TABLE}), grow_boxes="3px")
    animal, unique = imported.categories
    assert (animal["keypoints"], unique["keypoints"]) == (["nose", "tail"], ["door"])
    part = imported.splits["all"]
    found = [
        (a["image_id"], a["category_id"], a["keypoints"], a["bbox"]) for a in part["annotations"]
    ]
    assert found == [
        (1, animal["id"], [1, 2, 2, 11, 2, 2], [0, 0, 14, 5]),  # clipped at the corner
        (1, animal["id"], [20, 30, 2, 20, 40, 2], [17, 27, 6, 16]),
        (1, unique["id"], [5, 6, 2], [2, 3, 6, 6]),
        (2, animal["id"], [20, 31, 2, 0, 0, 0], [17, 28, 6, 6]),
    ]


def test_single_points_get_a_square_of_the_usual_size(tmp_path):
    imported = read(write_project(tmp_path, MULTI, {"Ann.csv": MULTI_TABLE}))
    # Both animals of img1 have a larger side of 10 pixels.
    boxes = [annotation["bbox"] for annotation in imported.splits["all"]["annotations"]]
    assert boxes[1] == [18, 28, 4, 14]
    assert boxes[2:] == [[0, 1, 10, 10], [15, 26, 10, 10]]
    assert sorted(imported.assumed.values()) == [1, 2, 2]  # the door is an object of its own


def test_boxes_of_single_points_alone_need_a_size(tmp_path):
    config = "scorer: Ann\nbodyparts: [nose]\n"
    table = "scorer,Ann,Ann\nbodyparts,nose,nose\ncoords,x,y\nimg1.png,30,20\nimg2.png,90,20\n"
    write_project(tmp_path, config, {"Ann.csv": table})
    with pytest.raises(UserError, match="--grow-boxes 40px"):
        read(tmp_path)
    imported = read(tmp_path, grow_boxes="5px")
    assert [a["bbox"] for a in imported.splits["all"]["annotations"]] == [[25, 15, 10, 10]]
    assert [*imported.left_out.values()] == [1]  # x = 90 is outside of the image


def test_scorer_of_the_config_comes_first(tmp_path):
    others = (
        TABLE.replace("Ann", "Ada").replace("10.0", "11.0").replace("img2.png,,", "img2.png,5,6")
    )
    tables = {"Ann.csv": TABLE.replace("img2", "img9"), "Ada.csv": others}
    imported = read(write_project(tmp_path, tables=tables))
    # img1 as Ann labelled it, img2 as Ada did; img9 does not exist.
    assert keypoints(imported) == [NOSE_AND_TAIL, [5, 6, 2, 0, 0, 0, 0, 0, 0]]
    reasons = {reason.split(",")[0]: count for reason, count in imported.left_out.items()}
    assert reasons["labelled images that are not there"] == 1
    assert reasons["second labels of an image"] == 1


def test_what_is_left_out_is_counted(tmp_path):
    table = TABLE.replace("ear", "whisker").replace("10.0,20.0,,", "10.0,,3,4")
    imported = read(write_project(tmp_path, tables={"Ann.csv": table}, images=1), grow_boxes="1px")
    assert keypoints(imported) == [[0, 0, 0, 0, 0, 0, 30, 24, 2]]
    counts = [count for reason, count in imported.left_out.items() if "whisker" in reason]
    assert counts == [1]
    assert imported.left_out["points with one coordinate"] == 1


def test_chosen_keypoints(tmp_path):
    write_project(tmp_path)
    imported = read(tmp_path, keypoints=("tail", "nose"))
    assert imported.categories[0]["keypoints"] == ["tail", "nose"]
    assert imported.categories[0]["skeleton"] == []
    assert keypoints(imported) == [[30, 24, 2, 10, 20, 2]]
    imported = read(tmp_path, ignore=("ear",), grow_boxes="1px")
    assert imported.categories[0]["keypoints"] == ["nose", "tail"]
    for options in (
        {"keypoints": ("paw",)},
        {"ignore": ("paw",)},
        {"ignore": ("nose", "ear", "tail")},
    ):
        with pytest.raises(UserError):
            read(tmp_path, **options)


def test_names_that_yaml_takes_for_other_things(tmp_path):
    config = "scorer: 1\nbodyparts: [on, 1, 1.0, no]\n"
    parts = ",".join(part for part in ("on", "1", "1.0", "no") for _ in "xy")
    table = f"scorer{',1' * 8}\nbodyparts,{parts}\ncoords{',x,y' * 4}\na/img1.png,1,2,3,4,5,6,7,8\n"
    imported = read(write_project(tmp_path, config, {"1.csv": table}))
    assert imported.categories[0]["keypoints"] == ["on", "1", "1.0", "no"]
    assert keypoints(imported) == [[1, 2, 2, 3, 4, 2, 5, 6, 2, 7, 8, 2]]


def test_recognize(tmp_path):
    write_project(tmp_path / "project")
    write_project(tmp_path / "multi", MULTI)
    for folder in ("project", "multi"):
        assert deeplabcut.recognize(tmp_path / folder)
        assert deeplabcut.recognize(tmp_path / folder / "config.yaml")
    (tmp_path / "config.yaml").write_text("names: [a]\nkpt_shape: [1, 2]\n")
    labels = tmp_path / "project" / "labeled-data"
    for path in (
        tmp_path,
        tmp_path / "config.yaml",
        labels,
        labels / "clip" / "img1.png",
        tmp_path / "none",
    ):
        assert deeplabcut.recognize(path) == ""


# ---------------------------------------------------------------------------------- h5 files


def write_h5(path, table, layout):
    """The csv's table as pandas' to_hdf writes it, with PyTables: compared with pandas 2.3.3 and tables 3.11.1."""
    h5py = pytest.importorskip("h5py")
    lines = [line.split(",") for line in table.splitlines()]
    levels = 4 if lines[1][0] == "individuals" else 3
    start = len(lines[0]) - sum(bool(cell) for cell in lines[0][1:])
    columns = list(zip(*(line[start:] for line in lines[:levels]), strict=True))
    index = [tuple(line[:start]) for line in lines[levels:]]
    values = np.array([[float(x or "nan") for x in line[start:]] for line in lines[levels:]])
    with h5py.File(path, "w") as file:
        frame = file.create_group("df_with_missing")
        if layout == "table":
            names = pickle.dumps(columns, protocol=0)
            dtype = [("index", "S30"), ("values_block_0", "<f8", (len(columns),))]
            rows = [("/".join(name).encode(), row) for name, row in zip(index, values, strict=True)]
            stored = frame.create_dataset("table", data=np.array(rows, dtype=dtype))
            stored.attrs["values_block_0_kind"] = np.bytes_(names)
            frame.attrs["pandas_type"] = np.bytes_(b"frame_table")
            return
        frame.attrs["pandas_type"] = np.bytes_(b"frame")
        frame.attrs["nblocks"] = 1
        for key, names in (("axis0", columns), ("axis1", index), ("block0_items", columns)):
            if len(names[0]) == 1:
                frame.attrs[f"{key}_variety"] = np.bytes_(b"regular")
                frame[key] = np.array([name[0].encode() for name in names])
                continue
            frame.attrs[f"{key}_variety"] = np.bytes_(b"multi")
            frame.attrs[f"{key}_nlevels"] = len(names[0])
            for level, parts in enumerate(zip(*names, strict=True)):
                unique = sorted(set(parts))
                frame[f"{key}_level{level}"] = np.array([part.encode() for part in unique])
                frame[f"{key}_label{level}"] = np.array(list(map(unique.index, parts)), np.int8)
        frame["block0_values"] = values
        frame["block0_values"].attrs["transposed"] = np.uint8(1)


@pytest.mark.parametrize(
    ("layout", "config", "table"),
    [("fixed", CONFIG, TABLE), ("table", CONFIG, TABLE), ("fixed", MULTI, MULTI_TABLE)],
)
def test_h5_alone_gives_the_same_as_csv(tmp_path, layout, config, table):
    expected = read(write_project(tmp_path / "csv", config, {"Ann.csv": table}))
    root = write_project(tmp_path / "h5", config, {})
    write_h5(root / "labeled-data" / "clip" / "CollectedData_Ann.h5", table, layout)
    imported = read(root)
    assert imported.splits == expected.splits
    assert imported.categories == expected.categories


def test_h5_runs_no_code(tmp_path):
    h5py = pytest.importorskip("h5py")

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    file = write_project(tmp_path, tables={}) / "labeled-data" / "clip" / "CollectedData_Ann.h5"
    write_h5(file, TABLE, "table")
    with h5py.File(file, "a") as content:
        attributes = content["df_with_missing/table"].attrs
        attributes["values_block_0_kind"] = np.bytes_(pickle.dumps([Harm()], protocol=0))
    with pytest.raises(UserError, match=r"CollectedData_Ann\.h5"):
        read(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_h5_without_h5py_names_the_remedy(tmp_path, monkeypatch):
    root = write_project(tmp_path, tables={"Ann.h5": ""})
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r'pip install "hrnet_kpt\[formats\]"'):
        read(root)


# -------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("10.0", "ten", ["CollectedData_Ann.csv", "line 4", "ten"]),
        ("10.0", "inf", ["CollectedData_Ann.csv", "line 4"]),
        ("10.0,", "", ["CollectedData_Ann.csv", "line 4"]),
        ("coords,x,y,", "coords,y,y,", ["CollectedData_Ann.csv", "nose"]),
        ("coords,x,y,", "coords,x,z,", ["CollectedData_Ann.csv", "coords"]),
        ("nose,nose", "ear,ear", ["CollectedData_Ann.csv", "ear"]),
        ("nose,nose,ear,ear,tail,tail", "a,a,b,b,c,c", ["CollectedData_Ann.csv", "config.yaml", "nose"]),
        ("labeled-data/clip/img1.png", "", ["CollectedData_Ann.csv", "line 4"]),
        ("- ear\n", "- nose\n", ["config.yaml", "bodyparts", "nose"]),
        ("bodyparts:\n", "bodyparts: [\n", ["config.yaml", "line"]),
        ("bodyparts:\n- nose\n- ear\n- tail\n", "bodyparts: nose\n", ["config.yaml", "bodyparts", "nose"]),
        ("- - nose\n", "- nose\n", ["config.yaml"]),
        ("bodyparts:\n- nose\n- ear\n- tail\n", "", ["config.yaml", "bodyparts"]),
    ],
)  # fmt: skip
def test_error_names_file_and_place(tmp_path, old, new, words):
    assert old in TABLE + CONFIG
    config = CONFIG.replace(old, new, 1) if old in CONFIG else CONFIG
    write_project(tmp_path, config, {"Ann.csv": TABLE.replace(old, new, 1)})
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    (line,) = str(caught.value).splitlines()
    assert all(word in line for word in words), line


def test_project_without_labels_or_images(tmp_path):
    root = write_project(tmp_path, tables={})
    with pytest.raises(
        UserError, match=r"labeled-data.*2"
    ):  # the images without labels are counted
        read(root)
    shutil.rmtree(root / "labeled-data")
    with pytest.raises(UserError, match="labeled-data"):
        read(root)
    (root / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config\.yaml"):
        read(root)


@pytest.mark.parametrize(("config", "table"), [(CONFIG, TABLE), (MULTI, MULTI_TABLE)])
def test_malformed_text_is_refused_in_one_line(tmp_path, config, table):
    write_project(tmp_path, config, {"Ann.csv": table})
    malformed.check(tmp_path, lambda: read(tmp_path))


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_malformed_h5_is_refused_in_one_line(tmp_path, layout):
    write_project(tmp_path, tables={})
    write_h5(tmp_path / "labeled-data" / "clip" / "CollectedData_Ann.h5", TABLE, layout)
    malformed.check(tmp_path, lambda: read(tmp_path), suffixes={".h5"})
