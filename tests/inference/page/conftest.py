"""A model whose predictions are known, and images for it."""

import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from hrnet_kpt.evaluation.calibration import Calibration
from hrnet_kpt.inference.page.model import SharedModel
from hrnet_kpt.inference.predictor import Prediction
from hrnet_kpt.visualization.video import VideoInfo, write_video

STEP = 50  # gray value of an image for each object in it


class PlannedPredictor:
    """In place of a Predictor: finds as many objects as the image is bright, with scores of 0.9, 0.75, 0.6, ...

    Object i is i + 1 times 40 pixels away from the left. The confidences of its keypoints go from 0.1 to 0.9.
    """

    image_range = "8-bit"

    def __init__(self, names, offset=0.0):
        self.names, self.offset = names, offset
        self.calls, self.seconds = 0, 0.0

    def __call__(self, images):
        return [self.predict(np.asarray(image)) for image in images]

    def predict(self, image):
        self.calls += 1
        time.sleep(self.seconds)
        height, width = image.shape[:2]
        num = round(float(image.mean()) / STEP)
        confidences = torch.linspace(0.1, 0.9, len(self.names))
        left = 40.0 * torch.arange(1, num + 1) - 30
        x = left[:, None] + torch.linspace(0, 30, len(self.names))
        y = torch.linspace(10, 70, len(self.names)).expand_as(x)
        scores = confidences / (1 - confidences)  # the inverse of this calibration
        instances = Instances((height, width))
        boxes = [left, torch.full_like(left, 10), left + 30, torch.full_like(left, 70)]
        instances.pred_boxes = Boxes(torch.stack(boxes, dim=1))
        instances.scores = 0.9 - self.offset - 0.15 * torch.arange(num)
        instances.pred_classes = torch.zeros(num, dtype=torch.long)
        instances.pred_keypoints = torch.stack([x, y, scores.expand_as(x)], dim=2)
        return Prediction(
            instances, {"person": self.names}, self.names, Calibration(slope=1.0, offset=0.0)
        )


@pytest.fixture(scope="session")
def real_model(run_folder):
    return SharedModel(run_folder)


@pytest.fixture
def model(run_folder, real_model):
    """A SharedModel with planned predictions, lower by 0.05 with mirrored augmentation."""
    new = object.__new__(SharedModel)
    vars(new).update(vars(real_model))
    names = list(new.schema.names)
    new.predictors = {False: PlannedPredictor(names), True: PlannedPredictor(names, 0.05)}
    new.min_score = 0.05
    return new


@pytest.fixture(scope="session")
def gray():
    """Function of a number of objects and a size: an image in which the planned predictor finds them."""
    return lambda num, size=(240, 160): Image.new("RGB", size, (STEP * num,) * 3)


@pytest.fixture
def image_file(gray, tmp_path):
    """Function of a name and a number of objects, which writes an image."""

    def image_file(name, num):
        gray(num).save(tmp_path / name)
        return tmp_path / name

    return image_file


@pytest.fixture
def video_file(gray, tmp_path):
    """Function of a name and the numbers of objects in the frames, which writes a video."""

    def video_file(name, nums):
        like = VideoInfo(rate=Fraction(25), time_base=Fraction(1, 1000))
        with write_video(tmp_path / name, (240, 160), like) as writer:
            for i, num in enumerate(nums):
                writer.write(gray(num), Fraction(i, 25), Fraction(1, 25))
        return tmp_path / name

    return video_file
