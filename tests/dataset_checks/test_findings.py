"""The findings of a whole json, and that any json, also a large one, can be checked."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.data.coco import read_json
from hrnet_kpt.dataset_checks.annotations import check_annotations, check_set
from hrnet_kpt.dataset_checks.finding import Finding
from hrnet_kpt.dataset_checks.table import annotation_table
from hrnet_kpt.errors import UserError, refuse_errors


@pytest.mark.parametrize(
    "dataset", ["bees", "coco", "crowdpose", "glue_tubes", "horse10", "openfield_mouse"]
)
def test_photographs_have_the_known_findings(photographs, dataset, find):
    for path in (photographs / dataset).glob("*.json"):
        # CrowdPose counts neither head nor neck in num_keypoints.
        expected = {"area-missing", "skeleton-joint-unknown", "num-keypoints-wrong"}
        assert set(find(read_json(path))) == (expected if dataset == "crowdpose" else set())


def test_clean_json_gives_nothing(clean, found, find, people, synthetic_people):
    assert find(people, synthetic_people / "train") == {}
    assert found(clean) == {}
    del clean["annotations"]  # as for prediction
    assert found(clean) == {}


def test_keypoints_that_are_categories_are_named(clean, found):
    """CVAT's labels of single points: each is a category, and no annotation is exported."""
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
    line = str(Finding("warning", "a.json", "x", "12 things", tuple(range(1, 13)), ("7",)))
    assert line.startswith("a.json: x: 12 things (annotations 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 ")
    assert "; image '7')" in line  # a string, not a number


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


def test_errors_come_first_and_are_refused_and_warnings_returned(clean, owl_images):
    for annotation in clean["annotations"]:
        del annotation["area"]
    clean["annotations"][0]["keypoints"] = [1]
    clean["images"][1]["file_name"] = "none.png"
    findings = check_annotations(annotation_table(clean, "owls.json"), str(owl_images))
    names = [finding.name for finding in findings]
    assert names == ["image-missing", "keypoints-length", "area-missing"]
    assert findings[2].annotation_ids == (11, 12, 14)  # the box of the crowd is empty
    with pytest.raises(UserError) as error:
        refuse_errors(findings)
    assert str(error.value).splitlines() == [str(finding) for finding in findings[:2]]
    assert refuse_errors(findings[2:]) == [str(findings[2])]


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("image-missing", lambda content: content["images"][1].update(file_name="none.png")),
        ("names-missing", lambda content: content["categories"][0].pop("keypoints")),
    ],
)
def test_downgraded_errors_are_warnings(clean, owl_images, name, defect):
    defect(clean)
    table = annotation_table(clean, "owls.json")
    found = {f.name: f.level for f in check_set(table, str(owl_images), True, None)}
    assert found[name] == "error"
    findings = check_set(table, str(owl_images), True, None, {name, "no-keypoints"})
    assert {f.name: f.level for f in findings} == dict.fromkeys(found, "warning")


LISTS = ("images", "annotations", "categories")
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=2),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_values_give_findings_and_no_traceback(data, people, find):
    content = copy.deepcopy({name: people[name][:2] for name in LISTS})
    content["annotations"][1]["iscrowd"] = 1
    content["categories"][0]["sigmas"] = [0.1] * 17
    for _ in range(data.draw(st.integers(1, 3))):
        entry = data.draw(st.sampled_from([e for name in content.values() for e in name]))
        entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(JSON)
    for name, finding in find(content, Path(__file__).parent).items():
        assert str(finding).startswith(f"x.json: {name}: ")


# Peak memory by VmHWM: ru_maxrss includes that of the parent process before exec.
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
def test_hundred_thousand_instances_in_half_a_minute_and_two_gigabytes(tmp_path, people):
    """Reading included, and the memory of the imports (0.6 GiB)."""
    image, annotations = people["images"][0], people["annotations"]
    random = np.random.default_rng(0)
    content = {**people, "annotations": []}
    content["images"] = [{**image, "id": i, "file_name": f"{i}.jpg"} for i in range(50_000)]
    for i in range(100_000):
        person = annotations[i % len(annotations)]
        keypoints = np.array(person["keypoints"], dtype=float).reshape(-1, 3)
        keypoints[:, :2] *= random.uniform(0.9, 1, (17, 2))
        values = keypoints.round(2).ravel().tolist()
        content["annotations"].append(
            {**person, "id": i + 1, "image_id": i // 2, "keypoints": values}
        )
    path = tmp_path / "big.json"
    path.write_text(json.dumps(content))
    command = [sys.executable, "-c", MEASURE, path]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, gibibytes, found = output.split(maxsplit=2)
    assert float(seconds) < 30
    assert float(gibibytes) < 2
    assert found.strip() == "[]"
