"""The tables of labels of a DeepLabCut project: CollectedData_SCORER.csv, or .h5 as pandas writes it."""

from __future__ import annotations

import csv
import io
import pickle
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, one_line

COORDINATES = {"x", "y", "likelihood"}


@dataclass(frozen=True)
class Labels:
    """A table of labels.

    Attributes:
        columns: Scorer, individual ("" if there are none), bodypart and coordinate of each column.
        images: The path of each row's image, in parts, such as ("labeled-data", "video", "img0001.png").
        values: (rows, columns); NaN where nothing is labelled.
        places: Where each row is, for messages.
    """

    columns: list[tuple[str, str, str, str]]
    images: list[tuple[str, ...]]
    values: np.ndarray
    places: list[str]

    def points(self) -> dict[tuple[str, str, str], np.ndarray]:
        """(rows, 2): x, y of each scorer, individual and bodypart."""
        at = {column: index for index, column in enumerate(self.columns)}
        keys = dict.fromkeys(column[:3] for column in self.columns)
        return {key: self.values[:, [at[(*key, "x")], at[(*key, "y")]]] for key in keys}


def read_labels(path: Path) -> Labels:
    """Read a table of labels.

    Raises:
        UserError: If it is not a table of labels, or h5py is needed for it and not installed.
    """
    return _read_csv(path) if path.suffix == ".csv" else _read_h5(path)


def _read_csv(path: Path) -> Labels:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""))
        lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a csv file that can be read: {error}") from error
    for header in (3, 4):
        cells = lines[header - 1][1] if len(lines) >= header else []
        # One column of paths, or one column for each of their parts.
        start = next((i for i, cell in enumerate(cells) if i and cell), len(cells))
        if cells[start:] and COORDINATES.issuperset(cells[start:]):
            break
    else:
        raise UserError(
            f"{path}: does not begin with lines for scorer, (individuals,) bodyparts and coords, the last one with x "
            "and y in turn, as DeepLabCut writes them"
        )
    for number, row in lines:
        if len(row) != len(cells):
            raise UserError(
                f"{path}, line {number}: {len(row)} cells, line {header} has {len(cells)}"
            )
    columns = list(zip(*(row[start:] for _, row in lines[:header]), strict=True))
    images, values, places = [], [], []
    for number, row in lines[header:]:
        place = f"{path}, line {number}"
        images.append(_parts("/".join(row[:start]), place))
        values.append([_number(cell, place) for cell in row[start:]])
        places.append(place)
    table = np.array(values, dtype=float).reshape(len(images), len(columns))
    return _checked(path, columns, images, table, places)


def _number(cell: str, place: str) -> float:
    if not cell.strip():
        return np.nan
    try:
        return float(cell)
    except ValueError:
        raise UserError(f"{place}: {cell[:40]!r} is not a number") from None


def _parts(image: str, place: str) -> tuple[str, ...]:
    parts = tuple(part for part in re.split(r"[/\\]", image) if part)
    if not parts:
        raise UserError(f"{place}: names no image")
    return parts


def _checked(
    path: Path,
    columns: list[Any],
    images: list[tuple[str, ...]],
    values: np.ndarray,
    places: list[str],
) -> Labels:
    if values.shape != (len(images), len(columns)):
        raise UserError(f"{path}: {len(columns)} names of columns for {values.shape[1]} columns")
    if len({len(column) for column in columns}) != 1 or len(columns[0]) not in (3, 4):
        raise UserError(f"{path}: the columns are not named by scorer, bodypart and coordinate")
    if len(columns[0]) == 3:
        columns = [(scorer, "", part, axis) for scorer, part, axis in columns]
    times = Counter(columns)
    for column in columns:
        if times[column] > 1:
            raise UserError(f"{path}: two columns are called {', '.join(filter(None, column))}")
        for axis in ("x", "y"):
            if (*column[:3], axis) not in times:
                raise UserError(
                    f"{path}: {', '.join(filter(None, column[:3]))} has no column {axis}"
                )
    for place, row in zip(places, values, strict=True):
        if np.isinf(row).any():
            raise UserError(f"{place}: a coordinate is infinite")
    return Labels(columns, images, values, places)


# ------------------------------------------------------------------ what pandas' to_hdf writes


def _read_h5(path: Path) -> Labels:
    """Without pandas, which runs code that such a file may contain: one of its two formats pickles names of columns."""
    try:
        import h5py
    except ImportError:
        raise UserError(
            f"{path}: reading it needs h5py, as there is no .csv beside it: "
            'pip install "hrnet_kpt[formats]"'
        ) from None
    try:
        with h5py.File(path, "r") as file:
            frame = next(group for group in file.values() if "pandas_type" in group.attrs)
            columns, index, values = _table(frame) if "table" in frame else _fixed(frame)
    except Exception as error:  # a damaged file leads to any of them
        raise UserError(
            f"{path}: not a table of labels as pandas writes it ({one_line(error)}); give its .csv instead"
        ) from error
    places = [f"{path}, row {number}" for number in range(1, len(index) + 1)]
    images = [_parts("/".join(row), place) for row, place in zip(index, places, strict=True)]
    return _checked(path, columns, images, values, places)


def _fixed(frame: Any) -> tuple[list[Any], list[Any], np.ndarray]:
    """Column names, row names and values of `to_hdf(format="fixed")`."""
    columns, index = _axis(frame, "axis0"), _axis(frame, "axis1")
    values = np.full((len(index), len(columns)), np.nan)
    for block in range(int(frame.attrs["nblocks"])):
        stored = frame[f"block{block}_values"]
        content = stored[()] if stored.attrs.get("transposed") else stored[()].T
        at = [columns.index(name) for name in _axis(frame, f"block{block}_items")]
        values[:, at] = content.reshape(len(index), len(at))
    return columns, index, values


def _axis(frame: Any, key: str) -> list[tuple[str, ...]]:
    if frame.attrs[f"{key}_variety"] != b"multi":
        return [(_text(name),) for name in frame[key][()]]
    levels = []
    for level in range(int(frame.attrs[f"{key}_nlevels"])):
        names = [*map(_text, frame[f"{key}_level{level}"][()]), ""]  # -1 stands for no name
        levels.append([names[code] for code in frame[f"{key}_label{level}"][()]])
    return list(zip(*levels, strict=True))


def _table(frame: Any) -> tuple[list[Any], list[Any], np.ndarray]:
    """The same of `to_hdf(format="table")`, where names of rows have one part."""
    table = frame["table"]
    columns: list[Any] = []
    blocks = [name for name in table.dtype.names if name.startswith("values_block_")]
    for block in blocks:
        columns += _Unpickler(io.BytesIO(table.attrs[f"{block}_kind"])).load()
    columns = [tuple(map(_text, column)) for column in columns]
    content = table[()]
    index = [(_text(name),) for name in content["index"]]
    return columns, index, np.concatenate([content[block] for block in blocks], axis=1)


class _Unpickler(pickle.Unpickler):
    """Reads lists, tuples, strings and numbers; nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it contains {module}.{name}, which is not a name")


def _text(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)
