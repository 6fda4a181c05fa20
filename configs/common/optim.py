import torch
from detectron2.config import LazyCall as L

from hrnet_kpt.engine.optim import parameter_groups

# The trainer sets `params.model`.
params = L(parameter_groups)(
    base_lr="${..lr}",
    weight_decay_norm=0.0,  # of norm layers, as in detectron2
    weight_decay_bias=None,  # None: as optimizer.weight_decay; or a number
    lr_factors={},  # {"backbone.bottom_up": 0.1}: a tenth of the rate for these parameters
    layer_decay=1.0,  # 0.8: each stage of the HRNet has 0.8 times the rate of the next one
)

SGD = L(torch.optim.SGD)(
    params=params,
    lr=0.02,
    momentum=0.9,
    weight_decay=1e-4,
    fused=True,  # one kernel for the whole update
)

AdamW = L(torch.optim.AdamW)(
    params=params,
    lr=1e-4,
    betas=[0.9, 0.999],
    weight_decay=0.1,
    fused=True,
)
