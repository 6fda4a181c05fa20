"""R50-FPN Faster R-CNN on COCO's 80 classes, 1x schedule: detectron2's baseline, to compare with on the same data."""

from .hrnet_w18_box import data, dataloader, inference, lr_multiplier, model, optimizer
from .r50_fpn_kpt import model as _page
from .r50_fpn_kpt import train

model.backbone = _page.backbone
model.proposal_generator.in_features = _page.proposal_generator.in_features
model.update({key: _page[key] for key in ("pixel_mean", "pixel_std", "input_format")})
