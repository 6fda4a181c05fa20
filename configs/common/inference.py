# How evaluation and the predictor run the trained model.
from detectron2.config import LazyCall as L

from hrnet_kpt.inference import KeypointTTA

inference = dict(
    # The score of an instance, 0 to 1: "box", the probability of its class, as in the baseline; "keypoints", the mean
    # score of its keypoints; or "combined", the product of both.
    instance_score="box",
    # Decoding of heatmaps: "highest", the pixel of the maximum, as in the baseline; "dark", with subpixel accuracy.
    keypoint_decoding="highest",
    # Samples per bin of the keypoint pooler, if not those of training: more cost little without a backward pass.
    keypoint_sampling_ratio=None,
    # "bfloat16" runs backbone and heads in half precision: faster if the hardware supports it.
    dtype="float32",
    compile=False,  # True: torch.compile of the backbone, which takes half a minute or more
    # Test-time augmentation: detections at several scales and in mirrored images are merged.
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
