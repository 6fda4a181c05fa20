"""Which images show the same picture: copies of a file, and pictures that were saved again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = 32  # of a thumbnail, in cells
# Gray levels: below this standard deviation a thumbnail has nothing to tell pictures apart by.
FLAT = 5.0
# Correlation, of thumbnails of half as many cells a side, from which pictures are compared cell by cell.
LIKE = 0.995
# Standard deviations of the thumbnail, less than which every cell of the same picture differs. Photographs saved anew
# as JPEG of quality 30 differ by up to 0.3, at half the size most do; a thing that has moved differs by 1 or more.
DIFFERENCE = 0.35
ROWS = 256


class Fingerprint(NamedTuple):
    """What tells a picture from another.

    digest: of the bytes of the file.
    cells: SIDE x SIDE gray levels, uint8.
    """

    digest: bytes
    cells: np.ndarray


def fingerprint(content: bytes, image: Image.Image) -> Fingerprint:
    """The fingerprint of a file's bytes and the picture in it."""
    cells = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    return Fingerprint(hashlib.blake2b(content, digest_size=16).digest(), cells)


def equal_files(
    prints: Sequence[Fingerprint], others: Sequence[Fingerprint] | None = None
) -> dict[int, int]:
    """For each picture whose file equals one of the others, byte for byte: the first such one.

    others: another set; None for the earlier ones of the same set.
    """
    places: dict[bytes, int] = {}
    if others is not None:
        for j, other in enumerate(others):
            places.setdefault(other.digest, j)
        return {i: places[p.digest] for i, p in enumerate(prints) if p.digest in places}
    first = [places.setdefault(p.digest, i) for i, p in enumerate(prints)]
    return {i: j for i, j in enumerate(first) if j != i}


def equal_pictures(
    prints: Sequence[Fingerprint], others: Sequence[Fingerprint] | None = None
) -> dict[int, int]:
    """For each picture that one of the others shows too, in another quality or size: that one. Arguments as above.

    Pictures are the same if their thumbnails, of mean 0 and standard deviation 1, differ by less than DIFFERENCE in
    every cell. Only the best correlated one is compared so. Flat ones are never the same.
    """
    if not prints or (others is not None and not others):
        return {}
    cells, coarse = _normalised(prints)
    other_cells, other_coarse = (cells, coarse) if others is None else _normalised(others)
    found: dict[int, int] = {}
    for start in range(0, len(prints), ROWS):
        correlation = coarse[start : start + ROWS] @ other_coarse.T
        if others is None:
            correlation = np.tril(correlation, start - 1)  # with earlier ones
        for row, j in enumerate(correlation.argmax(axis=1).tolist()):
            i = start + row
            if correlation[row, j] > LIKE:
                difference = abs(_unit(cells[i]) - _unit(other_cells[j]))
                if difference.max() < DIFFERENCE:
                    found[i] = j
    return found


def _normalised(prints: Sequence[Fingerprint]) -> tuple[np.ndarray, np.ndarray]:
    """Thumbnails, and coarse ones of mean 0 and length 1 as rows, 0 where flat."""
    cells = np.stack([p.cells for p in prints])
    half = cells.reshape(len(cells), SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4), dtype=np.float32)
    rows = half.reshape(len(cells), -1)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    rows[cells.std(axis=(1, 2)) < FLAT] = 0
    return cells, rows


def _unit(cells: np.ndarray) -> np.ndarray:
    levels = cells.astype(np.float64)
    return (levels - levels.mean()) / levels.std()
