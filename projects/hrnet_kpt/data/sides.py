"""Which keypoints a mirror swaps, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
