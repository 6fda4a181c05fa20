"""HRNet-W18 Cascade R-CNN with boxes, masks and keypoints of COCO's people, 1x schedule."""

from detectron2.config import LazyCall as L
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import CascadeROIHeads

from .hrnet_w18_mask_kpt import data, dataloader, inference, lr_multiplier, model, optimizer, train

# Three stages, each on the boxes of the previous one, with higher IoU thresholds: https://arxiv.org/abs/1712.00726.
model.roi_heads._target_ = CascadeROIHeads
model.roi_heads.proposal_matchers = [
    L(Matcher)(thresholds=[iou], labels=[0, 1], allow_low_quality_matches=False)
    for iou in (0.5, 0.6, 0.7)
]
model.roi_heads.box_heads = [model.roi_heads.box_head] * 3
model.roi_heads.box_predictors = [model.roi_heads.box_predictor] * 3
for _stage, _weights in enumerate(([10, 10, 5, 5], [20, 20, 10, 10], [30, 30, 15, 15])):
    # In a list, relative interpolations would need another level.
    model.roi_heads.box_heads[_stage].input_shape.update(
        height="${model.roi_heads.box_pooler.output_size}",
        width="${model.roi_heads.box_pooler.output_size}",
    )
    _predictor = model.roi_heads.box_predictors[_stage]
    _predictor.input_shape.channels = f"${{model.roi_heads.box_heads.{_stage}.fc_dims[1]}}"
    _predictor.num_classes = "${model.roi_heads.num_classes}"
    _predictor.update(cls_agnostic_bbox_reg=True)
    _predictor.box2box_transform.weights = [float(weight) for weight in _weights]
del model.roi_heads.box_head
del model.roi_heads.box_predictor
del model.roi_heads.proposal_matcher
