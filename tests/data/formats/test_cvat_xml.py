"""CVAT for images 1.1, in the shape in which CVAT's server writes it."""

import pytest
from PIL import Image

from hrnet_kpt.data.formats import cvat_xml
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.errors import UserError

from . import malformed

SVG = (
    '&lt;line x1="1" y1="2" x2="3" y2="4" data-type="edge" data-node-from="2" data-node-to="7"&gt;&lt;/line&gt;'
    '&lt;circle r="1.5" cx="1" cy="2" data-type="element node" data-element-id="2" data-node-id="2" '
    'data-label-name="nose"&gt;&lt;/circle&gt;'
    '&lt;circle r="1.5" cx="3" cy="4" data-type="element node" data-element-id="7" data-node-id="7" '
    'data-label-name="tail"&gt;&lt;/circle&gt;'
)
META = f"""
  <version>1.1</version>
  <meta>
    <task>
      <id>3</id>
      <mode>annotation</mode>
      <labels>
        <label><name>box</name><color>#aa00bb</color><type>rectangle</type><attributes></attributes></label>
        <label><name>cat</name><type>skeleton</type><attributes></attributes><svg>{SVG}</svg></label>
        <label><name>nose</name><type>points</type><parent>cat</parent></label>
        <label><name>tail</name><type>points</type><parent>cat</parent></label>
        <label><name>unused</name><type>rectangle</type></label>
      </labels>
    </task>
    <dumped>2026-12-01</dumped>
  </meta>"""


def points(label, x, y, outside=0, occluded=0):
    flags = f'source="manual" outside="{outside}" occluded="{occluded}"'
    return f'<points label="{label}" {flags} points="{x:.2f},{y:.2f}"></points>'


def skeleton(*inner, group="", label="cat"):
    group = f' group_id="{group}"' if group else ""
    return (
        f'<skeleton label="{label}" source="manual" z_order="0"{group}>{"".join(inner)}</skeleton>'
    )


def box(x0, y0, x1, y1, group="", label="box", more=""):
    corners = f'xtl="{x0:.2f}" ytl="{y0:.2f}" xbr="{x1:.2f}" ybr="{y1:.2f}"'
    group = f' group_id="{group}"' if group else ""
    return f'<box label="{label}" source="manual" occluded="0" {corners} z_order="0"{group}{more}></box>'


CAT = skeleton(points("nose", 10, 8), points("tail", 20.5, 12.25, occluded=1), group=4)


@pytest.fixture
def read(tmp_path):
    """Function of the content of the images a.png and b/c.png, 40 x 30, which reads them."""
    for name in ("a.png", "b/c.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path)

    def read(*contents, meta=META, more="", **options):
        xml = "".join(
            f'<image id="{id_}" name="{name}" width="40" height="30"{more}>{content}</image>'
            for id_, (name, content) in enumerate(zip(("a.png", "b/c.png"), contents, strict=False))
        )
        text = f'<?xml version="1.0" encoding="utf-8"?><annotations>{meta}{xml}</annotations>'
        (tmp_path / "annotations.xml").write_text(text)
        return cvat_xml.read(tmp_path, Options(**options))

    return read


def only(imported, split="all"):
    (annotation,) = imported.splits[split]["annotations"]
    return annotation


def test_skeleton_with_its_rectangle_is_an_object(read):
    imported = read(box(5, 4, 25, 24, group=4) + CAT, "")
    assert [i["file_name"] for i in imported.splits["all"]["images"]] == [
        "images/a.png",
        "images/b/c.png",
    ]
    assert imported.categories == [
        {"id": 1, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}
    ]
    assert only(imported)["bbox"] == [5, 4, 20, 20]
    assert only(imported)["keypoints"] == [9.5, 7.5, 2, 20, 11.75, 1]
    assert not imported.left_out and not imported.assumed


def test_points_outside_are_not_labelled(read):
    cat = points("tail", 20.5, 12.25), points("nose", 1, 1, outside=1, occluded=1)
    imported = read(box(5, 4, 25, 24, group=2) + skeleton(*cat, group=2))
    assert only(imported)["keypoints"] == [0, 0, 0, 20, 11.75, 2]


def test_skeleton_without_a_rectangle_has_the_extent_and_a_margin(read):
    """Within half a pixel, which is far below the margin."""
    assert only(read(CAT))["bbox"] == pytest.approx([7.9, 5.9, 14.7, 8.45], abs=0.51)
    grown = only(read(CAT, grow_boxes="3px"))["bbox"]
    assert grown == pytest.approx([7, 5, 16.5, 10.25], abs=0.51)


@pytest.mark.parametrize(
    ("shapes", "classes"),
    [
        (box(1, 1, 9, 9) + box(2, 2, 8, 8), ["box", "box"]),
        # Two rectangles in one group: neither is the skeleton's.
        (CAT + box(1, 1, 9, 9, group=4) + box(2, 2, 8, 8, group=4), ["cat", "box", "box"]),
        # The label that this package writes, of a rectangle whose skeleton was deleted.
        (CAT + box(1, 1, 9, 9, group=7, label="cat box"), ["cat", "cat"]),
    ],
)
def test_rectangles_without_a_skeleton(read, shapes, classes):
    imported = read(shapes)
    names = {category["id"]: category["name"] for category in imported.categories}
    found = [names[a["category_id"]] for a in imported.splits["all"]["annotations"]]
    assert found == classes


def test_rotated_rectangle_and_other_shapes(read):
    polygon = '<polygon label="box" points="1.00,1.00;2.00,1.00;2.00,2.00"></polygon>'
    imported = read(box(10, 10, 20, 14, more=' rotation="90.00"') + polygon + "<tag label='x'/>")
    assert only(imported)["bbox"] == pytest.approx([13, 7, 4, 10])
    assert imported.left_out == {"shapes of type polygon": 1, "shapes of type tag": 1}
    assert imported.assumed.total() == 1


def test_subsets_of_a_project_are_splits(read):
    imported = read(box(1, 1, 9, 9), box(2, 2, 8, 8), more=' subset="Train"')
    assert list(imported.splits) == ["train"] and len(imported.splits["train"]["images"]) == 2


def test_labels_without_meta_appear_in_their_order(read):
    imported = read(CAT + skeleton(points("ear", 1, 1), points("nose", 2, 2), group=9), meta="")
    assert imported.categories[0]["keypoints"] == ["nose", "tail", "ear"]
    assert imported.categories[0]["skeleton"] == []


def test_options_name_keypoints(read):
    content = box(5, 4, 25, 24, group=4) + CAT
    assert read(content, ignore=["nose"]).categories[0]["keypoints"] == ["tail"]
    imported = read(content, keypoints=["tail", "nose"])
    assert imported.categories[0]["keypoints"] == ["tail", "nose"]
    with pytest.raises(UserError, match="ear"):
        read(content, keypoints=["ear"])


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("<annotations><track id='0' label='cat'></track></annotations>", "tracks"),
        ("<annotations>", "readable"),
        ("<annotations></annotations>", "no labelled image"),
        ("<annotations><image id='0' name='a.png' width='x' height='9'/></annotations>", "CVAT"),
        ("<annotations><image id='0' name='q.png' width='9' height='9'/></annotations>", "q.png"),
        ("<other/>", "none"),
    ],
)
def test_wrong_files_are_refused_in_one_line(content, word, read, tmp_path):
    (tmp_path / "annotations.xml").write_text(content)
    with pytest.raises(UserError, match=word) as raised:
        cvat_xml.read(tmp_path, Options())
    assert len(str(raised.value).splitlines()) == 1


def test_malformed_files_are_read_or_refused_in_one_line(read, tmp_path):
    read(box(5, 4, 25, 24, group=4) + CAT, box(1, 1, 9, 9))
    malformed.check(tmp_path, lambda: cvat_xml.read(tmp_path, Options()))
