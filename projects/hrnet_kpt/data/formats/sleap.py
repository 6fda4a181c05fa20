"""SLEAP projects and packages (.slp, .pkg.slp), read by sleap-io."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UserError, join_names, one_line
from .imported import Imported, Options
from .keypoint_objects import choose_keypoints, set_boxes

NAME = "sleap"
TITLE = "SLEAP project"
HDF5 = b"\x89HDF\r\n\x1a\n"
# As in train.pkg.slp, labels_gt.val.slp and labels_train_gt_0.slp.
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS["test"] = "test"


def recognize(path: Path) -> str:
    """The names of the .slp files of a folder, or of the file; "" if there is none."""
    try:
        names = []
        for file in sorted(path.glob("*.slp")) if path.is_dir() else [path]:
            if file.suffix == ".slp":
                with file.open("rb") as stream:
                    names += [file.name] * (stream.read(len(HDF5)) == HDF5)
    except (OSError, ValueError):
        return ""
    return join_names(names, 3)


def read(path: Path, options: Options) -> Imported:
    """Read a .slp file; or a folder with one, or with train, val and test files, which become splits.

    Instances that a person labelled are objects, with the box that belongs to them if there is one; predicted instances
    only if there are no others. Points that are not visible have v = 1. Frames of videos and images in the file become
    `Imported.frames`.

    Coordinates are taken as they are: since version 1.1 of the format the center of the first pixel is 0, 0
    (`LabelsV1Adaptor` in sleap/io/format/hdf5.py: "midpixel coordinates, top left corner at (-0.5, -0.5)"); sleap-io
    subtracts 0.5 from those of older files.

    Raises:
        UserError: If sleap-io is not installed, a file cannot be read, or there is no labelled frame with an image.
    """
    splits = _split_files(path)
    labels = {split: _load(file) for split, file in splits.items()}
    data = Imported(path if path.is_dir() else path.parent)
    frames = [frame for content in labels.values() for frame in content.labeled_frames]
    by_people = any(frame.user_instances for frame in frames)
    if frames and not by_people:
        data.assumed["frames without a person's labels: the predicted instances are taken"] = len(
            frames
        )
    categories = _Categories(data, labels.values(), options, str(path))
    for split, content in labels.items():
        videos = [_Frames(video, splits[split].parent) for video in content.videos]
        order = {id(video): index for index, video in enumerate(content.videos)}
        for frame in sorted(
            content.labeled_frames, key=lambda f: (order[id(f.video)], f.frame_idx)
        ):
            instances = frame.user_instances if by_people else frame.predicted_instances
            _leave_out(data, "predicted instances", len(frame.instances) - len(instances))
            boxes = _boxes(frame, data)
            objects = [
                (*found, boxes.get(id(instance)))
                for instance in instances
                if (found := categories.object_of(instance)) is not None
            ]
            _leave_out(data, "instances without a labelled point", len(instances) - len(objects))
            if not objects and not frame.is_negative:
                _leave_out(data, "frames without a labelled instance", 1)
                continue
            image = videos[order[id(frame.video)]].add_to(data, split, int(frame.frame_idx))
            if image is not None:
                for category, points, box in objects:
                    data.add_object(split, image, category, box, points)
    if not data.files and not data.frames:
        reasons = "; ".join(f"{what}: {count}" for what, count in data.left_out.items())
        raise UserError(
            f"{path}: no labelled frame with an image{f' ({reasons})' if reasons else ''}"
        )
    set_boxes(data, options)
    return data


def _boxes(frame: Any, data: Imported) -> dict[int, tuple[float, float, float, float]]:
    """x0, y0, x1, y1 of the upright boxes that belong to instances, by these; what else was drawn is counted.

    sleap-io reads and writes COCO's boxes without a shift: they count from the corner.
    """
    boxes = {
        id(box.instance): (box.x1, box.y1, box.x2, box.y2)
        for box in frame.bboxes
        if box.instance is not None and not box.is_predicted and box.angle == 0
        if 0 < box.x2 - box.x1 < math.inf and 0 < box.y2 - box.y1 < math.inf
    }
    _leave_out(
        data,
        "boxes that are rotated, predicted, empty or of no instance",
        len(frame.bboxes) - len(boxes),
    )
    _leave_out(data, "centroids", len(frame.centroids))
    _leave_out(data, "masks", len(frame.masks) + len(frame.label_images))
    _leave_out(data, "regions", len(frame.rois))
    return boxes


def _leave_out(data: Imported, what: str, count: int) -> None:
    if count:
        data.left_out[what] += count


def _split_files(path: Path) -> dict[str, Path]:
    """The file of each split; that of "all" if the files do not name splits."""
    if not path.is_dir():
        return {"all": path}
    files = sorted(path.glob("*.slp"))
    names = join_names([file.name for file in files])
    if len(files) == 1:
        return {"all": files[0]}
    splits: dict[str, Path] = {}
    for file in files:
        found = {SPLITS[part] for part in re.split(r"[\W_]", file.name.lower()) if part in SPLITS}
        if len(found) != 1 or not splits.keys().isdisjoint(found):
            raise UserError(
                f"{path} has several .slp files, which are not one for each of train, val and test: {names}: "
                "give one of them"
            )
        splits[found.pop()] = file
    if not splits:
        raise UserError(f"{path} has no .slp file")
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def _load(path: Path) -> Any:
    try:
        import sleap_io
    except ImportError:
        raise UserError(
            f'{path}: reading SLEAP files needs sleap-io: pip install "hrnet_kpt[formats]"'
        ) from None
    try:
        labels = sleap_io.load_slp(str(path))
        # What is read later on would fail later on.
        for skeleton in labels.skeletons:
            _ = skeleton.node_names, skeleton.edge_names, skeleton.symmetry_names
        return labels
    except Exception as error:  # a damaged file leads to any of them
        raise UserError(
            f"{path} cannot be read by sleap-io {sleap_io.__version__}: {one_line(error)}"
        ) from error


class _Categories:
    """The categories: one for each skeleton, and for each class of its instances."""

    def __init__(self, data: Imported, labels: Iterable[Any], options: Options, where: str) -> None:
        self.data = data
        found = {tuple(skeleton.node_names) for content in labels for skeleton in content.skeletons}
        for nodes in found:
            if len(set(nodes)) != len(nodes):
                raise UserError(
                    f"{where}: a skeleton has two nodes of one name: {join_names(nodes)}"
                )
        self.chosen = choose_keypoints({nodes: nodes for nodes in sorted(found)}, options, where)
        self.ids: dict[tuple[str, tuple[str, ...]], int] = {}

    def object_of(self, instance: Any) -> tuple[int, np.ndarray] | None:
        """The category and the keypoints (K, 3) of an instance; None if no keypoint is labelled."""
        nodes = tuple(instance.skeleton.node_names)
        names = self.chosen.get(nodes, [])
        points = np.zeros((len(names), 3))
        for node, (x, y), visible in zip(
            nodes, instance.points["xy"].tolist(), instance.points["visible"], strict=True
        ):
            if not math.isfinite(x) or not math.isfinite(y):
                continue
            if node in names:
                points[names.index(node)] = x, y, 2 if visible else 1
            else:
                self.data.left_out[f"points called {node}"] += 1
        if not points[:, 2].any():
            return None
        label = getattr(instance.category, "name", None) or instance.skeleton.name or ""
        key = (str(label), nodes)
        if key not in self.ids:
            self.ids[key] = self._add(str(label), names, instance.skeleton)
        return self.ids[key], points

    def _add(self, label: str, names: list[str], skeleton: Any) -> int:
        categories = self.data.categories
        # SLEAP's own names of skeletons say nothing.
        name = base = "animal" if re.fullmatch(r"(Skeleton-\d+)?", label) else label
        number = 1
        while any(category["name"] == name for category in categories):
            number += 1
            name = f"{base} {number}"
        category = {
            "id": len(categories) + 1,
            "name": name,
            "keypoints": names,
            "skeleton": [
                [names.index(a) + 1, names.index(b) + 1]
                for a, b in skeleton.edge_names
                if a in names and b in names
            ],
        }
        pairs = [pair for pair in skeleton.symmetry_names if set(pair) <= set(names)]
        if pairs:
            category["flip_pairs"] = [list(pair) for pair in pairs]
        categories.append(category)
        return len(categories)


class _Frames:
    """The frames of a video, of a sequence of image files, or of the images in a .pkg.slp."""

    def __init__(self, video: Any, folder: Path) -> None:
        self.video, self.folder = video, folder
        source = video.original_video or video
        names = source.filename if isinstance(source.filename, list) else [source.filename]
        self.title = PurePosixPath(str(names[0]).replace("\\", "/")).name if names else "video"
        self.series = re.sub(r"[^\w.-]", "_", PurePosixPath(self.title).stem) or "video"
        self.problem = "" if isinstance(video.filename, list) else self._open()

    def _open(self) -> str:
        """Open the video; return why it cannot be."""
        name = str(self.video.filename)
        if self.video.backend is not None and os.path.exists(name):
            return ""
        path = find_file(name, self.folder)
        if path is None:
            return "not found"
        try:
            self.video.open(str(path))
        except Exception as error:  # depends on the package that reads the video
            return one_line(error)
        return ""

    def add_to(self, data: Imported, split: str, index: int) -> int | None:
        """Add a frame and return the image's id; None if it is not there, which is counted."""
        if isinstance(self.video.filename, list):
            names = self.video.filename
            path = find_file(str(names[index]), self.folder) if index < len(names) else None
            if path is None:
                data.left_out["labelled images that are not there"] += 1
                return None
            return data.add_image(split, path)
        problem, size = self.problem, (0, 0)
        if not problem:
            try:
                size = self._size(index)
            except Exception as error:  # depends on the package that reads the video
                problem = one_line(error)
        if problem:
            data.left_out[f"labelled frames of {self.title}: {problem}"] += 1
            return None
        path = data.root / self.series / f"{index:06d}.png"
        return data.add_frame(split, path, size, partial(self.read, index))

    def _size(self, index: int) -> tuple[int, int]:
        """Width and height of a frame in pixels; without decoding it, if it is an image in the file."""
        backend = self.video.backend
        if not backend.has_frame(index):
            raise UserError("it has no such frame")
        raw = getattr(backend, "get_frame_raw_bytes", lambda _: None)(index)
        if raw is not None:
            with Image.open(io.BytesIO(np.asarray(raw).tobytes())) as image:
                return image.size
        _, height, width, _ = self.video.shape
        return int(width), int(height)

    def read(self, index: int) -> Image.Image:
        """Decode a frame.

        Raises:
            UserError: If that fails.
        """
        try:
            pixels = np.asarray(self.video[index])
            return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        except Exception as error:  # depends on the package that reads the video
            raise UserError(
                f"frame {index} of {self.title} cannot be read: {one_line(error)}"
            ) from error


def find_file(name: str, folder: Path) -> Path | None:
    """A file that a project names: where it says, or at the end of that path below the project's folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    for path in _places(name, [part for part in parts if part not in ("..", "/")], folder):
        if os.path.isfile(path):
            return path
    return None


def _places(name: str, parts: list[str], folder: Path) -> Iterator[Path]:
    yield folder / name  # the name itself, if it is absolute
    for start in range(len(parts)):
        yield folder.joinpath(*parts[start:])
