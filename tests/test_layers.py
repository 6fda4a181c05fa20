"""Imports go one way."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "projects" / "hrnet_kpt"
# A folder may import those before it, and `errors`.
LAYERS = [
    {"modeling"},
    {"data", "weights"},
    {"config"},
    {"inference"},
    {"engine"},
    {"analysis"},
    {"cli"},
]
MODELING_MAY_IMPORT = (
    "torch",
    "fvcore.nn",
    "detectron2.layers",
    "detectron2.modeling",
    "detectron2.structures",
    "detectron2.utils.comm",
)


def imported(path):
    """Full names of the modules that a file of the package imports, __future__ and typing included."""
    folder = ["hrnet_kpt", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("layer", range(len(LAYERS)))
def test_folder_imports_only_what_is_below_it(layer):
    below = {"errors", "files", "memory", "__version__"}.union(*LAYERS[:layer])
    for folder in LAYERS[layer]:
        for path in (PACKAGE / folder).rglob("*.py"):
            for name in imported(path):
                if name.startswith("hrnet_kpt."):
                    part = name.split(".")[1]
                    assert part == folder or part in below, f"{path} imports {name}"


def test_modeling_knows_no_config_and_no_registry():
    for path in (PACKAGE / "modeling").glob("*.py"):
        for name in imported(path):
            if name.split(".")[0] in ("detectron2", "fvcore", "omegaconf", "hydra"):
                assert name.startswith(MODELING_MAY_IMPORT), f"{path} imports {name}"


def test_nothing_in_the_package_imports_a_config_or_a_tool():
    for path in PACKAGE.rglob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] not in ("configs", "tools", "yacs", "projects"), path
            assert not name.startswith(("detectron2.model_zoo", "hrnet_kpt.configs")), path
