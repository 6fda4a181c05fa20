"""The order of images: by score, and near-duplicates behind all others."""

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.analysis.ranking import order
from hrnet_kpt.analysis.ranking.order import NEAR, SIDE, order_images, thumbnail


def test_images_that_differ_are_ordered_by_score():
    thumbnails = [np.full(12, value) for value in (0, 100, 200, 50)]
    assert order_images([1, 3, 2, 3], thumbnails) == ([1, 3, 2, 0], {})


def greedy(scores, thumbnails):
    """The same, one by one."""
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept, like = [], {}
    for index in ranked:
        differences = [
            np.sqrt(np.mean((thumbnails[index].astype(float) - thumbnails[other]) ** 2))
            for other in kept
        ]
        near = [other for other, d in zip(kept, differences, strict=True) if d < NEAR]
        if near:
            like[index] = near[0]
        else:
            kept.append(index)
    return [*kept, *like], like


@pytest.mark.parametrize("block", [1, 7, 512])
def test_near_duplicates_follow_after_all_others(block, monkeypatch):
    monkeypatch.setattr(order, "BLOCK", block)
    random = np.random.default_rng(0)
    centers = random.integers(0, 256, (9, 3 * SIDE**2))
    noise = random.normal(0, 2.5, (60, 3 * SIDE**2))  # two of one center differ by about 3.5
    thumbnails = list((centers[random.integers(0, 9, 60)] + noise).clip(0, 255).astype(np.uint8))
    scores = random.integers(0, 20, 60).tolist()
    found, like = order_images(scores, thumbnails)
    assert (found, like) == greedy(scores, thumbnails)
    assert len(like) == 51 and sorted(found) == list(range(60))


def test_thumbnails_of_photographs():
    """Compression, another size and a shift of a pixel are near; another brightness is not."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    image = coarse.resize((320, 240), Image.Resampling.BICUBIC)
    brighter = image.point(lambda value: min(255, value + 20))
    others = {
        "small": image.resize((160, 120)),
        "shifted": image.transform(image.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 0)),
        "brighter": brighter,
    }
    thumbnails = [thumbnail(image), *map(thumbnail, others.values())]
    assert thumbnails[0].shape == (3 * SIDE**2,)
    _, like = order_images([4, 3, 2, 1], thumbnails)
    assert like == {1: 0, 2: 0}
