"""A survey and a machine to choose values for."""

import numpy as np
import pytest

from hrnet_kpt.analysis.new_config.machine import Machine
from hrnet_kpt.analysis.new_config.survey import Survey


@pytest.fixture
def survey_of():
    """Function that makes a Survey of boxes, one in each image, and changes some of its attributes."""

    def survey_of(boxes, image=(640, 480), **changes):
        count = len(boxes)
        facts = {
            "image_sizes": np.array([image] * count),
            "box_sizes": np.array(boxes, dtype=float),
            "box_image": np.arange(count),
            "class_objects": {"mouse": count},
            "class_images": {"mouse": count},
            "most_objects": 1,
            "most_of_class": 1,
            "test_images": 20,
            "test_objects": 20,
            "keypoints": ("nose", "tail"),
        }
        return Survey(**facts | changes)

    return survey_of


@pytest.fixture
def machine_of():
    """Function that makes a Machine, a CPU of two cores, and changes some of its attributes."""

    def machine_of(**changes):
        facts = {
            "device": "cpu",
            "name": "Some CPU",
            "cores": 2,
            "threads": 2,
            "bfloat16": False,
            "memory": 0.0,
            "torch": "2.9.1",
        }
        return Machine(**facts | changes)

    return machine_of
