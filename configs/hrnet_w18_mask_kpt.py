"""HRNet-W18 with boxes, masks and keypoints of COCO's people in one model, 1x schedule."""

from detectron2.config import LazyCall as L
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead

from .hrnet_w18_kpt import data, dataloader, inference, lr_multiplier, model, optimizer, train

# Masks are pooled like keypoints, 14 x 14, with the head of detectron2's Mask R-CNN baseline.
model.roi_heads.mask_in_features = "${.box_in_features}"
model.roi_heads.mask_pooler = model.roi_heads.keypoint_pooler
model.roi_heads.mask_pooler.scales.features = "${...mask_in_features}"
model.roi_heads.mask_head = L(MaskRCNNConvUpsampleHead)(
    input_shape=model.roi_heads.keypoint_head.input_shape,
    num_classes="${..num_classes}",
    conv_dims=[256, 256, 256, 256, 256],  # the last one upsamples
)
model.roi_heads.mask_head.input_shape.update(
    height="${...mask_pooler.output_size}", width="${...mask_pooler.output_size}"
)
data.masks = True
