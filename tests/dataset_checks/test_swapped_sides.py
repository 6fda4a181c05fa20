"""Exchanged left and right keypoints are found, and nothing else."""

import copy
import json

import numpy as np
import pytest

from hrnet_kpt.data import COCO_PERSON
from hrnet_kpt.dataset_checks.swapped_sides import align_similarity, average_pose, check_sides
from hrnet_kpt.dataset_checks.table import annotation_table

NAMES = list(COCO_PERSON.names)
PAIRS = [[NAMES.index(name) for name in pair] for pair in COCO_PERSON.flip_pairs]


def exchange(annotation, pairs):
    points = np.array(annotation["keypoints"]).reshape(-1, 3)
    for left, right in pairs:
        points[[left, right]] = points[[right, left]]
    annotation["keypoints"] = points.ravel().tolist()


def ids(findings):
    return {number for finding in findings for number in finding.annotation_ids}


def find(content):
    return check_sides(annotation_table(content, "x.json"))


@pytest.mark.parametrize("dataset", ["coco", "crowdpose", "horse10"])
def test_small_sets_of_photographs_give_nothing(photographs, dataset):
    assert find(json.loads((photographs / dataset / "annotations.json").read_text())) == []


@pytest.mark.parametrize(
    "parts", [("shoulder",), ("hip",), ("shoulder", "elbow", "wrist"), ("shoulder", "hip")]
)
def test_finds_people_whose_sides_were_exchanged_in_part(many_people, parts):
    """At least 9 of 12 that show the whole body, and nobody else: half profiles do not show enough."""
    assert find(many_people) == []
    content = copy.deepcopy(many_people)
    whole = [a for a in content["annotations"] if a["num_keypoints"] == 17]
    changed = whole[:: len(whole) // 12][:12]
    pairs = [pair for pair in PAIRS if NAMES[pair[0]].split("_")[1] in parts]
    for annotation in changed:
        exchange(annotation, pairs)
    findings = find(content)
    assert ids(findings) <= {annotation["id"] for annotation in changed}
    assert len(ids(findings)) >= 9
    assert {finding.level for finding in findings} == {"warning"}
    assert any(f"left_{parts[0]} " in finding.sentence for finding in findings)


def test_pairs_that_cross_are_not_reported(many_people):
    """Wrists that cross in one of ten."""
    content = copy.deepcopy(many_people)
    wrists = [pair for pair in PAIRS if "wrist" in NAMES[pair[0]]]
    for annotation in content["annotations"][::10]:
        exchange(annotation, wrists)
    assert find(content) == []


def test_tiny_sets_give_nothing(many_people):
    content = {**many_people, "annotations": copy.deepcopy(many_people["annotations"][:19])}
    exchange(content["annotations"][3], PAIRS[3:4])
    assert find(content) == []


def faces(count):
    """68 keypoints on a bowl, as seen by turning heads; six in the middle, the others in pairs."""
    random = np.random.default_rng(0)
    half = np.stack([random.uniform(0.1, 1, 31), random.uniform(-1, 1, 31)], axis=1)
    middle = np.stack([np.zeros(6), np.linspace(-0.8, 0.9, 6)], axis=1)
    positions = np.concatenate([middle, half, half * (-1, 1)])
    depth = 1 - 0.5 * (positions**2).sum(axis=1)
    names = [f"middle_{i}" for i in range(6)]
    names += [f"{side}_{i}" for side in ("left", "right") for i in range(31)]
    annotations = []
    for number in range(count):
        yaw, roll = random.normal(0, 0.3), random.normal(0, 0.3)
        x = positions[:, 0] * np.cos(yaw) + depth * np.sin(yaw)
        face = (x + 1j * positions[:, 1]) * np.exp(1j * roll) * random.uniform(30, 90)
        face += random.normal(0, 1, 68) + 1j * random.normal(0, 1, 68) + 200 + 200j
        keypoints = np.stack([face.real, face.imag, np.full(68, 2)], axis=1).ravel().tolist()
        ids = {"id": number + 1, "image_id": 1, "category_id": 1}
        annotations.append({**ids, "bbox": [100, 100, 200, 200], "keypoints": keypoints})
    categories = [{"id": 1, "name": "face", "keypoints": names}]
    images = [{"id": 1, "file_name": "a"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_finds_the_one_face_that_is_mirrored():
    content = faces(60)
    assert find(content) == []
    exchange(content["annotations"][41], [(6 + i, 37 + i) for i in range(31)])
    [finding] = find(content)
    assert (finding.name, finding.level) == ("instance-mirrored", "warning")
    assert finding.annotation_ids == (42,)


def test_average_pose_of_two_populations():
    """A known asymmetric pose, half of the instances exchanged, moved, turned and scaled: the pose comes back."""
    random = np.random.default_rng(1)
    pose = random.normal(size=8) + 1j * random.normal(size=8)
    pose -= pose.mean()
    pose /= np.sqrt((abs(pose) ** 2).mean())
    flip = np.array([1, 0, 3, 2, 5, 4, 6, 7])
    turn = random.uniform(1, 9, 200) * np.exp(1j * random.uniform(0, 6, 200))
    positions = turn[:, None] * pose + random.normal(size=(200, 1)) * 50
    positions[::2] = positions[::2, flip]
    labelled = random.random((200, 8)) > 0.2
    found = average_pose(positions, labelled, flip)
    _, residual = align_similarity(found.positions[None], np.ones((1, 8)), pose)
    _, exchanged = align_similarity(found.positions[None, flip], np.ones((1, 8)), pose)
    # Without noise nothing is left over: rounding of 64-bit floats.
    assert min(residual[0], exchanged[0]) < 1e-10


def test_align_similarity_is_the_least_squares_similarity():
    """Against numpy's solver: x, y -> a x - b y + c, b x + a y + d."""
    random = np.random.default_rng(2)
    z, m = (random.normal(size=6) + 1j * random.normal(size=6) for _ in range(2))
    weights = np.array([[1.0, 1, 0, 1, 1, 0]])
    rows = [[v.real, -v.imag, 1, 0] for v in m] + [[v.imag, v.real, 0, 1] for v in m]
    root = np.tile(np.sqrt(weights[0]), 2)
    truth = np.concatenate([z.real, z.imag])
    a, b, c, d = np.linalg.lstsq(np.array(rows) * root[:, None], truth * root, rcond=None)[0]
    laid, residual = align_similarity(z[None], weights, m)
    assert laid[0] * complex(a, b) + complex(c, d) == pytest.approx(z)
    fitted = m * complex(a, b) + complex(c, d)
    centred = z - np.average(z, weights=weights[0])
    rest = (weights[0] * abs(z - fitted) ** 2).sum() / (weights[0] * abs(centred) ** 2).sum()
    assert residual[0] == pytest.approx(rest)
