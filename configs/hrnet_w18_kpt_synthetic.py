"""HRNet-W18 on synthetic people, with the neck and heads of the small one, from scratch."""

from .hrnet_w18_kpt import model as _page
from .hrnet_w18_small_kpt_synthetic import (
    data,
    dataloader,
    inference,
    lr_multiplier,
    model,
    optimizer,
    train,
)

model.backbone.bottom_up = _page.backbone.bottom_up
model.backbone.bottom_up.norm = "BN"
