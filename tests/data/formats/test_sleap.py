"""SLEAP files that sleap-io writes: image sequences, embedded images and videos; and files of other versions."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.data.formats import sleap
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.errors import UserError

from . import malformed

sio = pytest.importorskip("sleap_io")

NAN = (np.nan, np.nan)
BODY = ((10, 20), (30, 24), NAN)
KEYPOINTS = [10, 20, 2, 30, 24, 2, 0, 0, 0]
BOX = [6, 16, 28, 12]  # the extent is 20 x 4: 4 pixels on every side


@pytest.fixture
def skeleton():
    edges, symmetries = [("nose", "wing_a"), ("nose", "wing_b")], [("wing_a", "wing_b")]
    return sio.Skeleton(["nose", "wing_a", "wing_b"], edges=edges, symmetries=symmetries)


@pytest.fixture
def images(tmp_path):
    """A video of three image files; each has its own color and height."""
    (tmp_path / "clip").mkdir()
    paths = [tmp_path / "clip" / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (64, 48 + number), (200, 100, 50 * number)).save(path)
    return sio.Video.from_filename([str(path) for path in paths])


def user(skeleton, points=BODY):
    return sio.Instance.from_numpy(np.array(points, dtype=float), skeleton=skeleton)


def predicted(skeleton, points=BODY):
    return sio.PredictedInstance.from_numpy(np.array(points, dtype=float), skeleton=skeleton)


def frame(video, index, *instances, **more):
    return sio.LabeledFrame(video=video, frame_idx=index, instances=list(instances), **more)


def save(path, *frames, **options):
    sio.save_slp(sio.Labels(list(frames)), str(path), verbose=False, **options)
    return path


def read(path, **options):
    return sleap.read(path, Options(**options))


def found(imported, split="all"):
    """Number of the image, keypoints and box of each object."""
    annotations = imported.splits[split]["annotations"]
    return [(a["image_id"], a["keypoints"], a["bbox"]) for a in annotations]


def test_project_with_image_files(tmp_path, skeleton, images):
    hidden = user(skeleton, ((1, 2), (3, 4), (5, 8)))
    hidden.points["visible"][1] = False
    path = save(
        tmp_path / "a.slp",
        frame(images, 2, user(skeleton), hidden),
        frame(images, 0, user(skeleton)),
    )
    imported = read(path)
    (category,) = imported.categories
    assert category["keypoints"] == ["nose", "wing_a", "wing_b"]
    assert category["skeleton"] == [[1, 2], [1, 3]]
    assert category["flip_pairs"] == [["wing_a", "wing_b"]]
    # In the order of the video; sizes are those of the files.
    assert [
        (i["file_name"], i["width"], i["height"]) for i in imported.splits["all"]["images"]
    ] == [
        ("clip/0.png", 64, 48),
        ("clip/2.png", 64, 50),
    ]
    # The box of the third: the extent is 4 x 6, 1.2 pixels on every side, clipped at the left: 1 - 1.2 < 0.
    assert found(imported) == [
        (1, KEYPOINTS, BOX),
        (2, KEYPOINTS, BOX),
        (2, [1, 2, 2, 3, 4, 1, 5, 8, 2], [0, 0.8, 6.2, 8.4]),
    ]
    assert not imported.left_out and not imported.frames


def test_first_version_of_the_format_counts_from_the_corner(tmp_path, skeleton, images):
    h5py = pytest.importorskip("h5py")
    path = save(tmp_path / "a.slp", frame(images, 0, user(skeleton)))
    with h5py.File(path, "a") as file:
        file["metadata"].attrs["format_id"] = 1.0
        names = [name for name in file["instances"].dtype.names if name != "tracking_score"]
        instances = file["instances"][()][names]
        del file["instances"]
        file["instances"] = np.array(
            instances.tolist(), dtype=[(n, instances.dtype[n]) for n in names]
        )
    ((_, keypoints, _),) = found(read(path))
    assert keypoints == [9.5, 19.5, 2, 29.5, 23.5, 2, 0, 0, 0]


def test_embedded_images(tmp_path, skeleton, images):
    path = save(
        tmp_path / "a.pkg.slp",
        frame(images, 0, user(skeleton)),
        frame(images, 2, user(skeleton)),
        embed=True,
    )
    shutil.rmtree(tmp_path / "clip")
    imported = read(path)
    assert not imported.files
    assert [image["height"] for image in imported.splits["all"]["images"]] == [48, 50]
    for number, image in zip((0, 2), imported.splits["all"]["images"], strict=True):
        pixels = imported.frames[image["file_name"]]()
        assert pixels.size == (image["width"], image["height"])
        assert pixels.getpixel((5, 5)) == (200, 100, 50 * number)
    assert found(imported) == [(1, KEYPOINTS, BOX), (2, KEYPOINTS, BOX)]


def test_video(tmp_path, skeleton):
    """Beside the labels is a copy of the video, which is not where they say."""
    av = pytest.importorskip("av")
    (tmp_path / "original").mkdir()
    video = tmp_path / "original" / "my clip.mp4"
    with av.open(str(video), "w") as output:
        stream = output.add_stream("mpeg4", rate=10, width=64, height=48, pix_fmt="yuv420p")
        for brightness in (0, 0, 0, 255):
            pixels = np.full((48, 64, 3), brightness, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
    labelled = sio.Video(str(video), open_backend=False)  # without reading it each time
    frames = [frame(labelled, i, user(skeleton)) for i in (0, 3, 9)]
    (tmp_path / "copy").mkdir()
    save(tmp_path / "copy" / "a.slp", *frames)
    copy = shutil.move(video, tmp_path / "copy" / "my clip.mp4")
    imported = read(tmp_path / "copy")
    assert list(imported.frames) == ["my_clip/000000.png", "my_clip/000003.png"]
    assert [*imported.left_out.values()] == [1]  # there is no frame 9
    dark, bright = (np.asarray(read_frame()) for read_frame in imported.frames.values())
    assert dark.shape[:2] == bright.shape[:2] == (48, 64)
    assert dark.mean() < 20 and bright.mean() > 235
    copy.unlink()
    with pytest.raises(UserError, match=r"my clip\.mp4: not found: 3"):
        read(tmp_path / "copy")


def test_video_that_cannot_be_decoded(tmp_path, skeleton):
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    path = save(tmp_path / "a.slp", frame(sio.Video(str(tmp_path / "clip.mp4")), 0, user(skeleton)))
    with pytest.raises(UserError, match=r"clip\.mp4"):
        read(path)


def test_image_files_of_another_machine(tmp_path, skeleton, images):
    path = save(
        tmp_path / "a.slp", frame(images, 0, user(skeleton)), frame(images, 1, user(skeleton))
    )
    (tmp_path / "elsewhere" / "clip").mkdir(parents=True)
    shutil.move(path, tmp_path / "elsewhere" / "a.slp")
    shutil.move(tmp_path / "clip" / "1.png", tmp_path / "elsewhere" / "clip" / "1.png")
    shutil.rmtree(tmp_path / "clip")
    imported = read(tmp_path / "elsewhere" / "a.slp")
    assert [image["file_name"] for image in imported.splits["all"]["images"]] == ["clip/1.png"]
    assert imported.left_out["labelled images that are not there"] == 1
    assert sleap.find_file("D:\\data\\clip\\1.png", tmp_path / "elsewhere") == (
        tmp_path / "elsewhere" / "clip" / "1.png"
    )


def test_predictions_count_only_without_other_labels(tmp_path, skeleton, images):
    frames = [
        frame(images, 0, user(skeleton), predicted(skeleton)),
        frame(images, 1, predicted(skeleton)),
        frame(images, 2, is_negative=True),
    ]
    imported = read(save(tmp_path / "a.slp", *frames))
    # The third was marked as an image without animals.
    assert [i["file_name"] for i in imported.splits["all"]["images"]] == [
        "clip/0.png",
        "clip/2.png",
    ]
    assert found(imported) == [(1, KEYPOINTS, BOX)]
    assert imported.left_out == {"predicted instances": 2, "frames without a labelled instance": 1}

    imported = read(save(tmp_path / "b.slp", frame(images, 1, predicted(skeleton))))
    assert found(imported) == [(1, KEYPOINTS, BOX)]
    assert sorted(imported.assumed.values()) == [1, 1]  # the prediction, and its box


def test_boxes_of_instances_are_taken_and_other_things_counted(tmp_path, skeleton, images):
    first, second = user(skeleton), user(skeleton)
    labelled = frame(images, 0, first, second)
    labelled.bboxes += [
        sio.UserBoundingBox(5, 6, 35, 30, instance=first),
        sio.UserBoundingBox(1, 2, 3, 4),
    ]
    labelled.centroids.append(sio.UserCentroid(1, 2))
    labelled.masks.append(sio.UserSegmentationMask.from_numpy(np.ones((48, 64), bool)))
    imported = read(save(tmp_path / "a.slp", labelled))
    assert found(imported) == [(1, KEYPOINTS, [5, 6, 30, 24]), (1, KEYPOINTS, BOX)]
    assert sorted(imported.left_out.values()) == [1, 1, 1]


def test_splits_of_a_folder(tmp_path, skeleton, images):
    folder = tmp_path / "package"
    folder.mkdir()
    for index, name in enumerate(("train", "val", "test")):
        save(folder / f"{name}.pkg.slp", frame(images, index, user(skeleton)), embed=True)
    imported = read(folder)
    assert set(imported.splits) == {"train", "val", "test"}
    for number, split in enumerate(("train", "val", "test"), 1):
        assert found(imported, split) == [(number, KEYPOINTS, BOX)]
    assert len(imported.categories) == 1 and len(imported.frames) == 3
    shutil.copy(folder / "train.pkg.slp", folder / "backup.slp")
    with pytest.raises(UserError, match=r"backup\.slp"):
        read(folder)


def test_skeletons_are_categories(tmp_path, skeleton, images):
    skeleton.name, other = "fly", sio.Skeleton(["head", "nose"], name="mouse")
    path = save(tmp_path / "a.slp", frame(images, 0, user(skeleton), user(other, ((1, 1), (3, 1)))))
    imported = read(path)
    assert [(c["name"], c["keypoints"]) for c in imported.categories] == [
        ("fly", ["nose", "wing_a", "wing_b"]),
        ("mouse", ["head", "nose"]),
    ]
    assert [a["category_id"] for a in imported.splits["all"]["annotations"]] == [1, 2]
    imported = read(path, ignore=("wing_a",))
    assert imported.categories[0]["keypoints"] == ["nose", "wing_b"]
    assert imported.categories[0]["skeleton"] == [[1, 2]]
    assert "flip_pairs" not in imported.categories[0]
    assert imported.left_out == {"points called wing_a": 1}


def test_recognize(tmp_path, skeleton, images):
    path = save(tmp_path / "labels.v001.slp", frame(images, 0, user(skeleton)))
    (tmp_path / "clip" / "text.slp").write_text("no HDF5")
    assert sleap.recognize(path) == sleap.recognize(tmp_path) == "labels.v001.slp"
    for other in (tmp_path / "clip", tmp_path / "clip" / "0.png", tmp_path / "none"):
        assert sleap.recognize(other) == ""


def test_wrong_input(tmp_path, skeleton, images, monkeypatch):
    (tmp_path / "text.slp").write_text("no HDF5")
    with pytest.raises(UserError, match=r"text\.slp"):
        read(tmp_path / "text.slp")
    with pytest.raises(UserError, match="no frames"):
        (tmp_path / "no frames").mkdir()
        read(tmp_path / "no frames")
    path = save(tmp_path / "a.slp", frame(images, 0, user(skeleton, (NAN, NAN, NAN))))
    with pytest.raises(UserError, match=r"a\.slp"):
        read(path)
    monkeypatch.setitem(sys.modules, "sleap_io", None)
    with pytest.raises(UserError, match=r'pip install "hrnet_kpt\[formats\]"'):
        read(path)


def test_malformed_project_is_refused_in_one_line(tmp_path, skeleton, images):
    save(
        tmp_path / "a.slp", frame(images, 0, user(skeleton)), frame(images, 2, predicted(skeleton))
    )
    malformed.check(tmp_path, lambda: read(tmp_path / "a.slp"), suffixes={".slp"})


def test_malformed_package_is_refused_in_one_line(tmp_path, skeleton, images):
    save(tmp_path / "a.pkg.slp", frame(images, 0, user(skeleton)), embed=True)

    def read_all():
        imported = read(tmp_path / "a.pkg.slp")
        for read_frame in imported.frames.values():
            assert min(read_frame().size) > 0
        return imported

    malformed.check(tmp_path, read_all, suffixes={".slp"})
