"""Scores of instances, by hand, and keypoints as detectron2's head gives them."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import KRCNNConvDeconvUpsampleHead
from detectron2.structures import Boxes, Instances

from hrnet_kpt.inference.keypoint_head import DecodingKeypointHead
from hrnet_kpt.modeling.keypoint_decoding import dark_positions


@pytest.fixture(scope="module")
def stock_head():
    torch.manual_seed(0)
    shape = ShapeSpec(channels=8, height=14, width=14)
    return KRCNNConvDeconvUpsampleHead(shape, num_keypoints=3, conv_dims=[16]).eval()


def instances(*boxes):
    count = len(boxes)
    found = Instances((200, 200))
    found.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    found.scores = torch.linspace(0.9, 0.5, count) if count else torch.zeros(0)
    found.pred_classes = torch.arange(count) % 2
    return found


def batch():
    """Instances of three images; the second has none."""
    first = instances([10.0, 20, 60, 90], [0.0, 0, 30, 30], [50.0, 50, 199, 180])
    return [first, instances(), instances([3.5, 4.25, 77, 190])]


@torch.no_grad()
def test_keypoints_are_those_of_the_stock_head(stock_head):
    features = torch.randn(4, 8, 14, 14)
    expected = stock_head(features, batch())
    found = DecodingKeypointHead(stock_head)(features, batch())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.pred_keypoints, theirs.pred_keypoints, rtol=0, atol=1e-3)
        assert torch.equal(ours.scores, theirs.scores) and torch.equal(ours.scores, ours.box_scores)


@torch.no_grad()
def test_dark_moves_the_keypoints_and_leaves_their_scores(stock_head):
    features = torch.randn(4, 8, 14, 14)
    plain = DecodingKeypointHead(stock_head)(features, batch())
    found = DecodingKeypointHead(stock_head, decoding="dark")(features, batch())
    boxes = torch.cat([one.pred_boxes.tensor for one in found])
    expected = dark_positions(stock_head.layers(features), boxes).split([len(one) for one in found])
    for ours, before, positions in zip(found, plain, expected, strict=True):
        torch.testing.assert_close(ours.pred_keypoints[..., :2], positions)
        torch.testing.assert_close(ours.pred_keypoints[..., 2], before.pred_keypoints[..., 2])
    assert not torch.equal(found[0].pred_keypoints, plain[0].pred_keypoints)


def scored(stock_head, instance_score, class_keypoints=()):
    """Three instances with keypoint scores that are set by hand: of classes 0, 1 and 0."""
    head = DecodingKeypointHead(stock_head, instance_score, class_keypoints)
    scores = torch.tensor([[0.2, 0.4, 0.6], [0.5, 3.0, 0.9], [1.0, 1.0, 1.0]])
    keypoints = torch.cat([torch.zeros(3, 3, 2), scores[..., None]], dim=-1)
    found = instances([0.0, 0, 10, 10], [0.0, 0, 20, 20], [0.0, 0, 30, 30])
    return head._scored(found, keypoints)


def test_box_score_changes_nothing(stock_head):
    found = scored(stock_head, "box")
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
    # The second one's keypoint of 3.0 counts as 1.
    assert found.keypoint_scores.tolist() == pytest.approx([0.4, 0.8, 1.0])


@pytest.mark.parametrize(
    ("instance_score", "scores", "widths"),
    [
        ("keypoints", [1.0, 0.8, 0.4], [30, 20, 10]),
        ("combined", [0.7 * 0.8, 0.5 * 1.0, 0.9 * 0.4], [20, 30, 10]),
    ],
)
def test_other_scores_change_the_order_of_instances(stock_head, instance_score, scores, widths):
    found = scored(stock_head, instance_score)
    assert found.scores.tolist() == pytest.approx(scores)
    assert found.pred_boxes.tensor[:, 2].tolist() == widths
    by_width = dict(zip(widths, found.box_scores.tolist(), strict=True))
    assert by_width == pytest.approx({10: 0.9, 20: 0.7, 30: 0.5})


def test_keypoints_of_other_classes_do_not_count(stock_head):
    """Class 0 has only the first keypoint; class 1 has none, so that its score is 1."""
    found = scored(stock_head, "box", [[0], []])
    assert found.keypoint_scores.tolist() == pytest.approx([0.2, 1.0, 1.0])


def test_unknown_settings_are_refused(stock_head, refusal):
    assert "instance_score='best'" in refusal(DecodingKeypointHead, stock_head, "best")
    message = refusal(DecodingKeypointHead, stock_head, decoding="drak")
    assert "keypoint_decoding='drak'" in message
