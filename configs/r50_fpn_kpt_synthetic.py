"""R50-FPN on synthetic people, with the neck's channels and the heads of the small HRNet, from scratch."""

from .hrnet_w18_small_kpt_synthetic import (
    data,
    dataloader,
    inference,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from .r50_fpn_kpt import model as _page

model.backbone = _page.backbone
model.backbone.out_channels = 64
model.backbone.top_block = None  # no p6
model.backbone.bottom_up.freeze_at = 0
model.backbone.bottom_up.stem.norm = "BN"
model.backbone.bottom_up.stages.norm = "BN"
model.roi_heads.box_in_features = ["p2", "p3", "p4", "p5"]  # those that the FPN makes
