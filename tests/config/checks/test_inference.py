"""What evaluation is asked to do is checked before a training that would end in it."""

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.config.checks.values import CHOICES
from hrnet_kpt.inference.keypoint_head import DECODINGS, INSTANCE_SCORES

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def findings(cfg):
    return [(finding.level, finding.name, finding.keys[0]) for finding in check_config(cfg)]


def test_scores_of_keypoints_need_keypoints():
    cfg = load_config(PAGE, ["inference.instance_score=keypoints"])
    for name in ("keypoint_in_features", "keypoint_pooler", "keypoint_head"):
        del cfg.model.roi_heads[name]
    assert ("error", "inference-wrong", "inference.instance_score") in findings(cfg)


def test_augmentation_of_other_classes_than_the_models_is_found():
    cfg = load_config(PAGE, ["inference.tta.enabled=true"])
    cfg.inference.tta.classes = {"person": [], "horse": []}
    assert findings(cfg) == [("error", "inference-wrong", "inference.tta")]


def test_choices_of_the_check_are_those_of_the_head():
    assert CHOICES["inference.instance_score"] == INSTANCE_SCORES
    assert CHOICES["inference.keypoint_decoding"] == DECODINGS
