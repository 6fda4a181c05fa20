"""HRNet-W18-small with detectron2's plain FPN as neck, on synthetic people, from scratch."""

from .hrnet_w18_small_kpt_synthetic import (
    data,
    dataloader,
    inference,
    lr_multiplier,
    optimizer,
    train,
)
from .hrnet_w18_small_kpt_synthetic import model as _small
from .r50_fpn_kpt_synthetic import model

model.backbone.bottom_up = _small.backbone.bottom_up
