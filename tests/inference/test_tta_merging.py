"""Views, and merging of detections, compared with naive loops and pycocotools, and by properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.inference.tta_merging import (
    View,
    object_keypoint_similarity,
    oks_nms,
    weighted_box_fusion,
)

SIGMAS = torch.tensor(COCO_PERSON.sigmas)


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    intersection = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return intersection / (sum(areas) - intersection)


def fuse_naively(boxes, scores, classes, num_views, thresh):
    """Section 3 of the paper, step by step: rows of class, score, x1, y1, x2, y2."""
    clusters = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        overlaps = [
            iou(boxes[i], cluster["box"]) if cluster["class"] == classes[i] else 0.0
            for cluster in clusters
        ]
        best = max(range(len(clusters)), key=lambda k: overlaps[k], default=None)
        if best is None or overlaps[best] <= thresh:
            clusters.append({"class": classes[i], "members": []})
            best = -1
        members = clusters[best]["members"]
        members.append(i)
        total = sum(scores[m] for m in members)
        clusters[best]["box"] = [
            sum(scores[m] * boxes[m][c] for m in members) / total for c in range(4)
        ]
        fraction = min(len(members), num_views) / num_views
        clusters[best]["score"] = total / len(members) * fraction
    return sorted((c["class"], c["score"], *c["box"]) for c in clusters)


def random_boxes(seed, count, side=60.0):
    """Crowded ones: corner, then size."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, side, (count, 2))
    return np.concatenate([corner, corner + random.uniform(20, 50, (count, 2))], axis=1), random


def fuse(boxes, scores, classes, num_views=3, thresh=0.55):
    return weighted_box_fusion(
        torch.as_tensor(boxes, dtype=torch.float64).view(-1, 4),
        torch.as_tensor(scores, dtype=torch.float64),
        torch.as_tensor(classes, dtype=torch.int64),
        num_views,
        thresh,
    )


def rows(fused):
    boxes, scores, classes = fused
    return sorted(
        (int(c), float(s), *b) for c, s, b in zip(classes, scores, boxes.tolist(), strict=True)
    )


@pytest.mark.parametrize("thresh", [0.3, 0.55, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_fusion_is_that_of_the_paper(seed, thresh):
    boxes, random = random_boxes(seed, 60)
    scores, classes = random.uniform(0.01, 1, 60), random.integers(0, 2, 60)
    expected = fuse_naively(boxes.tolist(), scores.tolist(), classes.tolist(), 3, thresh)
    found = fuse(boxes, scores, classes, thresh=thresh)
    assert 2 < len(expected) <= 60
    # Both sum in double precision, in another order.
    np.testing.assert_allclose(rows(found), expected, rtol=0, atol=1e-9)
    assert found[1].tolist() == sorted(found[1].tolist(), reverse=True)


@st.composite
def detections(draw):
    """1 to 12 boxes of two classes, of different scores."""
    count = draw(st.integers(1, 12))
    number = st.floats(0, 100, width=32)
    corner = draw(st.lists(st.tuples(number, number), min_size=count, max_size=count))
    side = st.floats(1, 100, width=32)
    size = draw(st.lists(st.tuples(side, side), min_size=count, max_size=count))
    rank = draw(st.permutations(range(1, count + 1)))
    classes = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    boxes = np.concatenate([corner, np.add(corner, size)], axis=1)
    return boxes, np.array(rank) / count, np.array(classes)


@settings(max_examples=60, deadline=None)
@given(detections(), st.randoms(use_true_random=False))
def test_fused_boxes_lie_between_theirs_and_their_order_does_not_count(found, random):
    boxes, scores, classes = found
    fused_boxes, fused_scores, fused_classes = fuse(boxes, scores, classes)
    assert set(fused_classes.tolist()) == set(classes.tolist())
    for box, score, class_ in zip(fused_boxes, fused_scores, fused_classes, strict=True):
        mine = boxes[classes == class_.item()]
        assert (box.numpy() >= mine.min(axis=0) - 1e-9).all()
        assert (box.numpy() <= mine.max(axis=0) + 1e-9).all()
        assert 0 < score <= scores[classes == class_.item()].max() + 1e-9
    order = random.sample(range(len(boxes)), len(boxes))
    again = fuse(boxes[order], scores[order], classes[order])
    np.testing.assert_allclose(rows(again), rows((fused_boxes, fused_scores, fused_classes)))


def test_boxes_that_do_not_overlap_are_unchanged():
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10]]
    fused_boxes, scores, classes = fuse(boxes, [0.5, 0.9, 0.8], [0, 0, 1], num_views=1)
    assert fused_boxes.tolist() == [boxes[1], boxes[2], boxes[0]]
    assert scores.tolist() == [0.9, 0.8, 0.5] and classes.tolist() == [0, 1, 0]


def test_objects_of_few_views_get_lower_scores():
    """By hand: two of three views have the first object, one the second; one view has the third four times."""
    boxes = [[0, 0, 10, 10], [0, 0, 13, 10], [50, 50, 60, 60]] + [[80, 80, 90, 90]] * 4
    fused_boxes, scores, _ = fuse(boxes, [0.8, 0.4, 0.9, 0.25, 0.25, 0.25, 0.25], [0] * 7)
    expected = {0.6 * 2 / 3: [0, 0, 11, 10], 0.9 / 3: boxes[2], 0.25: boxes[3]}
    assert scores.tolist() == pytest.approx(list(expected))
    for box, score in zip(fused_boxes.tolist(), expected, strict=True):
        assert box == pytest.approx(expected[score])


def test_fusion_of_no_boxes():
    boxes, scores, classes = fuse([], [], [])
    assert boxes.shape == (0, 4) and scores.shape == (0,) and classes.shape == (0,)


@pytest.mark.parametrize("seed", range(20))
def test_mirrored_pairs_of_equal_score_are_fused_symmetrically(seed):
    """If boxes joined one after the other, the first of a pair would move the cluster away from the second.

    Seed 14 has a box that encloses both clusters of a pair, and overlaps them alike.
    """
    boxes, random = random_boxes(seed, 30)
    boxes = np.round(boxes * 1024) / 1024  # so that 128 - x is exact
    mirrored = np.stack([128 - boxes[:, 2], boxes[:, 1], 128 - boxes[:, 0], boxes[:, 3]], axis=1)
    scores = random.uniform(0.1, 1, 30)
    fused, fused_scores, _ = fuse(
        np.concatenate([boxes, mirrored]), np.tile(scores, 2), np.zeros(60), thresh=0.4
    )
    fused = fused.numpy()
    assert 4 < len(fused) < 50
    for (x1, y1, x2, y2), score in zip(fused, fused_scores.tolist(), strict=True):
        distance = np.abs(fused - [128 - x2, y1, 128 - x1, y2]).max(axis=1)
        partner = int(distance.argmin())
        assert distance[partner] < 1e-9
        assert fused_scores[partner].item() == pytest.approx(score)


def people(seed, count, spread):
    random = np.random.default_rng(seed)
    pose = random.uniform(0, 100, (1, 17, 2))
    keypoints = np.concatenate(
        [pose + random.normal(0, spread, (count, 17, 2)), np.full((count, 17, 1), 2.0)], axis=2
    )
    return keypoints, random.uniform(2000, 9000, count), random.permutation(count) / count


@pytest.mark.parametrize("spread", [1.0, 10.0, 100.0])
def test_oks_is_that_of_pycocotools(spread):
    keypoints, areas, scores = people(0, 8, spread)
    evaluation = COCOeval(iouType="keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(COCO_PERSON.sigmas)
    for i in range(8):
        flat = keypoints[i].ravel().tolist()
        own = {"keypoints": flat, "area": areas[i], "bbox": [0, 0, 1, 1], "score": scores[i]}
        evaluation._gts[1, 1].append(own)
        evaluation._dts[1, 1].append(own)
    expected = evaluation.computeOks(1, 1).T  # it has the detections first, best first
    best_first = np.argsort(-scores)
    found = object_keypoint_similarity(
        torch.tensor(keypoints),
        torch.tensor(keypoints[best_first]),
        torch.tensor(areas),
        SIGMAS.double(),
    )
    # The sigmas go through single precision here.
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)
    assert found.min() < 0.9 and found.max() == 1


@pytest.mark.parametrize("thresh", [0.0, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_oks_nms_keeps_what_a_naive_loop_keeps(seed, thresh):
    keypoints, areas, scores = people(seed, 30, 8.0)

    def oks(i, j):
        terms = []
        for k, sigma in enumerate(COCO_PERSON.sigmas):
            d2 = ((keypoints[i, k, :2] - keypoints[j, k, :2]) ** 2).sum()
            terms.append(np.exp(-d2 / (2 * areas[i] * (2 * sigma) ** 2)))
        return np.mean(terms)

    expected = []
    for j in sorted(range(30), key=lambda j: -scores[j]):
        if all(oks(i, j) <= thresh for i in expected):
            expected.append(j)
    found = oks_nms(*map(torch.tensor, (keypoints, scores, areas)), SIGMAS.double(), thresh)
    assert found.tolist() == expected
    assert len(expected) == {0.0: 1, 1.0: 30}.get(thresh, len(expected))


def test_oks_nms_of_nothing_is_nothing():
    none = torch.zeros(0)
    assert oks_nms(torch.zeros(0, 17, 3), none, none, SIGMAS, 0.5).shape == (0,)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.77, 1.6])
@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_follow_the_pixels_into_a_view_and_back(scale, mirrored):
    """The centre and size of a bright rectangle, from the mean and variance of its pixels."""
    view = View((47, 60), scale, mirrored)
    image = torch.zeros(3, 47, 60, dtype=torch.uint8)
    image[:, 10:30, 8:40] = 200
    viewed = view.apply(image).double()
    assert viewed.shape == (3, round(47 * scale), round(60 * scale))
    (x1, y1, x2, y2), = view.boxes_from_image(torch.tensor([[8.0, 10.0, 40.0, 30.0]])).tolist()  # fmt: skip
    light = viewed[0] / viewed[0].sum()
    for axis, low, high in ((1, x1, x2), (0, y1, y2)):
        profile = light.sum(dim=1 - axis)
        position = torch.arange(len(profile)) + 0.5
        centre = (profile * position).sum()
        length = (12 * (profile * (position - centre) ** 2).sum()).sqrt()  # of a box without blur
        assert centre == pytest.approx((low + high) / 2, abs=0.1)
        assert length == pytest.approx(high - low, abs=0.5)
    boxes = torch.rand(5, 4) * 40
    back = view.boxes_to_image(view.boxes_from_image(boxes))
    torch.testing.assert_close(back, boxes, rtol=0, atol=1e-4)
