"""Arguments against annotations."""

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
WRONG = [
    ("count", "3", "'3', a text, where a whole number is wanted"),
    ("count", None, "null, where a whole number is wanted"),
    ("count", [3], "[3], a list, where a whole number is wanted"),
    ("count", {"a": 1}, "a mapping, where a whole number is wanted"),
    ("flag", "off", "'off', a text, where a bool, true or false is wanted"),
    ("flag", 1, "1, a whole number, where a bool, true or false is wanted"),
    ("name", 5, "5, a whole number, where a text is wanted"),
    ("sizes", 5, "5, a whole number, where a list is wanted"),
    ("table", [1], "a list, where a mapping is wanted"),
    ("part", {"width": 3}, "a mapping, where a Module is wanted: write L(Module)(...)"),
    ("part", None, "null, where a Module is wanted"),
    ("part", "resnet", "a text, where a Module is wanted"),
    ("maybe", {"width": 3}, "write L(Part)(...)"),
    ("either", "x", "where a list or a whole number is wanted"),
]


def answer(argument, value):
    node = OmegaConf.create({argument: value, "other": "x"}, flags={"allow_objects": True})
    return wrong_type(function, argument, child_of(node, argument))


@pytest.mark.parametrize(("argument", "value"), RIGHT)
def test_right_and_unknown_types_are_taken(argument, value):
    assert answer(argument, value) == ""


@pytest.mark.parametrize(("argument", "value", "words"), WRONG)
def test_wrong_type_is_told(argument, value, words):
    assert words in answer(argument, value)


def test_annotations_of_a_class_are_those_of_the_constructor_that_takes_the_argument():
    class Base:
        def __init__(self, width: int):
            pass

    class Child(Base):
        def __init__(self, depth: int, **kwargs):
            super().__init__(**kwargs)

    node = child_of(OmegaConf.create({"width": "wide"}), "width")
    assert "a whole number is wanted" in wrong_type(Child, "width", node)
