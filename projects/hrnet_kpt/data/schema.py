"""The keypoints of a data set: names, pairs that a mirror swaps, skeleton, sigmas; and COCO's persons."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from omegaconf import ListConfig, OmegaConf

from ..errors import UserError

# For a keypoint whose annotators' spread is unknown: about the middle of COCO's range (0.025 to 0.107).
DEFAULT_SIGMA = 0.05


@dataclass(frozen=True)
class KeypointSchema:
    """The keypoints of a data set, in the order in which its annotations list them.

    Attributes:
        names: unique names; none for boxes and masks alone.
        flip_pairs: pairs of names that are swapped when the image is mirrored.
        skeleton: pairs of names that a drawing joins by a line.
        sigmas: spread of the annotators per keypoint, as a fraction of the object's size: the constants of COCO's
            object keypoint similarity (https://cocodataset.org/#keypoints-eval).

    Raises:
        UserError: they contradict each other.
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
            # detectron2's instantiate has resolved what is in them: `${` in a name is no interpolation now.
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
        """Keypoint i of a mirrored instance is keypoint flip_indices[i] of the instance."""
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
        0.026,
        *np.repeat(
            (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089), 2
        ).tolist(),  # left, right
    ),
)


# Words for left and right, which may stand anywhere in a name; stems where the ending varies.
WORDS = (
    ("left", "right"),
    ("link", "recht"),  # German, Dutch
    ("gauche", "droite"),
    ("gauche", "droit"),
    ("izquierd", "derech"),
    ("sinistr", "destr"),
    ("esquerd", "direit"),
    ("vänster", "höger"),
    ("venstre", "høyre"),
    ("venstre", "højre"),
    ("vasen", "oikea"),
    ("vasem", "oikea"),
    ("lewy", "prawy"),
    ("lewa", "prawa"),
    ("lewe", "prawe"),
    ("levý", "pravý"),
    ("levá", "pravá"),
    ("levé", "pravé"),
    ("лев", "прав"),
    ("лів", "прав"),
    ("αριστερ", "δεξι"),
    ("kiri", "kanan"),
    ("左", "右"),
    ("ひだり", "みぎ"),
    ("왼", "오른"),
    ("좌", "우"),
    ("يسار", "يمين"),
    ("يسرى", "يمنى"),
    ("port", "starboard"),
)
# Words too short to be looked for within others: they stand alone between separators, digits and capitals.
TOKENS = (
    ("l", "r"),
    ("lt", "rt"),
    ("lft", "rgt"),
    ("li", "re"),
    ("sx", "dx"),
    ("sin", "dx"),
    ("izq", "der"),
    ("izda", "dcha"),
    ("sol", "sağ"),
    ("bal", "jobb"),
)
# Of horses, cattle and cars: the near side is the left one. They begin a name, with or without a separator.
NEAR_OFF = ("near", "off")
# Words for the two ends of a vertical axis.
LEVELS = (("top", "bottom"), ("upper", "lower"), ("oben", "unten"), ("haut", "bas"))

_TOKEN = re.compile(
    r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])|(?<=[A-Z])(?=[A-Z][a-z])|([\W_]+)"
)
# The mirrored name, and whether the name itself is the left one.
Mirrored = tuple[str, bool]


def left_right_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ in their side alone, left one first, in the order of the left ones.

    A pair counts only where both names are there, and each name stands in one pair at most. The side is

    * a word for left and right in one of some twenty languages, anywhere in the name: left_eye, EyeRight, leftear,
      bein_links, 左翅; or a short one that stands alone: sx, dx, izq, der;
    * the letter l or r between separators, digits, ends and changes of case: l_eye, eye-L, eyeL, LEye, L1, 1r. Not
      where the names are an enumeration: k or q stand in the same position;
    * near and off at the start, as of horses: Nearknee, Offknee;
    * the letter l or r at either end of a word: Lwing, fl. Such a pair counts if there is another one, or if it
      is a capital where other names have none.
    """
    texts = {unicodedata.normalize("NFC", name): name for name in names}
    pairs: dict[str, str] = {}

    def accept(found: Iterable[tuple[str, str]]) -> None:
        for left, right in found:
            if not {left, right} & {*pairs, *pairs.values()}:
                pairs[left] = right

    for words in WORDS:
        accept(_matches(texts, partial(_swap_words, words=words, letters=True)))
        accept(_matches(texts, partial(_swap_words, words=words)))
    for words in TOKENS:
        matches = _matches(texts, partial(_swap_tokens, words=words))
        accept(pair for pair in matches if not (words[0] == "l" and _enumerated(pair[0], texts)))
    accept(_near_off(texts))
    for at in (0, -1):
        used = {*pairs, *pairs.values()}
        found = list(_letters([text for text in texts if text not in used], at))
        if len(found) > 1 or any(_capital(pair[0], texts, at) for pair in found):
            accept(found)
    order = {name: i for i, name in enumerate(names)}
    return sorted(
        ((texts[left], texts[right]) for left, right in pairs.items()),
        key=lambda pair: order[pair[0]],
    )


def says_near_and_off(pair: Sequence[str]) -> bool:
    """Whether the two names are a pair only if near means left, and not: nearer to the camera."""
    return list(_near_off(pair)) == [tuple(pair)]


def top_bottom_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs that differ in top and bottom alone, of names that differ in left and right too: corners of a thing."""
    sides = {name for pair in left_right_pairs(names) for name in pair}
    texts = dict.fromkeys(names, "")
    found: list[tuple[str, str]] = []
    for words in LEVELS:
        found += _matches(texts, partial(_swap_words, words=words))
    found += [
        (name, f"b{name[1:]}") for name in names if name in ("tl", "tr") and f"b{name[1:]}" in texts
    ]
    return [pair for pair in dict.fromkeys(found) if sides.issuperset(pair)]


def _matches(
    texts: Iterable[str], mirror: Callable[[str], Mirrored | None]
) -> Iterator[tuple[str, str]]:
    """Pairs of texts of which `mirror` makes one of the other; the same but for case where that fits one alone."""
    folded: dict[str, list[str]] = {}
    for text in texts:
        folded.setdefault(text.casefold(), []).append(text)
    for text in texts:
        mirrored = mirror(text)
        if mirrored is None or mirrored[0] == text:
            continue
        alike = folded.get(mirrored[0].casefold(), [])
        if mirrored[0] in alike:
            alike = [mirrored[0]]
        if len(alike) == 1 and alike[0] != text:
            yield (text, alike[0]) if mirrored[1] else (alike[0], text)


def _like(word: str, sample: str) -> str:
    if len(sample) > 1 and sample.isupper():
        return word.upper()
    return word.capitalize() if sample[:1].isupper() else word


def _swap_words(name: str, words: tuple[str, str], letters: bool = False) -> Mirrored | None:
    """letters: swap the letters l and r too, which the name must have: left_eye_l, its left corner."""
    other = {words[0]: words[1], words[1]: words[0]}
    found = list(re.finditer("|".join(map(re.escape, words)), name, re.IGNORECASE))
    if not found:
        return None
    first = found[0][0].lower()
    text, end = "", 0
    for match in found:
        text += name[end : match.start()] + _like(other.get(match[0].lower(), match[0]), match[0])
        end = match.end()
    text += name[end:]
    if letters:
        both = _swap_tokens(text, TOKENS[0])
        if both is None:
            return None
        text = both[0]
    return text, first == words[0]


def _tokens(name: str) -> list[str]:
    return [part for part in _TOKEN.split(name) if part]


def _swap_tokens(name: str, words: tuple[str, str]) -> Mirrored | None:
    parts = _tokens(name)
    other = {words[0]: words[1], words[1]: words[0]}
    sides = [i for i, part in enumerate(parts) if part.lower() in other]
    if not sides:
        return None
    first = parts[sides[0]].lower()
    for i in sides:
        parts[i] = _like(other[parts[i].lower()], parts[i])
    return "".join(parts), first == words[0]


def _enumerated(name: str, texts: Iterable[str]) -> bool:
    """Whether the letter l of the name counts something: names with k or q in its stead are there too."""
    parts = _tokens(name)
    at = next((i for i, part in enumerate(parts) if part in ("l", "L", "r", "R")), None)
    if at is None:  # tl beside tR, which is the one that has the letter by itself
        return False
    others = ("k", "q") if parts[at].islower() else ("K", "Q")
    known = set(texts)
    return any("".join([*parts[:at], letter, *parts[at + 1 :]]) in known for letter in others)


def _near_off(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    def mirror(name: str) -> Mirrored | None:
        near, off = NEAR_OFF
        if not name.lower().startswith(near):
            return None
        return _like(off, name[: len(near)]) + name[len(near) :], True

    return _matches(texts, mirror)


def _letters(texts: Iterable[str], at: int) -> Iterator[tuple[str, str]]:
    """Pairs that differ in one letter: l or r at the start (0) or the end (-1) of a token."""
    known = set(texts)
    for name in texts:
        parts = _tokens(name)
        for i, part in enumerate(parts):
            if len(part) < 2 or part[at] not in "lL":
                continue

            def with_letter(letter: str, i: int = i, part: str = part) -> str:
                letter = letter if part[at].islower() else letter.upper()
                changed = letter + part[1:] if at == 0 else part[:-1] + letter
                return "".join([*parts[:i], changed, *parts[i + 1 :]])  # noqa: B023

            if with_letter("r") in known and not {with_letter("k"), with_letter("q")} & known:
                yield name, with_letter("r")
                break


def _capital(name: str, texts: Iterable[str], at: int) -> bool:
    """Whether the letter of a side is a capital, and not because names are written so: Lwing beside head."""
    part = next(part for part in _tokens(name) if len(part) > 1 and part[at] in "lL")
    if part[at] != "L":
        return False
    others = [text for text in texts if text[0] not in "lLrR" and text[0].isalpha()]
    if part.isupper():
        return any(not text.isupper() for text in others)
    return any(text[0].islower() for text in others)
