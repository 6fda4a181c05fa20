import torch
from detectron2.config import LazyCall as L
from detectron2.solver.build import get_default_optimizer_params

# No weight decay on normalisation layers, as in detectron2. The model is set into `params` by the trainer.
SGD = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(weight_decay_norm=0.0),
    lr=0.02,
    momentum=0.9,
    weight_decay=1e-4,
)

AdamW = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(base_lr="${..lr}", weight_decay_norm=0.0),
    lr=1e-4,
    betas=[0.9, 0.999],
    weight_decay=0.1,
)
