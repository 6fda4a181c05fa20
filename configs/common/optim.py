import torch
from detectron2.config import LazyCall as L

from hrnet_kpt.engine.optim import parameter_groups

# The model is set into `params` by the trainer.
params = L(
    parameter_groups
)(
    base_lr="${..lr}",
    weight_decay_norm=0.0,  # of normalisation layers, as in detectron2
    weight_decay_bias=None,  # a number, instead of the optimizer's weight_decay
    lr_factors={},  # {"backbone.bottom_up": 0.1}: parameters that are so called have a tenth of the rate
    layer_decay=1.0,  # 0.8: each stage of the HRNet has 0.8 times the rate of the one behind it
)

SGD = L(torch.optim.SGD)(
    params=params,
    lr=0.02,
    momentum=0.9,
    weight_decay=1e-4,
    fused=True,  # all of an update in one go
)

AdamW = L(torch.optim.AdamW)(
    params=params,
    lr=1e-4,
    betas=[0.9, 0.999],
    weight_decay=0.1,
    fused=True,
)
