"""Identities of the objects in a video: ByteTrack, with keypoints and colors beside boxes to tell objects apart.

The tracker is that of the package trackers (Zhang et al., 2022, https://arxiv.org/abs/2110.06864). It looks at past
frames only.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou
from numpy.typing import ArrayLike
from PIL import Image

from ...data.schema import KeypointSchema
from ...errors import UserError
from ..tta_merging import object_keypoint_similarity
from .smoothing import KeypointSmoother
from .stream import Entry, Problem, Task

Found = dict[str, Any]  # an object of `Prediction.objects`
Colors = dict[tuple[str, str], np.ndarray]  # RGB by bone

# Scores of a box that starts a track, and of one that is matched first.
START_SCORE, FIRST_SCORE = 0.5, 0.5
MIN_SIMILARITY = 0.2
WEIGHTS = (1.0, 1.0, 3.0)  # of IoU, OKS and color similarity
DUPLICATE = 0.5  # OKS of two objects that are one
MAX_OVERLAP = 0.05  # IoU with another object up to which colors are learned
MEMORY = 2.0  # seconds after which an object that is not seen is forgotten
MIN_CONFIDENCE, MIN_KEYPOINTS, MIN_BONES = 0.3, 3, 3  # of keypoints and bones that are compared
# Side of the square around the middle of a bone, as a fraction of the object's size; difference of two colors, from 0
# to 255, at which they are as alike as not; weight of a new color in a track's.
PATCH, COLOR_SCALE, COLOR_WEIGHT = 0.06, 70.0, 0.2
FRAME_RATE_OF_TRACKERS = 30.0  # which the package counts its buffer in
# Frames whose small images differ by more, in the mean of all values from 0 to 255, show different scenes.
THUMBNAIL, CUT = (32, 32), 30.0


def has_tracking() -> bool:
    """Whether the package trackers is installed."""
    return find_spec("trackers") is not None


def require_tracking() -> None:
    """Raise UserError if the package trackers is not installed."""
    if not has_tracking():
        raise UserError('--track needs the package trackers: pip install "hrnet_kpt[track]"')


def track_samples(
    entries: Generator[Entry, None, None], schema: KeypointSchema, smooth: bool
) -> Generator[Entry, None, None]:
    """Add ids to the objects of the frames of videos, and smooth their keypoints with `smooth`.

    Each video must be complete: the frames that an interrupted run has recorded set up the tracker for the others.
    Closes `entries` when it is closed.
    """
    task: Task | None = None
    with closing(entries):
        for entry in entries:
            if (
                not isinstance(entry, Problem)
                and entry.frame is not None
                and entry.info is not None
            ):
                if entry.task is not task:
                    task = entry.task
                    tracker = VideoTracker(schema, float(entry.info.rate), smooth)
                assert entry.objects is not None
                tracker.update(entry.objects, entry.image, float(entry.frame.time))
            yield entry


class VideoTracker:
    """Gives the objects of successive frames of a video ids, from 1 on.

    An object has an `id` from the second frame on in which it is found. One that is hidden for less than MEMORY seconds
    keeps its id; one that returns later, or after a cut, has a new one. Classes are tracked apart.

    Args:
        schema: Of the keypoints.
        rate: Frames per second.
        smooth: Whether to smooth the keypoints of objects with an id.
    """

    def __init__(self, schema: KeypointSchema, rate: float, smooth: bool = False) -> None:
        self.schema, self.rate = schema, rate
        self.num_ids = 0
        self.trackers: dict[str, _ClassTracker] = {}
        self.smoother = KeypointSmoother() if smooth else None
        self.thumbnail: np.ndarray | None = None

    def update(self, objects: Sequence[Found], image: Image.Image, time: float) -> None:
        """Add ids to the objects of the next frame, and smooth their keypoints, in place.

        Objects that have been through this already, from a record, get the same again.

        Args:
            objects: As `Prediction.objects`.
            image: The frame, in RGB.
            time: Of the frame, in seconds.
        """
        for found in objects:
            found.pop("id", None)
            if "raw_keypoints" in found:
                found["keypoints"] = found.pop("raw_keypoints")
        before = self.thumbnail
        self.thumbnail = np.asarray(image.resize(THUMBNAIL), dtype=np.int16)
        if before is not None and np.abs(self.thumbnail - before).mean() > CUT:
            self.trackers = {}
        pixels = np.asarray(image)
        for name in sorted({*self.trackers, *(found["class"] for found in objects)}):
            if name not in self.trackers:
                self.trackers[name] = _ClassTracker(self.schema, self.rate)
            own = [found for found in objects if found["class"] == name]
            self.num_ids = self.trackers[name].update(own, pixels, self.num_ids)
        if self.smoother is not None:
            self.smoother.update(objects, time)


class _ClassTracker:
    """The tracker of the objects of one class."""

    def __init__(self, schema: KeypointSchema, rate: float) -> None:
        from trackers import ByteTrackTracker

        self.ids: dict[int, int] = {}  # by those of the package
        self.similarity = _Similarity(schema)
        self.tracker: Any = ByteTrackTracker(
            lost_track_buffer=round(MEMORY * FRAME_RATE_OF_TRACKERS),
            frame_rate=rate,
            track_activation_threshold=START_SCORE,
            minimum_consecutive_frames=2,
            minimum_iou_threshold=MIN_SIMILARITY,
            high_conf_det_threshold=FIRST_SCORE,
            iou=cast(Any, self.similarity),
        )

    def update(self, objects: Sequence[Found], pixels: np.ndarray, num_ids: int) -> int:
        """Add the ids to the objects of a frame, in place; return how many ids there are now."""
        import supervision as sv

        objects = self.similarity.without_duplicates(objects)
        boxes = np.array([found["box"] for found in objects], dtype=float).reshape(-1, 4)
        self.similarity.start(self.tracker.tracks, objects, pixels)
        scores = np.array([found["score"] for found in objects], dtype=float)
        detections = sv.Detections(boxes, confidence=scores, data={"index": np.arange(len(boxes))})
        result = self.tracker.update(detections)
        ids = dict(zip(result.data.get("index", ()), result.tracker_id, strict=True))
        for index, found in enumerate(objects):
            own = int(ids.get(index, -1))
            if own < 0:
                continue
            if own not in self.ids:
                num_ids += 1
                self.ids[own] = num_ids
            found["id"] = self.ids[own]
            self.similarity.keep(own, found)
        self.similarity.forget(self.tracker.tracks)
        return num_ids


class _Similarity:
    """The similarity of tracks and detections, for the package trackers: the mean of IoU, OKS and color similarity.

    OKS and colors are left out where few keypoints are confident. Colors are those in the middle of the bones of the
    skeleton.
    """

    def __init__(self, schema: KeypointSchema) -> None:
        self.sigmas = dict(zip(schema.names, schema.sigmas, strict=True))
        self.skeleton = schema.skeleton
        self.tracks: Sequence[Any] = ()  # of the package
        self.found: dict[tuple[float, ...], Found] = {}  # objects of the frame by their boxes
        self.colors: dict[tuple[float, ...], Colors] = {}  # of these objects
        self.isolated: set[tuple[float, ...]] = set()  # boxes of objects that do not overlap others
        self.last: dict[int, tuple[Found, Colors]] = {}  # by the track's id in the package

    def without_duplicates(self, objects: Sequence[Found]) -> list[Found]:
        """The objects whose keypoints are not those of another one with a higher score."""
        kept: list[Found] = []
        for found in sorted(objects, key=lambda each: -each["score"]):
            found_oks = (self._oks(other, np.array(other["box"]), found) for other in kept)
            if all(oks is None or oks < DUPLICATE for oks in found_oks):
                kept.append(found)
        return kept

    def start(self, tracks: Sequence[Any], objects: Sequence[Found], pixels: np.ndarray) -> None:
        """Set what `compute` compares: the tracks, and the objects of a frame."""
        self.tracks = tracks
        boxes = [found["box"] for found in objects if found["score"] >= FIRST_SCORE]
        counts = (_iou(boxes, boxes) > MAX_OVERLAP).sum(axis=1)
        self.isolated = {tuple(box) for box, n in zip(boxes, counts, strict=True) if n == 1}
        self.found = {tuple(found["box"]): found for found in objects}
        self.colors = {
            box: bone_colors(found, self.skeleton, pixels) for box, found in self.found.items()
        }

    def keep(self, track: int, found: Found) -> None:
        """Remember the object of a track."""
        box = tuple(found["box"])
        _, colors = self.last.get(track, (found, {}))
        if not colors or box in self.isolated:
            new = self.colors[box]
            mixed = {bone: colors.get(bone, color) for bone, color in new.items()}
            mixed = {bone: old + COLOR_WEIGHT * (new[bone] - old) for bone, old in mixed.items()}
            colors = {**colors, **mixed}
        self.last[track] = found, colors

    def forget(self, tracks: Sequence[Any]) -> None:
        """Forget the objects of all but these tracks."""
        alive = {track.tracker_id for track in tracks}
        self.last = {track: last for track, last in self.last.items() if track in alive}

    def compute(self, predicted: np.ndarray, detected: np.ndarray) -> np.ndarray:
        """N x M, from 0 to 1.

        Args:
            predicted: N x 4, corners of the boxes where the tracks should be now.
            detected: M x 4, corners of the boxes of objects.
        """
        similarity = _iou(predicted, detected)
        tracks = {tuple(track.get_state_bbox()): track.tracker_id for track in self.tracks}
        for row, box in enumerate(predicted):
            if (last := self.last.get(tracks.get(tuple(box), -1))) is None:
                continue
            for column, other in enumerate(detected):
                key = tuple(other)
                terms = (
                    similarity[row, column],
                    self._oks(last[0], box, self.found[key]),
                    _color_similarity(last[1], self.colors[key]),
                )
                known = [(t, w) for t, w in zip(terms, WEIGHTS, strict=True) if t is not None]
                values, weights = zip(*known, strict=True)
                similarity[row, column] = np.average(values, weights=weights)
        return similarity

    def _oks(self, last: Found, box: np.ndarray, found: Found) -> float | None:
        """OKS of the last keypoints, moved and scaled with the box, and those of an object."""
        names = [name for name in _confident(last) if name in _confident(found)]
        if len(names) < MIN_KEYPOINTS:
            return None
        old = np.array(last["box"])
        before = np.array([_keypoint(last, name) for name in names])
        now = np.array([_keypoint(found, name) for name in names])
        scale = (box[2:] - box[:2]) / np.maximum(old[2:] - old[:2], 1e-6)
        moved = (before - old[:2]) * scale + box[:2]
        width, height = np.subtract(found["box"][2:], found["box"][:2])
        sigmas = torch.tensor([self.sigmas[name] for name in names])
        pair = torch.from_numpy(now)[None], torch.from_numpy(moved)[None]
        return object_keypoint_similarity(*pair, torch.tensor([width * height]), sigmas).item()


def _iou(ones: ArrayLike, others: ArrayLike) -> np.ndarray:
    """N x M; boxes are N x 4 and M x 4 corners."""
    boxes = [
        Boxes(torch.tensor(np.array(each), dtype=torch.float64).reshape(-1, 4))
        for each in (ones, others)
    ]
    return pairwise_iou(*boxes).numpy()


def bone_colors(found: Found, skeleton: Sequence[Sequence[str]], pixels: np.ndarray) -> Colors:
    """The mean color in the middle of each bone with confident ends.

    Args:
        found: An object.
        skeleton: Pairs of names of keypoints.
        pixels: The image, height x width x 3.
    """
    names = _confident(found)
    x0, y0, x1, y1 = found["box"]
    radius = max(1.0, PATCH / 2 * max(x1 - x0, y1 - y0))
    height, width = pixels.shape[:2]
    colors = {}
    for a, b in skeleton:
        if a not in names or b not in names:
            continue
        x, y = np.mean([_keypoint(found, a), _keypoint(found, b)], axis=0)
        left, right = (int(np.clip(x + step, 0, width)) for step in (-radius, radius))
        top, bottom = (int(np.clip(y + step, 0, height)) for step in (-radius, radius))
        if left < right and top < bottom:
            colors[a, b] = pixels[top:bottom, left:right].mean(axis=(0, 1))
    return colors


def _color_similarity(one: Colors, other: Colors) -> float | None:
    """From 0 to 1; None if few bones have a color in both."""
    bones = one.keys() & other.keys()
    if len(bones) < MIN_BONES:
        return None
    # The median: an arm in front of the torso does not matter.
    difference = np.median([np.linalg.norm(one[bone] - other[bone]) for bone in bones])
    return float(np.exp2(-((difference / COLOR_SCALE) ** 2)))


def _confident(found: Found) -> set[str]:
    """The names of an object's keypoints in which the model has some confidence."""
    confidences: Mapping[str, float] = found.get("confidences", {})
    return {name for name, confidence in confidences.items() if confidence >= MIN_CONFIDENCE}


def _keypoint(found: Found, name: str) -> Sequence[float]:
    """The position that the model found, x and y."""
    position: Sequence[float] = (found.get("raw_keypoints") or found["keypoints"])[name][:2]
    return position
