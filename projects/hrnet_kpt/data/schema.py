"""The keypoint schema: names, flip pairs, skeleton, sigmas; that of COCO's persons; left and right in names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from omegaconf import ListConfig, OmegaConf

from ..errors import UserError, join_names

# For keypoints whose annotation noise is unknown: near the middle of COCO's range (0.025 to 0.107).
DEFAULT_SIGMA = 0.05


@dataclass(frozen=True)
class KeypointSchema:
    """The keypoints of a data set, in the order of its annotations.

    Attributes:
        names: Unique names; empty for boxes and masks without keypoints.
        flip_pairs: Pairs of names that a horizontal flip of the image swaps.
        skeleton: Pairs of names that a visualization joins by a line.
        sigmas: Standard deviation of each keypoint's annotations, as a fraction of the object's size: the constants of
            COCO's object keypoint similarity (https://cocodataset.org/#keypoints-eval). Default: DEFAULT_SIGMA.
        reference: Two names, whose distance in an object is the length that PCK-ref is relative to; empty for none.

    Raises:
        UserError: If the attributes contradict one another.
    """

    names: Sequence[str]
    flip_pairs: Sequence[Sequence[str]] = ()
    skeleton: Sequence[Sequence[str]] = ()
    sigmas: Sequence[float] = ()
    reference: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.reference, str):
            object.__setattr__(self, "reference", (self.reference,))  # one name, not its letters
        for field in ("names", "flip_pairs", "skeleton", "sigmas", "reference"):
            values = getattr(self, field)
            # A config passes ListConfigs, which instantiate has resolved: `${` in a name is no interpolation now.
            if isinstance(values, ListConfig):
                values = OmegaConf.to_container(values, resolve=False)
            if field in ("flip_pairs", "skeleton"):
                values = map(tuple, values)
            object.__setattr__(self, field, tuple(values))  # tuples keep the schema hashable
        if not self.sigmas:
            object.__setattr__(self, "sigmas", (DEFAULT_SIGMA,) * len(self.names))
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
            raise UserError(f"flip_pairs: a keypoint is in two pairs: {self.flip_pairs}")
        if self.reference and not is_reference(self.reference, self.names):
            raise UserError(
                f"reference: {list(self.reference)} must be two different names of {join_names(self.names)}"
            )

    @property
    def flip_indices(self) -> list[int]:
        """Keypoint i of a flipped instance is keypoint flip_indices[i] of the instance."""
        partner = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        return [self.names.index(partner.get(name, name)) for name in self.names]


def is_reference(reference: Sequence[object], names: Sequence[str]) -> bool:
    """Whether these are two different names of keypoints."""
    return (
        len(reference) == 2
        and all(name in names for name in reference)
        and reference[0] != reference[1]
    )


_COCO_PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_COCO_PAIRS = tuple((f"left_{part}", f"right_{part}") for part in _COCO_PARTS)
_COCO_NAMES = ("nose", *(name for pair in _COCO_PAIRS for name in pair))
# As in person_keypoints_val2017.json, in numbers from 1 (https://cocodataset.org/#format-data).
_COCO_SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
_COCO_SIGMAS = (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089)  # of _COCO_PARTS

# Sigmas as in pycocotools.cocoeval.Params.
COCO_PERSON = KeypointSchema(
    names=_COCO_NAMES,
    flip_pairs=_COCO_PAIRS,
    skeleton=[(_COCO_NAMES[a - 1], _COCO_NAMES[b - 1]) for a, b in _COCO_SKELETON],
    sigmas=(0.026, *(sigma for sigma in _COCO_SIGMAS for _ in ("left", "right"))),
)


# Words for left and right, which may be anywhere in a name; stems where the ending varies.
WORDS = (
    ("left", "right"), ("link", "recht"), ("gauche", "droite"), ("gauche", "droit"), ("izquierd", "derech"),
    ("sinistr", "destr"), ("esquerd", "direit"), ("vänster", "höger"), ("venstre", "høyre"), ("venstre", "højre"),
    ("vasen", "oikea"), ("vasem", "oikea"), ("lewy", "prawy"), ("lewa", "prawa"), ("lewe", "prawe"),
    ("levý", "pravý"), ("levá", "pravá"), ("levé", "pravé"), ("лев", "прав"), ("лів", "прав"), ("αριστερ", "δεξι"),
    ("kiri", "kanan"), ("左", "右"), ("ひだり", "みぎ"), ("왼", "오른"), ("좌", "우"), ("يسار", "يمين"),
    ("يسرى", "يمنى"), ("port", "starboard"),
)  # fmt: skip
# Words too short to be searched for within others: they must be a token, between separators, digits and capitals.
TOKENS = (
    ("l", "r"), ("lt", "rt"), ("lft", "rgt"), ("li", "re"), ("sx", "dx"), ("sin", "dx"), ("izq", "der"),
    ("izda", "dcha"), ("sol", "sağ"), ("bal", "jobb"),
)  # fmt: skip
# Of horses, cattle and cars: the near side is the left one. They begin a name, with or without a separator.
NEAR_OFF = ("near", "off")
# Parts of bodies that there are two of: with l or r before or after one of them, no second pair is needed.
PARTS = (
    "ankle", "antenna", "antler", "arm", "brow", "cheek", "claw", "ear", "elbow", "eye", "fetlock", "fin", "finger",
    "flank", "foot", "haltere", "hand", "heel", "hip", "hock", "hoof", "horn", "knee", "leg", "limb", "nostril", "paw",
    "shin", "shoulder", "side", "stifle", "thigh", "thumb", "toe", "wing", "wrist",
)  # fmt: skip
# Words for the two ends of a vertical axis.
LEVELS = (("top", "bottom"), ("upper", "lower"), ("oben", "unten"), ("haut", "bas"))

_TOKEN = re.compile(
    r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])|(?<=[A-Z])(?=[A-Z][a-z])|([\W_]+)"
)
# The name of the other side, and whether the name itself is the left one.
Mirrored = tuple[str, bool]


def left_right_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ only in left and right, the left one first, in the order of the left ones.

    Both names of a pair must be in `names`, and each name is in one pair at most. The side is

    * a word for left and right in one of some twenty languages, anywhere in the name: left_eye, EyeRight, leftear,
      bein_links, 左翅; or a short word that is a token: sx, dx, izq, der;
    * the letter l or r between separators, digits, ends and changes of case: l_eye, eye-L, eyeL, LEye, L1, 1r; not
      where the names are an enumeration, with k or q in the same position;
    * near and off at the start, as of horses: Nearknee, Offknee;
    * the letter l or r at either end of a word: Lwing, fl. Such a pair counts if there is another one, if the letter is
      a capital where other names have none, or if the rest is a part of the body: lear and rear, but not lip and rip.
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
    accept(_matches(texts, _near_to_off))
    for at in (0, -1):
        used = {*pairs, *pairs.values()}
        found = list(_letters([text for text in texts if text not in used], at))
        if len(found) > 1 or any(
            _of_part(pair[0], at) or _capital(pair[0], texts, at) for pair in found
        ):
            accept(found)
    order = {name: i for i, name in enumerate(names)}
    return sorted(
        ((texts[left], texts[right]) for left, right in pairs.items()),
        key=lambda pair: order[pair[0]],
    )


def is_near_off_pair(pair: Sequence[str]) -> bool:
    """Whether two names are a flip pair only if near means the left side, and not nearer to the camera."""
    return list(_matches(pair, _near_to_off)) == [tuple(pair)]


def top_bottom_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs that differ only in top and bottom, of names that are in left_right_pairs too: corners of an object."""
    sides = {name for pair in left_right_pairs(names) for name in pair}
    found: list[tuple[str, str]] = []
    for words in LEVELS:
        found += _matches(names, partial(_swap_words, words=words))
    found += [(name, f"b{name[1:]}") for name in names if name in ("tl", "tr")]
    return [pair for pair in dict.fromkeys(found) if sides.issuperset(pair)]


def _matches(
    texts: Iterable[str], mirror: Callable[[str], Mirrored | None]
) -> Iterator[tuple[str, str]]:
    """Pairs that `mirror` turns into one another; another case of letters is accepted where it is unambiguous."""
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


def _with_case_of(sample: str, word: str) -> str:
    if len(sample) > 1 and sample.isupper():
        return word.upper()
    return word.capitalize() if sample[:1].isupper() else word


def _swap_words(name: str, words: tuple[str, str], letters: bool = False) -> Mirrored | None:
    """letters: swap the letters l and r too, which the name must have: left_eye_l, its left corner."""
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    first = pattern.search(name)
    if first is None:
        return None
    other = {words[0]: words[1], words[1]: words[0]}
    text = pattern.sub(lambda m: _with_case_of(m[0], other.get(m[0].lower(), m[0])), name)
    if letters:
        both = _swap_tokens(text, TOKENS[0])
        if both is None:
            return None
        text = both[0]
    return text, first[0].lower() == words[0]


def _tokens(name: str) -> list[str]:
    return [part for part in _TOKEN.split(name) if part]


def _swap_tokens(name: str, words: tuple[str, str]) -> Mirrored | None:
    parts = _tokens(name)
    other = {words[0]: words[1], words[1]: words[0]}
    sides = [part.lower() for part in parts if part.lower() in other]
    if not sides:
        return None
    swapped = "".join(
        _with_case_of(part, other[part.lower()]) if part.lower() in other else part
        for part in parts
    )
    return swapped, sides[0] == words[0]


def _near_to_off(name: str) -> Mirrored | None:
    near, off = NEAR_OFF
    if not name.lower().startswith(near):
        return None
    return _with_case_of(name[: len(near)], off) + name[len(near) :], True


def _with_letters(parts: list[str], index: int, at: int, letters: str) -> Iterator[str]:
    """The name of these tokens with each of the letters at the start (0) or the end (-1) of token `index`."""
    part = parts[index]
    for letter in letters.upper() if part[at].isupper() else letters:
        changed = letter + part[1:] if at == 0 else part[:-1] + letter
        yield "".join([*parts[:index], changed, *parts[index + 1 :]])


def _enumerated(name: str, texts: Collection[str]) -> bool:
    """Whether the letter l of the name is one of an enumeration: the same name with k or q exists."""
    parts = _tokens(name)
    index = next((i for i, part in enumerate(parts) if part in ("l", "L", "r", "R")), None)
    # None for tl beside tR: only the latter has the letter as a token.
    return index is not None and any(t in texts for t in _with_letters(parts, index, 0, "kq"))


def _letters(texts: Sequence[str], at: int) -> Iterator[tuple[str, str]]:
    """Pairs that differ in one letter: l or r at the start (0) or the end (-1) of a token."""
    known = set(texts)
    for name in texts:
        parts = _tokens(name)
        for i, part in enumerate(parts):
            if len(part) < 2 or part[at] not in "lL":
                continue
            right, *enumeration = _with_letters(parts, i, at, "rkq")
            if right in known and known.isdisjoint(enumeration):
                yield name, right
                break


def _of_part(name: str, at: int) -> bool:
    """Whether the rest of the word with the side's letter ends in a part of the body: lear, Lfrontpaw, wingl."""
    part = next(part for part in _tokens(name) if len(part) > 1 and part[at] in "lL")
    return (part[1:] if at == 0 else part[:-1]).lower().endswith(PARTS)


def _capital(name: str, texts: Iterable[str], at: int) -> bool:
    """Whether the side's letter is a capital, though other names are not capitalized: Lwing beside head."""
    part = next(part for part in _tokens(name) if len(part) > 1 and part[at] in "lL")
    if part[at] != "L":
        return False
    others = [text for text in texts if text[0] not in "lLrR" and text[0].isalpha()]
    if part.isupper():
        return any(not text.isupper() for text in others)
    return any(text[0].islower() for text in others)
