"""Objects that cannot be saved are refused by their keys."""

import functools
import os
import sys
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.utils.registry import locate
from omegaconf import DictConfig

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.config.save import refuse_unsavable
from hrnet_kpt.config.serialize import plain_config


def config(**nodes):
    return DictConfig(nodes, flags={"allow_objects": True})


class Head:
    def __init__(self, size):
        self.size = size

    def make(self):
        return self


class Notebook:
    __module__ = "__main__"
    __qualname__ = "Notebook"


class Colour(Enum):
    RED = 1


def local_class():
    class Local:
        pass

    return Local


def local_dataclass():
    @dataclass
    class Local:
        channels: int = 1

    return Local()


MOVE = "module"
REFUSED = {
    "object": (dict(a=dict(b=Head(3))), ["model.a.b=", "type Head", "L(Head)(...)"]),
    "in_a_list": (dict(a=[1, Head(3)]), ["model.a.1=", "type Head", "L(Head)(...)"]),
    "enum": (dict(colour=Colour.RED), ["model.colour=", "L(Colour)(...)"]),
    "enum_key": (dict(a={Colour.RED: 1}), ["model.a", "key <Colour.RED: 1>", "string"]),
    "numpy": (dict(mean=np.ones(99)), ["model.mean=", "L(ndarray)(...)"]),
    "tensor": (dict(mean=torch.ones(9, 9)), ["model.mean=", "L(Tensor)(...)"]),
    "module": (dict(act=torch.nn.ReLU()), ["model.act=", "L(ReLU)(...)"]),
    "class": (dict(norm=torch.nn.ReLU), ["model.norm=", 'L(locate)(name="torch.nn.ReLU")']),
    "function": (dict(act=torch.relu), ["model.act=", 'L(locate)(name="torch.relu")']),
    "dtype": (dict(dtype=torch.float16), ["model.dtype=", 'L(locate)(name="torch.float16")']),
    "lambda": (dict(act=lambda x: x), ["model.act=", "a lambda", MOVE]),
    "lambda_target": (L(lambda x: x)(x=1), ["model._target_=", "a lambda", MOVE]),
    "local": (dict(a=[L(local_class())()]), ["model.a.0._target_=", "function", MOVE]),
    "local_dataclass": (dict(s=local_dataclass()), ["model.s._target_=", "function", MOVE]),
    "notebook": (L(Notebook)(), ["model._target_=", "notebook", MOVE]),
    "notebook_string": (L("__main__.Notebook")(), ["model._target_='__main__", "notebook", MOVE]),
    "partial": (L(functools.partial(dict, a=1))(), ["model._target_=", MOVE]),
    "bound": (L(Head(3).make)(), ["model._target_=", MOVE]),
    "unknown": (L("no_such.Head")(), ["model._target_='no_such.Head'", "correct it"]),
    "unknown_name": (L("torch.nn.Relu")(), ["model._target_='torch.nn.Relu'", "correct it"]),
    "not_callable": (L("math.pi")(), ["model._target_='math.pi'", "called"]),
    "module_target": (L("torch.nn")(), ["model._target_='torch.nn'", "called"]),
    "number_target": (dict(_target_=5), ["model._target_=5", "called"]),
    "top_level": (5, ["config model=5", "train.model"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsavable_object(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "Notebook", Notebook, raising=False)
    node, words = REFUSED[name]
    cfg = config(train=dict(a=1), model=node)
    (tmp_path / "config.py").write_text("train = dict()")
    messages = []
    for save in (refuse_unsavable, lambda cfg: save_config(cfg, tmp_path / "config.py")):
        with pytest.raises(ValueError) as raised:
            save(cfg)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0] and len(messages[0]) < 300
    assert [word for word in words if word not in messages[0]] == []
    assert os.listdir(tmp_path) == ["config.py"]
    assert (tmp_path / "config.py").read_text() == "train = dict()"


def test_object_of_a_config_file(tmp_path):
    (tmp_path / "base.py").write_text("def function(): pass\nclass Class: pass\n")
    (tmp_path / "mine.py").write_text(
        "from detectron2.config import LazyCall as L\n"
        "from .base import Class as OtherClass, function as other_function\n"
        "def function(): pass\nclass Class: pass\n"
        "model = dict(a=L(function)(), b=L(Class)(), c=L(OtherClass)(), d=L(other_function)())\n"
    )
    cfg = load_config(tmp_path / "mine.py")
    for key in list(cfg.model):
        with pytest.raises(ValueError, match=r"n\._target_=.*config file.*module"):
            refuse_unsavable(config(n=cfg.model[key]))


def test_computed_fields_of_a_dataclass_are_left_out(tmp_path):
    plain = plain_config(config(a=WithComputed(channels=3)))
    assert set(plain["a"]) == {"_target_", "channels"}


@dataclass
class WithComputed:
    channels: int = 1
    double: int = field(init=False, default=2)


@pytest.mark.parametrize("value", [torch.float16, torch.relu, torch.nn.ReLU])
def test_remedy_for_what_has_a_name_can_be_saved_and_gives_the_same(value):
    with pytest.raises(ValueError, match=r"L\(locate\)") as raised:
        refuse_unsavable(config(model=dict(a=value)))
    name = str(raised.value).split('"')[1]
    node = config(model=dict(a=L(locate)(name=name)))
    refuse_unsavable(node)
    assert instantiate(node.model.a) is value
