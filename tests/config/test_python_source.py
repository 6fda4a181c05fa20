"""Configs as Python source."""

import ast
import re

import detectron2.layers
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.matcher import Matcher
from omegaconf import DictConfig, ListConfig, OmegaConf

from hrnet_kpt.config import load_config
from hrnet_kpt.config.python_source import highlighted, python_source
from hrnet_kpt.config.serialize import plain_config
from hrnet_kpt.modeling import HRNet

pytestmark = pytest.mark.usefixtures("whole_runs")


def config(**nodes):
    return DictConfig(nodes, flags={"allow_objects": True})


def unresolved(cfg):
    return OmegaConf.to_container(cfg, resolve=False)


@pytest.fixture
def reload(tmp_path):
    """Function of a config: what detectron2 loads from its source."""

    def reload(cfg):
        path = tmp_path / "config.py"
        path.write_text(python_source(cfg), encoding="utf-8")
        return LazyConfig.load(str(path))

    return reload


def test_source_reads_like_a_config_file():
    cfg = config(
        train=dict(max_iter=5, amp=dict(enabled=False)),
        model=L(GeneralizedRCNN)(
            backbone=L(HRNet)(width=18, num_blocks=[4, 4], out_features="${train.features}"),
            shape=L(ShapeSpec)(channels=3),
            weights={"left-eye": 1.0, "class": None},
        ),
        optimizer=L(torch.optim.SGD)(lr=1e-4),
    )
    assert python_source(cfg) == (
        """\
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from hrnet_kpt.modeling import HRNet
from torch.optim import SGD

train = dict(max_iter=5, amp=dict(enabled=False))

model = L(GeneralizedRCNN)(
    backbone=L(HRNet)(width=18, num_blocks=[4, 4], out_features="${train.features}"),
    shape=L(ShapeSpec)(channels=3),
    weights={"left-eye": 1.0, "class": None},
)

optimizer = L(SGD)(lr=0.0001)
"""
    )


@pytest.mark.parametrize(
    "value",
    [
        "${data.root}/a", "\\${data.root}", '"${data.root}"', "${oc.env:HOME,'a b'}", "${..a.b[0]}",
        '"', "'", "\"\"\"'''", "a\nb\r\tc", "\\", "\\n", "Größe\u2028", "\x00", "{x}", "%s", "???", b"\x00\xff",
        float("inf"), -float("inf"), -0.0, 1e-300, 10**40, True, None,
        [], {}, [[]], [{}], {"a": {}}, [{"b": [1, {"c": None}]}],
        {"": 0}, {1: {2.5: {True: "x"}}}, {"class": 1, "a": 2}, {"a-b": 1}, {"ﬁ": 1}, {"__debug__": 1},
        {"self": 1}, {"None": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_value_survives(reload, value):
    cfg = config(data=dict(root="r"), node={"value": value}, call=L(Matcher)(value=value))
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        cfg.call.update(value)
    again = reload(cfg)
    assert repr(unresolved(again).pop("node")) == repr(unresolved(cfg).pop("node"))
    assert plain_config(again) == plain_config(cfg)


def test_call_with_keys_that_are_not_names_survives(reload):
    cfg = config(
        a=L(Matcher)(**{"left-eye": 1, "class": [2], "labels": 3}),
        b={"_target_": "detectron2.modeling.matcher.Matcher", "self": 1},
        c={"_target_": "detectron2.modeling.matcher.Matcher", 5: 1},
    )
    again = reload(cfg)
    assert again.a == cfg.a
    assert python_source(again) == python_source(cfg)


def test_callables_of_the_same_name_survive(reload):
    cfg = config(a=L(torch.nn.Conv2d)(), b=L(detectron2.layers.Conv2d)(), c=L(torch.nn.Conv2d)(d=1))
    assert reload(cfg) == cfg


@pytest.mark.parametrize("name", ["L", "dict", "float", "ListConfig", "Matcher", "match", "model"])
def test_top_level_name_may_be_any_variable(reload, name):
    cfg = config(
        **{name: {"a": {"b": float("inf")}}},
        rest=[{"a": {"b": float("inf")}}],
        matcher=L(Matcher)(labels={"a": 1}),
    )
    assert reload(cfg) == cfg


@pytest.mark.parametrize(
    "target",
    [
        int, slice, max, torch.relu, torch.nn.functional.relu, torch.nn.functional.gelu, torch.optim.SGD,
        torch.nn.Embedding.from_pretrained, HRNet.forward,
    ],
    ids=lambda target: target.__qualname__,
)  # fmt: skip
def test_target_is_the_same_object(reload, target):
    assert reload(config(node=L(target)(a=1))).node == {"_target_": target, "a": 1}


def test_target_without_an_importable_name_stays_a_string(reload):
    cfg = config(node=L("string.punctuation.join")(iterable=["a"]))
    assert reload(cfg) == cfg


def test_target_that_omegaconf_converts_to_a_dict_stays_a_string(reload):
    cfg = config(node=L("builtins.dict")(a=1), other=L("attr.Attribute")(b=2), list=L("list")())
    again = reload(cfg)
    assert instantiate(again.node) == {"a": 1}
    assert python_source(again) == python_source(cfg)


def test_target_that_is_a_node_or_an_interpolation_survives(reload):
    cfg = config(
        maker=L(L(torch.nn.Identity)(a=1))(b=2),
        other=L("${names.target}")(c=3),
        names=dict(target="x"),
    )
    assert unresolved(reload(cfg)) == unresolved(cfg)


def test_long_targets_are_shortened():
    source = python_source(config(a=L("detectron2.modeling.roi_heads.roi_heads.Res5ROIHeads")()))
    assert "from detectron2.modeling.roi_heads import Res5ROIHeads\n" in source


def test_imports_are_sorted_and_lines_short():
    cfg = config(
        n0=L(torch.nn.ReLU)(),
        n1=L(torch.nn.GELU)(),
        n2=L(torch.nn.Conv2d)(),
        a=L(Matcher)(thresholds=[0.25] * 40),
        b=L(torch.optim.SGD)(),
    )
    lines = python_source(cfg).splitlines()
    imports = [line for line in lines if line.startswith("from")]
    assert imports == sorted(imports)
    assert "from torch.nn import GELU, Conv2d, ReLU" in imports
    assert max(map(len, lines)) <= 100
    assert imports == lines[: len(imports)]


def test_empty_config_is_an_empty_file(reload):
    assert python_source(config()).strip() == ""
    assert reload(config()) == {}


def test_empty_top_level_nodes_survive(reload):
    again = reload(config(a={}, b=[], c=L(Matcher)()))
    assert isinstance(again.b, ListConfig)
    assert again == {"a": {}, "b": [], "c": {"_target_": Matcher}}


@pytest.mark.parametrize("value", [5, "text", None, True, 1.5, "${model}", "???"])
def test_top_level_value_that_detectron2_drops_is_refused(value):
    with pytest.raises(ValueError, match=r"max_iter=.*train\.max_iter") as raised:
        python_source(config(model={}, max_iter=value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["_private", "left-eye", "class", "1st", "", 5, "ﬁ"])
def test_top_level_name_that_is_not_a_variable_is_refused(name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        python_source(DictConfig({name: {}}))


def test_highlighted_source_is_the_source_in_colours():
    source = python_source(config(model=L(Matcher)(labels=[1], text="\x1b")))
    coloured = highlighted(source)
    assert "\x1b[" in coloured and "\x1b[" not in source
    plain = re.sub("\x1b\\[[0-9;]*m", "", coloured)
    assert ast.dump(ast.parse(plain)) == ast.dump(ast.parse(source))


def test_part_of_a_config_is_written_as_a_call():
    source = python_source(load_config("hrnet_w18_kpt.py").model.backbone)
    imports, _, call = source.rpartition("\n\n")
    assert call.startswith("L(HRFPN)(\n")
    assert "from hrnet_kpt.modeling import HRFPN, HRNet" in imports
    namespace = {}
    exec(imports, namespace)
    assert eval(call, namespace).bottom_up.width == 18
