import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

# A tenth to twice the size, in a square of 1024 pixels: https://arxiv.org/abs/2012.07177. It helps in long schedules.
augmentations = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=1024, target_width=1024),
    L(T.FixedSizeCrop)(crop_size=[1024, 1024]),
    L(T.RandomFlip)(horizontal=True),
]
