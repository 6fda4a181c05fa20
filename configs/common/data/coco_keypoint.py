import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.evaluation import COCOEvaluator

from hrnet_kpt.data.coco import register_coco_keypoints
from hrnet_kpt.data.keypoints import flip_indices, sigmas

# These four paths are all that a new data set needs: names, flips, sigmas and counts follow from its json.
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
    keypoints="auto",
)

dataloader = dict(
    train=L(build_detection_train_loader)(
        dataset=L(get_detection_dataset_dicts)(
            names=L(register_coco_keypoints)(
                annotations="${data.train.annotations}",
                images="${data.train.images}",
                keypoints="${data.keypoints}",
            ),
            min_keypoints=1,
        ),
        mapper=L(DatasetMapper)(
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
            use_keypoint=True,
            keypoint_hflip_indices=L(flip_indices)(keypoints="${data.keypoints}"),
        ),
        total_batch_size=16,
        num_workers=4,
    ),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(
            names=L(register_coco_keypoints)(
                annotations="${data.test.annotations}",
                images="${data.test.images}",
                keypoints="${data.keypoints}",
            ),
            filter_empty=False,
        ),
        mapper=L(DatasetMapper)(
            is_train=False,
            augmentations=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
            image_format="${model.input_format}",
        ),
        num_workers=4,
    ),
    evaluator=L(COCOEvaluator)(
        dataset_name="${dataloader.test.dataset.names}",
        output_dir="${train.output_dir}/inference",  # detectron2's lazy configs write no results file
        tasks=["bbox", "keypoints"],  # both, even where the model finds nobody
        use_fast_impl=False,  # the numbers of pycocotools itself
        kpt_oks_sigmas=L(sigmas)(keypoints="${data.keypoints}"),
    ),
)
