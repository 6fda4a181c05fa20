"""Readers of labels beside an image."""

import pytest
from PIL import Image

from hrnet_kpt.data.formats import label_studio as label_studio_format
from hrnet_kpt.data.formats import labelme as labelme_format

from .labels import SIZE, reader


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder with an image, a.jpg."""
    folder = tmp_path_factory.mktemp("photographs")
    Image.new("RGB", SIZE).save(folder / "a.jpg")
    return folder


@pytest.fixture(scope="module")
def label_studio(photographs):
    """Function of tasks and options: what is read from an export beside a.jpg."""
    return reader(label_studio_format, photographs / "export.json")


@pytest.fixture(scope="module")
def labelme(photographs):
    """The same of a labelme file."""
    return reader(labelme_format, photographs / "a.json")
