"""Differences between two configs, and their format."""

import copy
import pickle

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.layers import Conv2d
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.config.diff import ABSENT, Difference, differences, format_differences
from hrnet_kpt.config.overrides import apply_overrides

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a", "1", "true", "a b"]),
    lambda tree: st.lists(tree, max_size=3) | st.dictionaries(st.sampled_from("abc"), tree, max_size=3),
)  # fmt: skip


def config(nodes):
    return DictConfig(nodes, flags={"allow_objects": True})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": "1"}}}, [("a.b.c", 1, "1")]),
        ({"a": True}, {"a": 1}, [("a", True, 1)]),
        ({"a": 1}, {"a": 1.0}, [("a", 1, 1.0)]),
        ({"a": float("nan")}, {"a": float("nan")}, []),
        ({"a": None}, {}, [("a", None, ABSENT)]),
        ({}, {"a": None}, [("a", ABSENT, None)]),
        ({"a": {"b": 1, "c": 2}}, {}, [("a", {"b": 1, "c": 2}, ABSENT)]),
        ({"a": {"b": 1}}, {"a": 1}, [("a", {"b": 1}, 1)]),
        ({"a": {}}, {"a": {"b": 1}}, [("a.b", ABSENT, 1)]),
        ({"a": [1, 2]}, {"a": [1, 3]}, [("a", [1, 2], [1, 3])]),
        ({"a": [[1], [2]]}, {"a": [[1], [3]]}, [("a", [[1], [2]], [[1], [3]])]),
        ({"a": [{"b": 1}, {"c": 2}]}, {"a": [{"b": 1}, {"c": 3}]}, [("a.1.c", 2, 3)]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1}, {"c": 3}]}, [("a.1", ABSENT, {"c": 3})]),
        ({"a": [{"b": 1}]}, {"a": []}, [("a", [{"b": 1}], [])]),
        ({"a": {"b": 1}, "c": 2}, {"a": {}, "c": 3}, [("c", 2, 3), ("a.b", 1, ABSENT)]),
        ({"a": "${b}", "b": 1}, {"a": 1, "b": 1}, [("a", "${b}", 1)]),
        ({"a": 1, "b": "${a}"}, {"a": 2, "b": "${a}"}, [("a", 1, 2)]),
        ({"a": "${no.such}"}, {"a": "${no.such}"}, []),
        (
            {"x": {"a": 1, "b": 2, "gone": 3}, "lost": 4, "y": 5},
            {"y": 6, "x": {"new": 7, "b": 8, "a": 1}},
            [("y", 5, 6), ("x.new", ABSENT, 7), ("x.b", 2, 8), ("x.gone", 3, ABSENT), ("lost", 4, ABSENT)],
        ),
    ],
)  # fmt: skip
def test_differences(old, new, expected):
    # By repr: 1 is equal to True.
    assert repr(differences(config(old), config(new))) == repr([Difference(*e) for e in expected])


def test_another_callable_is_one_difference():
    old = config({"optimizer": L(torch.optim.SGD)(lr=1, params=L(torch.nn.ReLU)())})
    new = config({"optimizer": L(torch.optim.AdamW)(lr=2, betas=[1, 2])})
    [(key, before, after)] = differences(old, new)
    assert key == "optimizer"
    relu = {"_target_": "torch.nn.ReLU"}
    assert before == {"_target_": "torch.optim.SGD", "lr": 1, "params": relu}
    assert after == {"_target_": "torch.optim.AdamW", "lr": 2, "betas": [1, 2]}
    assert format_differences([(key, before, after)]) == (
        "optimizer: SGD(lr=1, params=ReLU()) -> AdamW(lr=2, betas=[1, 2])"
    )


def test_a_callable_and_its_name_are_equal():
    old = config({"a": L("torch.optim.sgd.SGD")(lr=1)})
    assert differences(old, config({"a": L(torch.optim.SGD)(lr=1)})) == []


def test_unsavable_objects_can_be_compared():
    def cfg(number):
        return config({"a": L(lambda: 0)(b=1), "c": object(), "d": L("no_such.D")(), "e": number})

    assert differences(cfg(1), cfg(2)) == [("e", 1, 2)]


def test_differences_of_a_shipped_config(tmp_path):
    old = load_config("hrnet_w18_small_kpt.py")
    new = old.copy()
    apply_overrides(new, ["train.max_iter=5", "optimizer.lr=0.5", "+train.note=new"])
    save_config(old, tmp_path / "old.yaml")
    for other in (old, load_config(tmp_path / "old.yaml")):
        assert differences(other, new) == [
            ("optimizer.lr", 0.02, 0.5),
            ("train.max_iter", 90000, 5),
            ("train.note", ABSENT, "new"),
        ]


def apply(found, old):
    """The old tree with the differences in it."""
    root = {"root": copy.deepcopy(old)}
    for key, _, value in found:
        *path, last = ["root", *key.split(".")]
        node = root
        for part in path:
            node = node[int(part) if isinstance(node, list) else part]
        if isinstance(node, dict) and value is ABSENT:
            del node[last]
        elif isinstance(node, dict):
            node[last] = value
        elif int(last) == len(node):
            node.append(value)
        else:
            node[int(last)] = value
    return without_absent(root["root"])


def without_absent(node):
    """Sorted, so that only the content counts."""
    if isinstance(node, dict):
        return {key: without_absent(node[key]) for key in sorted(node)}
    if isinstance(node, list):
        return [without_absent(child) for child in node if child is not ABSENT]
    return node


@settings(max_examples=100, deadline=None)
@given(*[st.dictionaries(st.sampled_from("abc"), PLAIN, max_size=3)] * 2)
def test_differences_turn_the_old_config_into_the_new_one(old, new):
    found = differences(config(old), config(new))
    assert repr(apply(found, old)) == repr(without_absent(new))
    assert bool(found) == (repr(without_absent(old)) != repr(without_absent(new)))
    assert all(repr(before) != repr(after) for _, before, after in found)


def test_differences_reach_other_processes():
    assert format_differences([]) == "no differences"
    found = differences(config({}), config({"a": L(torch.optim.SGD)(lr=1)}))
    assert format_differences(pickle.loads(pickle.dumps(found))) == "a: (absent) -> SGD(lr=1)"


def test_lines_are_aligned():
    found = differences(
        config({"a": 1, "train": {"max_iter": 5, "x": 1}}),
        config({"a": 2, "train": {"max_iter": 6}}),
    )
    assert format_differences(found).splitlines() == [
        "a:              1 -> 2",
        "train.max_iter: 5 -> 6",
        "train.x:        1 -> (absent)",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("SyncBN", "SyncBN"),
        ("./a/b-1.pth", "./a/b-1.pth"),
        ("${..num_classes}", "${..num_classes}"),
        ("https://a.org/b_c.pth", "https://a.org/b_c.pth"),
        *[(text, repr(text)) for text in ("", "1", "1e5", "nan", "True", "off", "None", "a b", "[1]")],
        *[(text, repr(text)) for text in ("(absent)", "a -> b", "a\nb", "'", "a, b", " ", "L(x)")],
        (1, "1"), (1e-4, "0.0001"), (True, "True"), (None, "None"), (ABSENT, "(absent)"),
        ([1, "2", "a"], "[1, '2', a]"),
        ({"a": 1, "b": ["x"]}, "{a: 1, b: [x]}"),
        ({"_target_": "torch.optim.SGD", "lr": 1}, "SGD(lr=1)"),
    ],
)  # fmt: skip
def test_values_are_unambiguous(value, text):
    assert format_differences([Difference("key", value, 7)]) == f"key: {text} -> 7"


def test_callables_of_the_same_name_have_their_modules():
    found = differences(config({"a": L(torch.nn.Conv2d)(b=1)}), config({"a": L(Conv2d)(b=1)}))
    assert format_differences(found) == "a: torch.nn.Conv2d(b=1) -> detectron2.layers.Conv2d(b=1)"


@pytest.mark.parametrize("place", [0, 100, 299])
@pytest.mark.parametrize("key", ["a", "a." * 20 + "a", "dataloader." * 8 + "b"])
def test_long_values_are_shortened_around_the_difference(key, place):
    old = "x" * 300
    new = f"{old[:place]}Y{old[place + 1 :]}"
    line = format_differences([Difference(key, old, new)])
    assert len(line) <= max(120, len(key) + 50)
    name, _, values = line.partition(": ")
    before, after = values.split(" -> ")
    assert name == key
    assert "Y" in after and "..." in after and len(before) == len(after)
    assert (before.startswith("...")) == (place > 0)


def test_long_value_gets_the_width_of_a_short_one():
    for old, new in (("w" * 90, ""), ("", "w" * 90)):
        line = format_differences([Difference("train.init_checkpoint", old, new)])
        assert line == f"train.init_checkpoint: {old or repr('')} -> {new or repr('')}"
