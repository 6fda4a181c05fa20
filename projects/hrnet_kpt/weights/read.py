"""Finding or downloading files of weights, and reading their tensors without running code."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import logging
import pickle
import re
import socket
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import safetensors
import safetensors.torch
import torch
from detectron2.checkpoint.catalog import ModelCatalog
from detectron2.utils import comm
from torch import Tensor

from ..errors import UserError, one_line
from .labels import LABELS, Labels, labels_of
from .write import sha256_of

logger = logging.getLogger(__name__)

TIMEOUT = 30  # seconds without an answer
# The base URL of detectron2://: https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md
DETECTRON2_ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
# Keys under which training scripts keep the weights in their checkpoints. EMA weights come first if a file has both;
# only mmengine has them under state_dict, and the others under ema_state_dict.
# `blobs` is Caffe2's, `model_state` pycls', `module` DeepSpeed's.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "blobs",
    "module",
    "ema_state_dict",
)
# Prefixes that DistributedDataParallel, AveragedModel and torch.compile add to every name.
PREFIXES = ("module.", "_orig_mod.")
# Counters of EMA, mmcv's copies of the weights before it, and Caffe2's momenta.
NOT_WEIGHTS = re.compile(r"n_averaged|steps|ema_[^.]+|[^.]+_momentum")
# The first bytes of torch.save before torch 1.6: a pickled magic number.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Files saved by mistake, by their first bytes.
OTHER_FILES = {
    b"<": "a web page: the download needs a browser, or a login",
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
}


def resolve_location(location: str) -> str:
    """The http(s) URL of a detectron2:// or catalog:// one; any other location is returned unchanged.

    Raises:
        UserError: If detectron2's catalog does not have the name.
    """
    scheme, _, name = location.partition("://")
    if scheme == "detectron2":
        return DETECTRON2_ZOO + name
    if scheme == "catalog":
        try:
            return str(ModelCatalog.get(name))
        except (KeyError, RuntimeError) as error:
            raise UserError(
                f"train.init_checkpoint={location}: detectron2's catalog has no {name}; give a path or a URL"
            ) from error
    return location


def is_url(location: str) -> bool:
    """Whether `local_weights` would download it."""
    return urlparse(location).scheme in ("http", "https", "detectron2", "catalog")


def local_weights(location: str) -> Path:
    """The local file of a path or URL; a URL is downloaded once, to torch's hub folder.

    If the file's name ends in -HASH.pth, as those of published weights do, the file is verified each time: HASH is the
    start of its SHA-256.

    Args:
        location: A path, an http(s) URL, or a detectron2:// or catalog:// URL.

    Raises:
        UserError: If there is no such file, or it cannot be downloaded, or its hash is another one.
    """
    location = resolve_location(location)
    if not is_url(location):
        path = Path(location)
        if not path.is_file():
            raise UserError(
                f"train.init_checkpoint={location}: there is no such file (looked for {path.resolve()}); "
                "`hrnet-kpt demo` trains without weights"
            )
        try:
            path.open("rb").close()
        except OSError as error:
            raise UserError(
                f"train.init_checkpoint={location} cannot be read: {error.strerror}"
            ) from error
    else:
        name = Path(urlparse(location).path).name
        if not hash_in(name):  # names such as model.safetensors are not unique
            name = f"{hashlib.sha256(location.encode()).hexdigest()[:8]}_{name}"
        path = Path(torch.hub.get_dir()) / "checkpoints" / name
        if comm.get_local_rank() == 0 and not path.is_file():
            _download(location, path)
        comm.synchronize()
    expected = hash_in(path.name)
    if expected and not sha256_of(path).startswith(expected):
        raise UserError(
            f"{location} is not the file that its name promises: its SHA-256 begins with "
            f"{sha256_of(path)[:8]}; fetch it again, or rename {path} if that is not a hash"
        )
    return path


def hash_in(name: str) -> str:
    """The start of a SHA-256 at the end of a file's name; empty if there is none, or a date."""
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    is_date = match and re.fullmatch(r"(19|20)\d\d(0\d|1[0-2])[0-3]\d", match[1])
    return match[1] if match and not is_date else ""


def _download(url: str, path: Path) -> None:
    timeout = socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(TIMEOUT)
        torch.hub.download_url_to_file(url, str(path), hash_in(path.name) or None)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"train.init_checkpoint={url} cannot be downloaded ({' '.join(str(error).split())}): put the file at "
            f"{path} by other means, or set train.init_checkpoint=PATH; `hrnet-kpt demo` trains without weights"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Labels | None]:
    """Read the tensors of a file by name, without wrappers of training scripts, and its labels.

    Args:
        path: A .safetensors file, a file of torch.save, or a pickle of arrays as in detectron2's model zoo. The content
            decides, not the name. torch's files are mapped into memory, not copied.

    Returns:
        The tensors, on the CPU; and the labels, which checkpoints of this project have, else None.

    Raises:
        UserError: For other formats, damaged files, pickles that would run code, and files without tensors.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise UserError(f"{path} is not a file of weights: it is empty; fetch or write it again")
    for start, what in OTHER_FILES.items():
        if head.lstrip().startswith(start):
            raise UserError(f"{path} is not a file of weights but {what}")
    is_safetensors = head[8:9] == b"{"
    if not (is_safetensors or head.startswith((b"PK", b"\x80"))):
        raise UserError(
            f"{path} is not a file of weights: it is none of .safetensors, torch.save and pickle"
        )
    try:
        if is_safetensors:
            content, labels = safetensors.torch.load_file(path), None
            with (
                safetensors.safe_open(path, "pt") as file,
                contextlib.suppress(KeyError, TypeError, ValueError),
            ):
                labels = labels_of({LABELS: json.loads(file.metadata()[LABELS])})
        else:
            is_torch = head.startswith((b"PK", LEGACY))
            content = _torch_load(path) if is_torch else _unpickle(path)
            labels = labels_of(content)
        content = _single_state_dict(content, path)
        tensors = unwrap(content)
    except UserError:
        raise
    except Exception as error:  # the readers raise many kinds for damaged files
        raise _unreadable(path, error) from error
    for name, value in tensors.items():
        if not _is_plain(value):
            raise UserError(
                f"{path} holds a tensor that is quantized, sparse, of 8-bit floats or on the meta device: {name}; "
                "save plain ones"
            )
    if not tensors:
        kind = ", ".join(map(str, content)) if isinstance(content, Mapping) else str(type(content))
        found = " ".join(kind.split())[:100]
        raise UserError(f"{path} is not a file of weights: it holds no tensors ({found})")
    return tensors, labels


def _single_state_dict(content: Any, path: Path) -> Any:
    """The state dict in a list or tuple, or a dict of its (name, tensor) pairs; other content is returned unchanged.

    Raises:
        UserError: For tensors without names, and for several state dicts.
    """
    if not isinstance(content, list | tuple):
        return content
    dicts = [entry for entry in content if isinstance(entry, Mapping) and unwrap(entry)]
    if len(dicts) == 1:
        return dicts[0]
    if len(dicts) > 1:
        raise UserError(
            f"{path} holds a list of {len(dicts)} state dicts: save one of them, by "
            'torch.save({"model": state_dict}, FILE)'
        )
    pairs = [entry for entry in content if isinstance(entry, list | tuple) and len(entry) == 2]
    if pairs and len(pairs) == len(content) and all(isinstance(name, str) for name, _ in pairs):
        return {name: value for name, value in pairs}
    if any(isinstance(entry, Tensor | _Array) for entry in content):
        raise UserError(
            f"{path} holds a list of {len(content)} tensors without names: save the network's state_dict() instead"
        )
    return content


def unwrap(content: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, taken out of `state_dict`, `model` and the like, without `module.`."""
    wrapped = True
    while wrapped:
        wrapped = False
        for wrapper in WRAPPERS:
            if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
                content, wrapped = content[wrapper], True
                if "ema" in wrapper:
                    logger.info("Taking the EMA weights of %s", wrapper)
    tensors = {}
    for name, value in content.items() if isinstance(content, Mapping) else ():
        name = " ".join(str(name).split())  # in messages, a name stays on its line
        while name.startswith(PREFIXES):
            name = name.split(".", 1)[1]
        if isinstance(value, _Array):
            value = value.numbers
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.as_tensor(value)
        if isinstance(value, Tensor) and not NOT_WEIGHTS.fullmatch(name):
            tensors[name] = value.detach()
    return tensors


def _is_plain(value: Tensor) -> bool:
    """Whether sums and copies of the tensor work."""
    if value.layout != torch.strided or value.is_quantized or value.is_nested or value.is_meta:
        return False
    return not value.is_floating_point() or value.element_size() > 1


class _Dtype:
    """Replaces numpy.dtype in pickles: numpy does not check their arguments, and wrong ones crash the process."""

    order = "="

    def __init__(self, name: str, *flags: object) -> None:
        self.name = str(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Replaces numpy.ndarray in pickles: `numbers` is made from the bytes; None if they are not plain numbers."""

    numbers: np.ndarray | None = None

    def __init__(self, *ignored: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, in_columns, content = state
        kind = f"{dtype.order}{dtype.name}" if isinstance(dtype, _Dtype) else ""
        if re.fullmatch(r"[<>=|][fiu][1248]", kind):
            if isinstance(content, str):  # as Python 2 wrote bytes
                content = content.encode("latin1")
            numbers = np.frombuffer(content, kind).reshape(shape, order="F" if in_columns else "C")
            self.numbers = numbers.astype(kind[1:])


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", content))
    return array


# The only functions that a pickle may call: those of arrays of numbers.
ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": codecs.encode,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1, numpy 2
    ALLOWED[f"{_core}.multiarray._reconstruct"] = _Array
    ALLOWED[f"{_core}.multiarray.scalar"] = _Array  # such as scores and learning rates
    ALLOWED[f"{_core}.numeric._frombuffer"] = _from_buffer  # by default in Python 3.14


def _torch_load(path: Path) -> Any:
    names: list[Any] = [(replacement, name) for name, replacement in ALLOWED.items()]
    # torch refuses torch files called .safetensors, unless they are open; but only a path can be mapped.
    misnamed = path.suffix == ".safetensors"
    mapped = zipfile.is_zipfile(path) and not misnamed
    with (
        torch.serialization.safe_globals(names),
        warnings.catch_warnings(),
        path.open("rb") as file,
    ):
        warnings.simplefilter("ignore")  # the error is more specific
        source = file if misnamed else str(path)
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)


class _ArrayUnpickler(pickle._Unpickler):
    """Looks up only the functions in ALLOWED.

    It is Python's, because the C implementation allocates any size that a damaged file asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in ALLOWED:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return ALLOWED[f"{module}.{name}"]


def _unpickle(path: Path) -> Any:
    with path.open("rb") as file:
        return _ArrayUnpickler(file, encoding="latin1").load()


def _unreadable(path: Path, error: Exception) -> UserError:
    called = re.search(r"GLOBAL ([\w.]+)", str(error))
    if called:
        return UserError(
            f"{path} is refused: it holds {called[1]}, not a tensor, and loading it would run its author's code; "
            "if you trust the file, save only its tensors, by safetensors.torch.save_file"
        )
    first_sentence = one_line(error).split(". ")[0][:150]
    return UserError(
        f"{path} is not a file of weights, or it is cut short or damaged ({first_sentence})"
    )
