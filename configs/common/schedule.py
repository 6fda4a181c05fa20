from detectron2.config import LazyCall as L
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler

from hrnet_kpt.engine.optim import WarmupMultiplier

# 1x is 90,000 iterations of 16 images, about 12 epochs of COCO; 3x is 270,000, with its last two steps as
# late as those of 1x (https://arxiv.org/abs/1811.08883, section 4). Set train.max_iter to match. Milestones
# are relative to the last one: another train.max_iter scales the whole schedule.
# Warm-up is in iterations: as a fraction of max_iter, as in detectron2, it would be too short in a short run.
lr_multiplier_1x = L(WarmupMultiplier)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=[60000, 80000, 90000]),
    warmup_iters=1000,
    warmup_factor=0.001,
    max_iter="${train.max_iter}",
)

lr_multiplier_3x = L(WarmupMultiplier)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01], milestones=[210000, 250000, 270000]
    ),
    warmup_iters=1000,
    warmup_factor=0.001,
    max_iter="${train.max_iter}",
)

# Half a cosine from the full rate to a thousandth.
lr_multiplier_cosine = L(WarmupMultiplier)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.001),
    warmup_iters=100,
    warmup_factor=0.001,
    max_iter="${train.max_iter}",
)
