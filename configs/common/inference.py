# How evaluation and the predictor run the trained model.
from detectron2.config import LazyCall as L

from hrnet_kpt.inference import KeypointTTA

inference = dict(
    # The score of an instance, 0 to 1: "box", the probability of its class, as in the baseline; "keypoints", the mean
    # score of its keypoints; or "combined", the product of both.
    instance_score="box",
    # Where a keypoint is: "highest", the highest pixel of its map, as in the baseline; "dark", between the map's cells.
    keypoint_decoding="highest",
    # "bfloat16" computes backbone and heads in half of the precision: quicker where the processor has it.
    dtype="float32",
    compile=False,  # True: torch.compile translates the backbone first, for half a minute or more
    # Test-time augmentation: what is seen at several scales and mirrored is merged.
    tta=L(KeypointTTA)(
        enabled=False,
        scales=[1.0],
        flip=True,
        merge="fusion",
        merge_thresh=0.65,
        oks_nms_thresh=None,
        keypoints="${data.keypoints}",
        classes="${data.classes}",
    ),
)
