"""Nodes as they are written, and who looks at them."""

import ast
import re
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.nodes import AnyNode

from hrnet_kpt.config.keys import (
    child_of,
    copy_within,
    is_interpolation,
    is_list,
    is_mapping,
    is_missing,
    walk,
    written,
)

PACKAGE = Path(__file__).parents[2] / "projects" / "hrnet_kpt"


def test_private_names_of_omegaconf_are_in_one_file():
    nodes = (AnyNode(1), OmegaConf.create({}), OmegaConf.create([]))
    private = {
        name
        for node in nodes
        for name in {*dir(type(node)), *vars(node)}
        if re.fullmatch(r"_[a-z]\w*(?<!__)", name) and name != "_abc_impl"
    }
    assert {"_get_node", "_value", "_metadata", "_content", "_set_parent"} <= private
    users = {
        path.name: node.attr
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in private
        if getattr(node.value, "id", "") not in ("self", "cls")
    }
    assert set(users) == {"keys.py"}, users


def test_a_migration_is_not_on_the_way_to_a_config():
    for path in [*(PACKAGE / "config").glob("*.py"), *(PACKAGE / "config/checks").glob("*.py")]:
        for node in ast.parse(path.read_text()).body:  # at the top level
            if isinstance(node, ast.ImportFrom):
                imported = {*(node.module or "").split("."), *(alias.name for alias in node.names)}
                assert "yacs" not in imported, path


def test_nodes_are_seen_as_they_are_written():
    cfg = OmegaConf.create(
        {"a": {"b": 1}, "c": [1, {"d": "${a.b}"}], "e": "${a}", "f": "???", "g": None}
    )
    nodes = dict(walk(cfg))
    assert list(nodes) == ["a", "a.b", "c", "c.0", "c.1", "c.1.d", "e", "f", "g"]
    assert [key for key, node in nodes.items() if is_interpolation(node)] == ["c.1.d", "e"]
    assert [key for key, node in nodes.items() if is_missing(node)] == ["f"]
    assert [key for key, node in nodes.items() if is_mapping(node)] == ["a", "c.1"]
    assert [key for key, node in nodes.items() if is_list(node)] == ["c"]
    assert written(nodes["e"]) == "${a}" and written(nodes["a.b"]) == 1 and written(3) == 3
    assert child_of(cfg.c, "1") is nodes["c.1"] and child_of(cfg.c, "2") is None


def test_copy_follows_what_stands_around_the_original():
    cfg = OmegaConf.create({"a": {"b": "${..c}"}, "c": 3})
    OmegaConf.set_readonly(cfg, True)
    copy = copy_within(cfg.a, cfg)
    copy.new = object()
    assert copy.b == 3 and "new" not in cfg.a
