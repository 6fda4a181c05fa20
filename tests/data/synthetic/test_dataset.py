"""The files of synthetic people: statistics of the annotations and the images."""

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from hrnet_kpt.data import COCO_PERSON
from hrnet_kpt.data.synthetic import write_synthetic_people

SIZE = 192
NAMES = list(COCO_PERSON.names)
BONES = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
LIMBS = [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in BONES]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    write_synthetic_people(str(folder), num_train=120, num_test=40, image_size=SIZE)
    return folder


@pytest.fixture(scope="module")
def splits(root):
    return {split: COCO(str(root / f"{split}.json")) for split in ("train", "test")}


@pytest.fixture(scope="module")
def people(splits):
    return [person for coco in splits.values() for person in coco.anns.values()]


def keypoints(person):
    return np.array(person["keypoints"], dtype=float).reshape(17, 3)


def pixels(root, split, coco, image_id):
    return np.asarray(Image.open(root / split / coco.imgs[image_id]["file_name"]).convert("RGB"))


def test_files_and_ids(root, splits):
    for split, count in (("train", 120), ("test", 40)):
        coco = splits[split]
        assert len(coco.imgs) == count
        listed = {image["file_name"] for image in coco.imgs.values()}
        assert listed == {path.name for path in (root / split).iterdir()}
        assert coco.dataset["categories"][0]["name"] == "person"
        assert coco.dataset["categories"][0]["keypoints"] == NAMES
        bones = {(NAMES[a - 1], NAMES[b - 1]) for a, b in coco.dataset["categories"][0]["skeleton"]}
        assert bones == set(COCO_PERSON.skeleton)
        assert len(coco.anns) == len(coco.dataset["annotations"])
        for image_id in coco.imgs:
            assert pixels(root, split, coco, image_id).shape == (SIZE, SIZE, 3)
    assert not list(root.glob("*.unfinished"))


def test_people_per_image(splits):
    counts = [len(coco.imgToAnns[i]) for coco in splits.values() for i in coco.imgs]
    assert set(counts) == {1, 2, 3, 4}
    assert 1.8 <= np.mean(counts) <= 2.2


def test_at_least_a_quarter_overlap_another(splits):
    overlapping = []
    for coco in splits.values():
        for image_id in coco.imgs:
            boxes = np.array([person["bbox"] for person in coco.imgToAnns[image_id]])
            low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
            both = (np.minimum(high[:, None], high) > np.maximum(low[:, None], low)).all(axis=2)
            overlapping += (both.sum(axis=1) > 1).tolist()  # each overlaps itself
    assert 0.25 <= np.mean(overlapping) <= 0.6


def test_heights_from_a_quarter_to_all_of_the_image(people):
    heights = np.array([person["bbox"][3] for person in people]) / SIZE
    assert heights.min() >= 0.25
    assert heights.max() > 0.97
    assert np.mean(heights < 0.4) > 0.2 and np.mean(heights > 0.7) > 0.1


def test_figures_have_bodies(people):
    fractions = [person["area"] / (person["bbox"][2] * person["bbox"][3]) for person in people]
    assert 0.30 <= np.mean(fractions) <= 0.45
    assert min(fractions) > 0.05


def test_masks_areas_and_boxes_agree(splits):
    for coco in splits.values():
        for image_id in coco.imgs:
            masks = []
            for person in coco.imgToAnns[image_id]:
                mask = coco.annToMask(person)
                rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                x, y, width, height = person["bbox"]
                assert mask.shape == (SIZE, SIZE) and mask.sum() == person["area"]
                assert (x, y) == (columns[0], rows[0])
                assert (x + width, y + height) == (columns[-1] + 1, rows[-1] + 1)
                assert person["category_id"] == 1 and person["iscrowd"] == 0
                masks.append(mask)
            assert np.sum(masks, axis=0).max() <= 1  # a pixel shows one person only


def test_visibility_flags(splits, people):
    flags = np.array([keypoints(person)[:, 2] for person in people])
    outside, occluded, visible = (np.mean(flags == flag) for flag in (0, 1, 2))
    assert 0.005 < outside < 0.1 and 0.1 < occluded < 0.3 and visible > 0.65
    visible_on_mask, occluded_off_mask = [], []
    for coco in splits.values():
        for person in coco.anns.values():
            points = keypoints(person)
            outside = points[:, 2] == 0
            assert (points[outside] == 0).all()
            assert person["num_keypoints"] == (~outside).sum() >= 5
            inside = points[~outside]
            assert (inside[:, :2] >= 0).all() and (inside[:, :2] <= SIZE - 0.5).all()
            assert (inside[:, :2].max(axis=1) > 0).all()
            mask = np.pad(coco.annToMask(person), 1)
            for x, y, flag in inside:
                column, row = int(x + 0.5), int(y + 0.5)  # of the pixel that holds the point
                near = mask[row : row + 3, column : column + 3].any()
                (visible_on_mask if flag == 2 else occluded_off_mask).append(near == (flag == 2))
    assert all(visible_on_mask)
    assert np.mean(occluded_off_mask) > 0.1  # behind other people and objects


def test_people_face_either_way(people):
    """From behind, a left shoulder is on the left and the face is occluded."""
    left, right = NAMES.index("left_shoulder"), NAMES.index("right_shoulder")
    points = np.array([keypoints(person) for person in people])
    points = points[(points[:, [left, right], 2] > 0).all(axis=1)]
    away = points[:, left, 0] < points[:, right, 0] - 4
    assert 0.1 < away.mean() < 0.45
    assert np.mean(points[away][:, 0, 2] == 2) < 0.15
    towards = points[:, left, 0] > points[:, right, 0] + 4
    assert np.mean(points[towards][:, 0, 2] == 2) > 0.7


def seams(image, points):
    """For each visible limb: whether it is a left one, and how much lighter its left edge is, seen outwards."""
    found = []
    for start, end in LIMBS:
        first, last = points[NAMES.index(start)], points[NAMES.index(end)]
        along = (last - first)[:2]
        length = np.hypot(*along)
        if min(first[2], last[2]) < 2 or length < 0.1 * np.ptp(points[points[:, 2] > 0, 1]):
            continue
        to_left = np.array([along[1], -along[0]]) / length
        means = []
        for edge in (1, -1):
            line = first[:2] + np.outer(np.linspace(0.2, 0.8, 13), along)
            line = np.rint(line + edge * to_left * length * 0.11).astype(int).clip(0, SIZE - 1)
            means.append(image[line[:, 1], line[:, 0]].mean())
        found.append((start.startswith("left"), means[0] - means[1]))
    return found


@pytest.mark.parametrize("mirrored", [False, True])
def test_left_and_right_limbs_differ_in_the_pixels(root, splits, mirrored):
    """Also after training has flipped the image and swapped the labels; also for the smallest people."""
    found = {True: [], False: []}
    for split, coco in splits.items():
        for image_id in coco.imgs:
            image = pixels(root, split, coco, image_id).astype(float)
            if mirrored:
                image = image[:, ::-1]
            for person in coco.imgToAnns[image_id]:
                points = keypoints(person)
                if mirrored:
                    points[:, 0] = SIZE - 1 - points[:, 0]
                    points = points[COCO_PERSON.flip_indices]
                found[person["bbox"][3] < 0.35 * SIZE] += seams(image, points)
    for small, limbs in found.items():
        assert len(limbs) > 200
        assert np.mean([(lighter > 0) == left for left, lighter in limbs]) > 0.9, small
        contrast = [lighter if left else -lighter for left, lighter in limbs]
        assert np.median(contrast) > 50, small


def test_images_and_figures_differ(root, splits):
    """No two images have the same corner, and no two people the same pose."""
    corners, poses = [], []
    for split, coco in splits.items():
        corners += [pixels(root, split, coco, i)[:8, :8].tobytes() for i in coco.imgs]
        for person in coco.anns.values():
            points = keypoints(person)
            points = points[points[:, 2] > 0, :2]
            pose = ((points - points[0]) / person["bbox"][3]).round(2) + 0.0  # no negative zeros
            poses.append(pose.tobytes())
    assert len(set(corners)) == len(corners) and len(set(poses)) == len(poses)
