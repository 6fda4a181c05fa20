"""What the keypoints of a data set are: their names, which ones a mirror swaps, and what joins them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError

logger = logging.getLogger(__name__)

# For a keypoint whose annotators' spread is unknown: about the middle of COCO's range (0.025 to 0.107).
DEFAULT_SIGMA = 0.05


@dataclass(frozen=True)
class KeypointSchema:
    """The keypoints of a data set, in the order in which its annotations list them.

    names: unique names.
    flip_pairs: pairs of names that trade places when the image is mirrored.
    skeleton: pairs of names that a picture joins by a line.
    sigmas: spread of the annotators per keypoint, as a share of the object's size: the constants
        of COCO's object keypoint similarity (https://cocodataset.org/#keypoints-eval).

    Raises UserError where they contradict each other.
    """

    names: Sequence[str]
    flip_pairs: Sequence[Sequence[str]] = ()
    skeleton: Sequence[Sequence[str]] = ()
    sigmas: Sequence[float] = ()

    def __post_init__(self) -> None:
        # A config hands over ListConfigs; tuples keep the schema hashable.
        set_ = object.__setattr__
        set_(self, "names", tuple(self.names))
        set_(self, "flip_pairs", tuple(tuple(pair) for pair in self.flip_pairs))
        set_(self, "skeleton", tuple(tuple(pair) for pair in self.skeleton))
        set_(self, "sigmas", tuple(self.sigmas) or (DEFAULT_SIGMA,) * len(self.names))
        if not self.names or len(set(self.names)) != len(self.names):
            raise UserError(f"keypoint names must be unique and at least one: {list(self.names)}")
        if len(self.sigmas) != len(self.names) or min(self.sigmas) <= 0:
            raise UserError(
                f"{len(self.names)} keypoints need as many positive sigmas, not {list(self.sigmas)}"
            )
        for field in ("flip_pairs", "skeleton"):
            for pair in getattr(self, field):
                if len(pair) != 2 or not set(pair) <= set(self.names):
                    raise UserError(f"{field}: {list(pair)} is not a pair of keypoint names")
        flipped = [name for pair in self.flip_pairs for name in pair]
        if len(set(flipped)) != len(flipped):
            raise UserError(f"flip_pairs: a keypoint stands in two pairs: {self.flip_pairs}")

    @property
    def flip_indices(self) -> list[int]:
        """Position i of a mirrored instance holds the keypoint that stood at flip_indices[i]."""
        partner = {
            a: b for left, right in self.flip_pairs for a, b in ((left, right), (right, left))
        }
        return [self.names.index(partner.get(name, name)) for name in self.names]

    @classmethod
    def from_json(cls, annotations: str | Path) -> KeypointSchema:
        """Read the schema from the category with keypoints of a COCO-format json.

        Flip pairs follow from names that differ in left/right alone; sigmas are COCO's where a name is
        one of COCO's, else DEFAULT_SIGMA. Bones of the skeleton that name joints which do not exist
        are dropped with a warning.
        """
        try:
            categories = json.loads(Path(annotations).read_text())["categories"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{annotations}: not a readable COCO-format json with categories ({error!r})"
            ) from error
        with_keypoints = [category for category in categories if category.get("keypoints")]
        if not with_keypoints:
            raise UserError(
                f"{annotations}: no category has a list of `keypoints`: add their names"
            )
        names = with_keypoints[0]["keypoints"]
        if any(category["keypoints"] != names for category in with_keypoints):
            raise UserError(f"{annotations}: its categories have different keypoints")
        bones = with_keypoints[0].get("skeleton") or []
        inside = [bone for bone in bones if all(1 <= joint <= len(names) for joint in bone)]
        if len(inside) < len(bones):
            logger.warning(
                "%s: %d bones of the skeleton join keypoints that do not exist; left out",
                annotations,
                len(bones) - len(inside),
            )
        known = dict(zip(COCO_PERSON.names, COCO_PERSON.sigmas, strict=True))
        unknown = [name for name in names if name not in known]
        if unknown:
            logger.warning(
                "%s: no sigma is known for %s; %g is used",
                annotations,
                ", ".join(unknown),
                DEFAULT_SIGMA,
            )
        return cls(
            names=names,
            flip_pairs=left_right_pairs(names),
            skeleton=[[names[a - 1], names[b - 1]] for a, b in inside],
            sigmas=[known.get(name, DEFAULT_SIGMA) for name in names],
        )


SIDE_WORDS = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))
SIDE_LETTERS = (
    (re.compile(r"^l(?=[_\-. ])|(?<=[_\-. ])l$"), "r"),
    (re.compile(r"^L(?=[_\-. A-Z])|(?<=[_\-. a-z])L$"), "R"),
)


def left_right_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in their side alone, left one first.

    The side is the word left or right anywhere, or the letter l or r at either end, set off by a separator or by
    its case: left_eye, EyeLeft, l_eye, eye-L, eyeL, LEye, and their right partners.
    """
    pairs = []
    for name in names:
        candidates = [name.replace(left, right, 1) for left, right in SIDE_WORDS]
        candidates += [pattern.sub(right, name) for pattern, right in SIDE_LETTERS]
        partners = [other for other in candidates if other != name and other in names]
        if partners:
            pairs.append((name, partners[0]))
    return pairs


# https://cocodataset.org/#format-data; sigmas as in pycocotools.cocoeval.Params.
COCO_PERSON = KeypointSchema(
    names=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    flip_pairs=tuple(
        (f"left_{part}", f"right_{part}")
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    ),
    skeleton=(
        ("left_ankle", "left_knee"),
        ("left_knee", "left_hip"),
        ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"),
        ("left_hip", "right_hip"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_shoulder", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"),
        ("left_eye", "right_eye"),
        ("nose", "left_eye"),
        ("nose", "right_eye"),
        ("left_eye", "left_ear"),
        ("right_eye", "right_ear"),
        ("left_ear", "left_shoulder"),
        ("right_ear", "right_shoulder"),
    ),
    sigmas=(
        *(0.026, 0.025, 0.025, 0.035, 0.035),
        *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
        *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    ),
)


def num_keypoints(keypoints: KeypointSchema | str) -> int:
    """Length of the schema, for a config node; `auto` that nobody resolved counts as COCO's 17."""
    return len(_schema(keypoints).names)


def flip_indices(keypoints: KeypointSchema | str) -> list[int]:
    """The schema's flip_indices, for a config node; `auto` that nobody resolved has COCO's."""
    return _schema(keypoints).flip_indices


def sigmas(keypoints: KeypointSchema | str) -> list[float]:
    """The schema's sigmas, for a config node; `auto` that nobody resolved has COCO's."""
    return list(_schema(keypoints).sigmas)


def _schema(keypoints: KeypointSchema | str) -> KeypointSchema:
    if isinstance(keypoints, str):
        if keypoints != "auto":
            raise UserError(
                f"data.keypoints={keypoints!r}: give `auto` or a KeypointSchema as a config node"
            )
        return COCO_PERSON
    return keypoints
