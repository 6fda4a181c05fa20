"""What the keypoints of a data set are: their names, which ones a mirror swaps, and what joins them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omegaconf import ListConfig, OmegaConf

from ..errors import UserError

# For a keypoint whose annotators' spread is unknown: about the middle of COCO's range (0.025 to 0.107).
DEFAULT_SIGMA = 0.05


@dataclass(frozen=True)
class KeypointSchema:
    """The keypoints of a data set, in the order in which its annotations list them.

    names: unique names; none for boxes and masks alone.
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
        for field in ("names", "flip_pairs", "skeleton", "sigmas"):
            value = getattr(self, field)
            # detectron2's instantiate has resolved what is in them: `${` in a name is text now.
            if isinstance(value, ListConfig):
                set_(self, field, OmegaConf.to_container(value, resolve=False))
        set_(self, "names", tuple(self.names))
        set_(self, "flip_pairs", tuple(tuple(pair) for pair in self.flip_pairs))
        set_(self, "skeleton", tuple(tuple(pair) for pair in self.skeleton))
        set_(self, "sigmas", tuple(self.sigmas) or (DEFAULT_SIGMA,) * len(self.names))
        if len(set(self.names)) != len(self.names):
            raise UserError(f"keypoint names must be unique: {list(self.names)}")
        if len(self.sigmas) != len(self.names) or not all(sigma > 0 for sigma in self.sigmas):
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

    def subset(self, names: Sequence[str]) -> KeypointSchema:
        """The schema of some of the keypoints, in the order given."""
        kept = set(names)
        return KeypointSchema(
            names=names,
            flip_pairs=[pair for pair in self.flip_pairs if kept.issuperset(pair)],
            skeleton=[bone for bone in self.skeleton if kept.issuperset(bone)],
            sigmas=[self.sigmas[self.names.index(name)] for name in names],
        )
