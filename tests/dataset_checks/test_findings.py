"""What the check of a json says and refuses; that it takes any json and large ones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.data.coco import read_json
from hrnet_kpt.dataset_checks.annotations import check_annotations, check_set, refuse_errors
from hrnet_kpt.dataset_checks.finding import Finding
from hrnet_kpt.dataset_checks.table import annotation_table
from hrnet_kpt.errors import UserError


@pytest.mark.parametrize(
    "dataset", ["bees", "coco", "crowdpose", "glue_tubes", "horse10", "openfield_mouse"]
)
def test_real_files(photographs, dataset):
    for path in (photographs / dataset).glob("*.json"):
        findings = check_annotations(annotation_table(read_json(path), str(path)))
        # CrowdPose counts neither head nor neck in num_keypoints.
        expected = {"area-missing", "skeleton-joint-unknown", "num-keypoints-wrong"}
        assert {f.name for f in findings} == (expected if dataset == "crowdpose" else set())


def test_drawn_people_are_clean(people, drawn_people):
    table = annotation_table(people, "x.json")
    assert check_annotations(table, str(drawn_people / "train")) == []


def test_clean_json_gives_nothing(clean, found):
    assert found(clean) == {}
    del clean["annotations"]  # as to predict for
    assert check_annotations(annotation_table(clean, "owls.json")) == []


def test_keypoints_that_are_categories_are_told_what_to_export(clean, found):
    """CVAT's labels of single points: each is a category, and there is no annotation."""
    names = clean["categories"][0]["keypoints"]
    clean["categories"] = [{"id": i, "name": n, "keypoints": []} for i, n in enumerate(names, 1)]
    clean["annotations"] = []
    assert "CVAT" in found(clean)["no-keypoints"].sentence
    del clean["categories"][1:]
    assert "CVAT" not in found(clean)["no-keypoints"].sentence


def test_boxes_may_reach_over_the_border_by_rounding(clean, found):
    clean["annotations"][1]["bbox"] = [-0.9, 20, 65.8, 28.9]
    assert found(clean) == {}


def test_line_names_ten_ids_and_counts_the_rest():
    finding = Finding("warning", "a.json", "x", "12 things", tuple(range(1, 13)), (7,))
    assert str(finding) == (
        "a.json: x: 12 things (annotations 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more; image 7); training goes on"
    )


def test_line_tells_a_text_from_a_number():
    finding = Finding("error", "a.json", "x", "1 thing", ("12",))
    assert str(finding) == "a.json: x: 1 thing (annotation '12'); training cannot go on"


def test_errors_come_first_and_count_what_they_name(clean):
    for annotation in clean["annotations"]:
        del annotation["area"]
    clean["annotations"][0]["keypoints"] = [1]
    findings = check_annotations(annotation_table(clean, "owls.json"))
    assert [f.level for f in findings] == ["error", "warning"]
    assert findings[1].name == "area-missing" and findings[1].sentence.startswith("3 ")
    assert findings[1].annotation_ids == (11, 12, 14)  # the crowd's box is empty: it gets no area


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{", "json"),
        ("[]", "`images`"),
        ('{"images": [], "categories": []}', "`annotations`"),
        ('{"images": [], "annotations": {}, "categories": []}', "`annotations`"),
        ('{"images": [], "annotations": [1], "categories": []}', "entry 0 of `annotations`"),
    ],
)
def test_no_coco_format_is_one_line(tmp_path, text, where):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_json(path)
    assert str(path) in str(error.value) and where in str(error.value)
    assert "\n" not in str(error.value)


def test_refusal_names_every_error_and_warnings_come_back(clean, owl_images):
    def refuse():
        return refuse_errors(
            check_annotations(annotation_table(clean, "owls.json"), str(owl_images))
        )

    del clean["annotations"][0]["area"]
    clean["annotations"][1]["keypoints"] = [1]
    clean["images"][1]["file_name"] = "none.png"
    with pytest.raises(UserError) as error:
        refuse()
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["image-missing", "keypoints-length"]
    clean["annotations"][1]["keypoints"] = []
    clean["images"][1]["file_name"] = "a.png"
    assert "area-missing" in [line.split(": ")[1] for line in refuse()]


@pytest.mark.parametrize(
    ("forgiven", "defect"),
    [
        ("image-missing", lambda content: content["images"][1].update(file_name="none.png")),
        ("names-missing", lambda content: content["categories"][0].pop("keypoints")),
    ],
)
def test_what_a_run_allows_is_a_warning(clean, owl_images, forgiven, defect):
    defect(clean)
    table = annotation_table(clean, "owls.json")
    found = {f.name: f.level for f in check_set(table, str(owl_images), True, None)}
    assert found[forgiven] == "error"
    allowed = {forgiven, "no-keypoints"}
    findings = check_set(table, str(owl_images), True, None, allowed)
    assert {f.name: f.level for f in findings} == {
        **found,
        **dict.fromkeys(allowed & set(found), "warning"),
    }
    assert refuse_errors(findings) == [str(f) for f in findings]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=2),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_values_give_findings_and_no_traceback(data):
    content = json.loads(FUZZED)
    for _ in range(data.draw(st.integers(1, 3))):
        entry = data.draw(st.sampled_from([e for name in content.values() for e in name]))
        entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(JSON)
    for finding in check_annotations(
        annotation_table(content, "owls.json"), str(Path(__file__).parent)
    ):
        assert str(finding).startswith(f"owls.json: {finding.name}: ")


FUZZED = """{
  "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
  "annotations": [
    {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9], "area": 8, "iscrowd": 0,
     "keypoints": [3, 4, 2, 5, 6, 1], "num_keypoints": 2},
    {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9], "area": 8, "iscrowd": 1,
     "keypoints": [0, 0, 0, 0, 0, 0], "num_keypoints": 0}
  ],
  "categories": [
    {"id": 1, "name": "x", "keypoints": ["left_a", "right_a"], "skeleton": [[1, 2]], "sigmas": [0.1, 0.1]}
  ]
}"""


# The highest memory by VmHWM: ru_maxrss has that of the process before it became this one, too.
MEASURE = """
import re, sys, time
from pathlib import Path
from hrnet_kpt.data.coco import read_json
from hrnet_kpt.dataset_checks.annotations import check_annotations
from hrnet_kpt.dataset_checks.table import annotation_table
start = time.perf_counter()
found = check_annotations(annotation_table(read_json(sys.argv[1]), sys.argv[1]))
highest = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(time.perf_counter() - start, highest / 2**20, found)
"""


@pytest.mark.slow
def test_hundred_thousand_instances_in_half_a_minute_and_two_gigabytes(tmp_path, drawn_people):
    """Reading included, and the memory of the imports (0.6 GiB)."""
    content = read_json(drawn_people / "train.json")
    size, people = content["images"][0], content["annotations"]
    random = np.random.default_rng(0)
    content["images"] = [{**size, "id": i, "file_name": f"{i}.jpg"} for i in range(50_000)]
    content["annotations"] = []
    for i in range(100_000):
        person = dict(people[i % len(people)])
        person["keypoints"] = [
            v if k % 3 == 2 or v == 0 else round(v * random.uniform(0.9, 1), 2)
            for k, v in enumerate(person["keypoints"])
        ]
        content["annotations"].append({**person, "id": i + 1, "image_id": i // 2})
    path = tmp_path / "big.json"
    path.write_text(json.dumps(content))
    command = [sys.executable, "-c", MEASURE, path]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, gibibytes, found = output.split(maxsplit=2)
    assert float(seconds) < 30
    assert float(gibibytes) < 2
    assert found.strip() == "[]"
