"""Arguments compared with annotations."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Optional

import pytest
import torch
from detectron2.config import LazyCall as L
from omegaconf import OmegaConf

from hrnet_kpt.config.keys import child_of
from hrnet_kpt.config.signatures import wrong_type


class Part(torch.nn.Module):
    pass


def function(
    count: int,
    rate: float,
    flag: bool,
    name: str,
    sizes: Sequence[int],
    table: Mapping[str, int],
    part: torch.nn.Module,
    maybe: Optional[Part],  # noqa: UP045
    either: int | list[int],
    anything: Any,
    choice: Literal["a", "b"],
    bare,
    device: torch.device = "cpu",
    implicit: int = None,  # noqa: RUF013
    odd: int = 0.5,
):
    pass


RIGHT = [
    ("count", 3), ("count", 3.0), ("count", True), ("rate", 1), ("rate", 0.5), ("flag", False),
    ("name", "x"), ("sizes", [1, 2]), ("table", {"a": 1}), ("part", L(Part)()),
    ("maybe", None), ("maybe", L(Part)()),
    ("either", 1), ("either", [1]), ("anything", {"a": 1}), ("anything", None), ("choice", "z"), ("bare", None),
    ("device", "cuda"), ("implicit", None), ("implicit", 3), ("odd", 0.25), ("count", "${other}"),
]  # fmt: skip
# With the types that the message names: of the value, and of the annotation.
WRONG = [
    ("count", "3", "string", "integer"), ("count", None, "null", "integer"), ("count", [3], "list", "integer"),
    ("count", {"a": 1}, "mapping", "integer"), ("flag", "off", "string", "bool"), ("flag", 1, "integer", "bool"),
    ("name", 5, "integer", "string"), ("sizes", 5, "integer", "list"), ("table", [1], "list", "mapping"),
    ("part", {"width": 3}, "mapping", "L(Module)(...)"), ("part", None, "null", "Module"),
    ("part", "resnet", "string", "Module"), ("maybe", {"width": 3}, "mapping", "L(Part)(...)"),
    ("either", "x", "string", "a list or an integer"),
]  # fmt: skip


def problem(argument, value):
    node = OmegaConf.create({argument: value, "other": "x"}, flags={"allow_objects": True})
    return wrong_type(function, argument, child_of(node, argument))


@pytest.mark.parametrize(("argument", "value"), RIGHT)
def test_right_and_unknown_types(argument, value):
    assert problem(argument, value) == ""


@pytest.mark.parametrize(("argument", "value", "found", "expected"), WRONG)
def test_wrong_type(argument, value, found, expected):
    before, _, after = problem(argument, value).partition("must be")
    assert found in before and expected in after


def test_annotations_of_a_base_class():
    class Base:
        def __init__(self, width: int):
            pass

    class Child(Base):
        def __init__(self, depth: int, **kwargs):
            super().__init__(**kwargs)

    node = child_of(OmegaConf.create({"width": "wide"}), "width")
    assert "integer" in wrong_type(Child, "width", node)
