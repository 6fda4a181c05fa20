import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from hrnet_kpt.data.categories import flip_indices
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.loaders import build_test_loader, build_train_loader
from hrnet_kpt.data.mapper import KeypointMapper
from hrnet_kpt.evaluation.evaluator import KeypointEvaluator

# A new data set needs only the four paths: `auto` is read from the categories of the json.
data = dict(
    root="${oc.env:DETECTRON2_DATASETS,datasets}/coco",
    train=dict(
        annotations="${data.root}/annotations/person_keypoints_train2017.json",
        images="${data.root}/train2017",
    ),
    test=dict(
        annotations="${data.root}/annotations/person_keypoints_val2017.json",
        images="${data.root}/val2017",
    ),
    keypoints="auto",  # or an L(KeypointSchema)(names, flip_pairs, skeleton, sigmas, reference)
    classes="auto",  # or a mapping: names of classes, each with a list of names of keypoints
    masks=False,  # True: segmentations are read for a mask head, and evaluated
    share_keypoints=True,  # True: two classes with a keypoint of the same name share it; False: each has its own
    on_bad_image="fail",  # or "skip": leave out images that cannot be used
    image_range="auto",  # for images of more than 8 bits; or [low, high]: the values of black and white
    max_bad_images=100,  # maximum number of skipped files
    timeout=600.0,  # maximum seconds to wait for an image from the workers; 0: no limit
)

dataloader = dict(
    train=L(build_train_loader)(
        dataset=L(load_keypoint_dataset)(
            annotations="${data.train.annotations}",
            images="${data.train.images}",
            keypoints="${data.keypoints}",
            classes="${data.classes}",
            filter_empty=True,
            masks="${data.masks}",
        ),
        mapper=L(KeypointMapper)(
            is_train=True,
            augmentations=[
                L(T.ResizeShortestEdge)(
                    short_edge_length=[640, 672, 704, 736, 768, 800],
                    sample_style="choice",
                    max_size=1333,
                ),
                L(T.RandomFlip)(horizontal=True),
            ],
            image_format="${model.input_format}",
            keypoint_hflip_indices=L(flip_indices)(keypoints="${data.keypoints}"),
            image_range="${data.image_range}",
            cache_mib=0,  # memory of each worker, in MiB, for decoded images, which then are read only once
        ),
        total_batch_size=16,
        num_workers=4,
        repeat_threshold=0.0,  # 0.1: images of classes in less than a tenth of the images are repeated, as for LVIS
        classes="${data.classes}",
        seed="${train.seed}",
        on_bad_image="${data.on_bad_image}",
        max_bad_images="${data.max_bad_images}",
        timeout="${data.timeout}",
    ),
    test=L(build_test_loader)(
        dataset=L(load_keypoint_dataset)(
            annotations="${data.test.annotations}",
            images="${data.test.images}",
            keypoints="${data.keypoints}",
            classes="${data.classes}",
        ),
        mapper=L(KeypointMapper)(
            is_train=False,
            augmentations=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
            image_format="${model.input_format}",
            image_range="${data.image_range}",
        ),
        num_workers=4,
        on_bad_image="${data.on_bad_image}",
        max_bad_images="${data.max_bad_images}",
        timeout="${data.timeout}",
    ),
    evaluator=L(KeypointEvaluator)(
        annotations="${data.test.annotations}",
        keypoints="${data.keypoints}",
        classes="${data.classes}",
        output_dir="${train.output_dir}/inference",
        masks="${data.masks}",
        max_detections=None,  # None: COCO's, per image and class 20 for keypoints, 100 for boxes and masks
    ),
)
