"""HRNet-W18 Mask R-CNN on COCO's 80 classes, 1x schedule."""

from .common.data.coco_instance import data, dataloader
from .hrnet_w18_mask_kpt import inference, lr_multiplier, model, optimizer, train

data.masks = True
del model.roi_heads.keypoint_in_features
del model.roi_heads.keypoint_pooler
del model.roi_heads.keypoint_head
# As in detectron2's baselines without keypoints.
model.proposal_generator.post_nms_topk = [1000, 1000]
model.roi_heads.box_predictor.smooth_l1_beta = 0.0
model.roi_heads.num_classes.unresolved = 80  # COCO's, if there is no file to read them from
