import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from hrnet_kpt.data.categories import flip_indices
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.loaders import build_test_loader, build_train_loader
from hrnet_kpt.data.mapper import KeypointMapper
from hrnet_kpt.evaluation.evaluator import KeypointEvaluator

# The four paths are all that a new data set needs: what `auto` stands for is read from the json's categories.
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
    keypoints="auto",  # or an L(KeypointSchema)(names, flip_pairs, skeleton, sigmas)
    classes="auto",  # or a mapping: the names of the classes, each with a list of its keypoints' names
    masks=False,  # True: outlines are read, for a mask head, and masks evaluated
    share_keypoints=True,  # a keypoint that two classes name alike is one; False: each class has its own
    on_bad_image="fail",  # or "skip": go on without images that cannot be used
    image_range="auto",  # for images of more than 8 bits; or [low, high]: the values of black and of white
    max_bad_images=100,  # how many files may be skipped before the run fails after all
    timeout=600.0,  # seconds that a run waits for an image from its workers before it fails; 0: no limit
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
        ),
        total_batch_size=16,
        num_workers=4,
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
        max_detections=None,  # COCO's: 20 an image and class for keypoints, 100 for boxes and masks
    ),
)
