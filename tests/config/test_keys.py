"""Nodes of a config without resolving interpolations, and the use of private names of OmegaConf."""

import ast
import re
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.nodes import AnyNode

from hrnet_kpt.config import keys

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


def test_loading_a_config_does_not_import_yacs():
    for path in [*(PACKAGE / "config").glob("*.py"), *(PACKAGE / "config/checks").glob("*.py")]:
        for node in ast.parse(path.read_text()).body:  # at the top level
            if isinstance(node, ast.ImportFrom):
                imported = {*(node.module or "").split("."), *(alias.name for alias in node.names)}
                assert "yacs" not in imported, path


def test_nodes_are_as_they_are_written():
    cfg = OmegaConf.create(
        {"a": {"b": 1}, "c": [1, {"d": "${a.b}"}], "e": "${a}", "f": "???", "g": None}
    )
    nodes = dict(keys.walk(cfg))
    assert list(nodes) == ["a", "a.b", "c", "c.0", "c.1", "c.1.d", "e", "f", "g"]
    for function, expected in (
        (keys.is_interpolation, ["c.1.d", "e"]),
        (keys.is_missing, ["f"]),
        (keys.is_mapping, ["a", "c.1"]),
        (keys.is_list, ["c"]),
    ):
        assert [key for key, node in nodes.items() if function(node)] == expected
    assert [keys.written(node) for node in (nodes["e"], nodes["a.b"], 3)] == ["${a}", 1, 3]
    assert keys.child_of(cfg.c, "1") is nodes["c.1"] and keys.child_of(cfg.c, "2") is None


def test_copy_resolves_interpolations_as_the_original():
    cfg = OmegaConf.create({"a": {"b": "${..c}"}, "c": 3})
    OmegaConf.set_readonly(cfg, True)
    copy = keys.copy_within(cfg.a, cfg)
    copy.new = object()
    assert copy.b == 3 and "new" not in cfg.a
