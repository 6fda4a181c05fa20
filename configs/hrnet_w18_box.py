"""HRNet-W18 Faster R-CNN on COCO's 80 classes, 1x schedule."""

from .hrnet_w18_mask import data, dataloader, inference, lr_multiplier, model, optimizer, train

data.masks = False
del model.roi_heads.mask_in_features
del model.roi_heads.mask_pooler
del model.roi_heads.mask_head
