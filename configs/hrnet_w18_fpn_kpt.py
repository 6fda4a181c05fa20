"""HRNet-W18 Keypoint R-CNN on COCO with detectron2's plain FPN as neck, 1x schedule."""

from .hrnet_w18_kpt import data, dataloader, inference, lr_multiplier, optimizer, train
from .hrnet_w18_kpt import model as _page
from .r50_fpn_kpt import model

# Of the R50-FPN model the neck stays, over HRNet's features, and with them HRNet's pixels.
model.backbone.bottom_up = _page.backbone.bottom_up
model.update({key: _page[key] for key in ("pixel_mean", "pixel_std", "input_format")})
