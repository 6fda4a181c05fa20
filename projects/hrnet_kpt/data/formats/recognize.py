"""The formats that can be imported, and the one in which a folder or a file is."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ...errors import UserError, join_names
from .imported import Imported, Options
from .write import refuse_output

# Of --format. Each is a module of this folder with NAME, TITLE, recognize(path) and read(path, options).
FORMATS = (
    "coco", "roboflow", "yolo", "cvat", "cvat-xml", "deeplabcut", "sleap", "label-studio", "labelme",
)  # fmt: skip
# Their exports have the layout of COCO too.
SPECIAL_COCO = ("roboflow", "cvat")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar")
MAX_FOLDERS = 20  # subfolders that are searched for the data set that was meant


def find_format(name: str) -> ModuleType:
    """The module of a format.

    Raises:
        UserError: If there is no such format.
    """
    if name not in FORMATS:
        close = difflib.get_close_matches(name.lower().replace("_", "-"), FORMATS, n=1)
        meant = f"did you mean {close[0]}?" if close else f"the formats are {', '.join(FORMATS)}"
        raise UserError(f"--format {name}: there is no such format: {meant}")
    return import_module(f"{__package__}.{name.replace('-', '_')}")


def seen_formats(path: Path) -> dict[str, str]:
    """What was seen in a folder or file, by the name of each format that it can be."""
    seen = {name: find_format(name).recognize(path) for name in FORMATS}
    found = {name: what for name, what in seen.items() if what}
    if any(name in found for name in SPECIAL_COCO):
        found.pop("coco", None)
    return found


def recognize(path: Path, name: str | None = None) -> tuple[ModuleType, str]:
    """The format of a folder or file, and what was seen of it.

    Args:
        name: The format, if the user gives it; then nothing is looked for, and "" was seen.

    Raises:
        UserError: If the path does not exist, or has none of the formats, or several.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: give the folder of the data set, or its json")
    if name is not None and not _is_archive(path):
        return find_format(name), ""
    found = seen_formats(path)
    if len(found) == 1:
        ((name, what),) = found.items()
        return find_format(name), what
    if found:
        seen = "; ".join(f"{what} ({name})" for name, what in found.items())
        raise UserError(f"{path} can be several formats: {seen}: choose one with --format NAME")
    raise UserError(f"{path} is none of the formats {', '.join(FORMATS)}: {_describe(path)}")


def read_source(
    source: Path,
    output: Path,
    name: str | None,
    options: Options,
    report: Callable[[str], object],
) -> Imported:
    """Read a data set that is to be written to `output`.

    Args:
        name: The format; None: recognized.
        report: Called with a line that says what was recognized.

    Raises:
        UserError: If the output would be refused, or the data set has no format, or is malformed.
    """
    module, seen = recognize(source, name)
    refuse_output(output, source)
    report(f"{source}: {module.TITLE}{f' ({seen})' if seen else ''}")
    imported: Imported = module.read(source, options)
    return imported


def annotation_file(path: str, *splits: str) -> str:
    """The json of the first of these splits that an imported folder has; a path that is no folder stays as it is.

    Raises:
        UserError: If the folder has none of them.
    """
    if not os.path.isdir(path):
        return path
    files = [os.path.join(path, f"{split}.json") for split in splits]
    found = next(filter(os.path.isfile, files), None)
    if found is None:
        missing = " nor ".join(map(os.path.basename, files))
        raise UserError(f"{path} has no {missing}: {remedy(path)}")
    return found


def remedy(root: str | Path) -> str:
    """What to do with a folder that should be an imported one."""
    path = Path(root)
    if not path.is_dir():
        return "there is no such folder: hrnet-kpt import-data writes it"
    if (path / "all.json").is_file():
        return "it has all.json, without a split: import it again with --test-share 0.2"
    found = seen_formats(path)
    seen = "; ".join(f"{find_format(name).TITLE} ({what})" for name, what in found.items())
    seen = f"it is {seen}" if seen else _describe(path)
    return f"{seen}; hrnet-kpt import-data --input {path} --output DIR writes a folder to use"


def _is_archive(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(ARCHIVES)


def _describe(path: Path) -> str:
    """What a path has instead of a data set, and what to do."""
    if path.is_file():
        if _is_archive(path):
            return "it is an archive: unpack it and give the folder"
        return "give the folder of the data set, or --format NAME"
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    entries = [entry for entry in entries if not entry.name.startswith(".")]
    if not entries:
        return "it is an empty folder"
    folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    for folder in folders[:MAX_FOLDERS]:
        below = seen_formats(folder)
        if below:
            return f"but its folder {folder.name} has {'; '.join(below.values())}: give {folder}"
    archives = [entry.name for entry in entries if entry.name.lower().endswith(ARCHIVES)]
    if archives:
        return f"unpack {join_names(archives, 3)} and give the folder"
    kinds = Counter(
        Path(entry.name).suffix.lower() or "without extension"
        for entry in entries
        if entry.is_file()
    )
    files = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "no files"
    names = (
        f" and the folders {join_names([folder.name for folder in folders], 5)}" if folders else ""
    )
    return f"it has {files}{names}; give the folder with the labels, or --format NAME"
