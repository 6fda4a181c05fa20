"""Loaders, mappers and datasets of the user: they work, or an early one-line error says what is missing."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.structures import Boxes, Instances, Keypoints
from PIL import Image

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.config.checks.schedule import check_switches
from hrnet_kpt.config.signatures import with_labels
from hrnet_kpt.engine import train
from hrnet_kpt.engine.evaluation import validation_losses

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def sample(record):
    """A minimal mapper."""
    pixels = np.array(Image.open(record["file_name"]).convert("RGB")).transpose(2, 0, 1)
    instances = Instances(pixels.shape[1:])
    found = [a for a in record["annotations"] if not a["iscrowd"]]
    boxes = torch.tensor([a["bbox"] for a in found]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.zeros(len(found), dtype=torch.int64)
    instances.gt_keypoints = Keypoints(
        torch.tensor([a["keypoints"] for a in found]).reshape(-1, 17, 3)
    )
    return {**record, "image": torch.as_tensor(pixels), "instances": instances}


def endless(records):
    """A loader for training without any of the parameters that ours has."""
    for index in itertools.count():
        yield [sample(records[index % len(records)])]


class OwnMapper:
    def __call__(self, record):
        return {key: value for key, value in sample(record).items() if key != "instances"}


class LabellingMapper:
    def __init__(self, is_train):
        self.is_train = is_train

    def __call__(self, record):
        return sample(record) if self.is_train else OwnMapper()(record)


class OwnDataset(torch.utils.data.Dataset):
    def __init__(self, dataset):
        self.records = dataset

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]


def everything_foreign(overrides):
    cfg = load_config(PAGE, overrides)
    loaders = cfg.dataloader
    loaders.train = L(endless)(records=loaders.train.dataset)
    loaders.test = L(build_detection_test_loader)(
        dataset=L(OwnDataset)(dataset=loaders.test.dataset), mapper=L(OwnMapper)()
    )
    return cfg


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def test_loaders_of_the_user_are_enough(tiny, tmp_path):
    """`lr` in the log is optimizer.lr times the schedule, also with other rates for parts of the model."""
    cfg = everything_foreign([*tiny, "train.max_iter=3"])
    cfg.optimizer.params.lr_factors = {"backbone.bottom_up": 0.1}
    cfg.optimizer.params.layer_decay = 0.5
    assert not [finding for finding in check_config(cfg) if finding.level == "error"]
    results = train(cfg)
    assert set(results) == {"bbox", "keypoints"}
    rows = [row for row in metrics(tmp_path / "run") if "lr" in row]
    schedule = instantiate(cfg.lr_multiplier)
    expected = [cfg.optimizer.lr * schedule(row["iteration"] / 3) for row in rows]
    assert len(rows) == 3 and [row["lr"] for row in rows] == pytest.approx(expected)
    assert rows[-1]["lr/keypoint_head"] == pytest.approx(rows[-1]["lr"])
    assert rows[-1]["lr/bottom_up"] == pytest.approx(0.1 * 0.5 * rows[-1]["lr"])


@pytest.mark.slow
def test_detectron2s_loader_takes_our_mapper(tiny, tmp_path):
    cfg = load_config(PAGE, [*tiny, "train.max_iter=1", "train.eval_period=0"])
    own = cfg.dataloader.train
    cfg.dataloader.train = L(build_detection_train_loader)(
        dataset=own.dataset, mapper=own.mapper, total_batch_size=2, num_workers=0
    )
    train(cfg)
    assert (tmp_path / "run" / "model_final.pth").is_file()


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("train.validation_loss=true", "validation-impossible"),
        ("train.eval_train_images=8", "train-images-impossible"),
        ("train.max_epochs=2", "batch-unknown"),
        ("train.reference_batch_size=16", "batch-unknown"),
    ],
)
def test_a_switch_that_the_loader_does_not_support_is_an_error_before_data_are_read(
    override, name, tiny
):
    cfg = everything_foreign([*tiny, override])
    [finding] = check_switches(cfg, processes=1)
    assert (finding.level, finding.name) == ("error", name)
    assert override.partition("=")[0] in finding.keys


def losses_of(cfg):
    torch.manual_seed(0)
    return validation_losses(instantiate(cfg.model), instantiate(with_labels(cfg)))


def test_validation_losses_with_a_mapper_of_the_user(tiny):
    cfg = everything_foreign(tiny)
    cfg.dataloader.test.mapper = L(LabellingMapper)(is_train=False)
    losses = losses_of(cfg)
    assert losses["total_loss"] > 0 and {"loss_cls", "loss_keypoint"} <= set(losses)


@pytest.mark.parametrize("split", ["train", "test"])
def test_visualize_data_refuses_loaders_of_the_user(split, tiny, tmp_path):
    from hrnet_kpt.visualization.data_sheets import draw_data

    cfg = everything_foreign(tiny)
    if split == "train":
        with pytest.raises(ValueError, match=r"dataloader\.train"):
            draw_data(cfg, split, 1, 0, tmp_path / "data.png")
    else:
        cfg.dataloader.test.mapper = L(LabellingMapper)(is_train=False)
        assert draw_data(cfg, split, 1, 0, tmp_path / "data.png") == []


def test_a_predictor_names_the_mapper_that_it_cannot_use(tiny):
    from hrnet_kpt.inference import Predictor

    with pytest.raises(ValueError, match=r"dataloader\.test\.mapper"):
        Predictor(everything_foreign(tiny), "model_final.pth")


@pytest.mark.parametrize("name", ["hrnet_w18_cascade", "r50_fpn_mask"])
def test_labels_of_test_images_have_masks_where_the_training_has_them(name):
    node = with_labels(load_config(f"{name}.py"))
    assert node.dataset.masks is True and node.mapper.is_train is True


def test_validation_losses_with_masks(tiny, tmp_path):
    """Also of images without objects, which are among those of a test."""
    cfg = load_config(PAGE, [*tiny, "dataloader.test.num_workers=0"])
    heads = load_config("hrnet_w18_mask_kpt.py").model.roi_heads
    for key in ("mask_in_features", "mask_pooler", "mask_head"):
        cfg.model.roi_heads[key] = heads[key]
    cfg.model.roi_heads.mask_in_features = "${.box_in_features}"
    cfg.model.roi_heads.mask_head.conv_dims = [8, 8]
    cfg.data.masks = True
    content = json.loads(Path(cfg.data.test.annotations).read_text())
    first = content["images"][0]["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != first]
    (tmp_path / "test.json").write_text(json.dumps(content))
    cfg.data.test.annotations = str(tmp_path / "test.json")
    losses = losses_of(cfg)
    assert losses["loss_mask"] > 0 and all(np.isfinite(value) for value in losses.values())
