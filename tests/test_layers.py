"""Imports go one way, between rooms and between all folders; files are neither shards nor heaps."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "projects" / "hrnet_kpt"
TOOLS = PACKAGE.parents[1] / "tools"
# A room may import those in lines above its own, and the files beside the rooms.
ROOMS = """
modeling
data weights
evaluation
config
visualization
dataset_checks
inference
engine
analysis
cli
"""
LAYERS = [line.split() for line in ROOMS.split("\n") if line]
BESIDE = {"errors", "installed_detectron2", "io", "memory", "seeding", "__version__"}
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


def file_of(name):
    """The file of the package that an imported name comes from, None for other packages."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        path = PACKAGE.joinpath(*parts[1:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if parts[0] == "hrnet_kpt" and file.is_file():
                return file
    return None


def test_every_room_has_a_layer():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders == {room for layer in LAYERS for room in layer}


@pytest.mark.parametrize("layer", range(len(LAYERS)))
def test_room_imports_only_what_is_below_it(layer):
    below = BESIDE.union(*LAYERS[:layer])
    for room in LAYERS[layer]:
        for path in (PACKAGE / room).rglob("*.py"):
            for name in imported(path):
                if name.startswith("hrnet_kpt."):
                    part = name.split(".")[1]
                    assert part == room or part in below, f"{path} imports {name}"


def test_no_two_folders_import_each_other():
    """Nested ones too. An __init__.py may offer what lies in the folders below it."""
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        for file in filter(None, map(file_of, imported(path))):
            if path.name != "__init__.py" and file.parent not in (path.parent, PACKAGE):
                graph.setdefault(path.parent, set()).add(file.parent)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        folders = [str(folder.relative_to(PACKAGE)) for folder in error.args[1]]
        pytest.fail(f"folders that import each other: {' <- '.join(folders)}")


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


def test_files_are_neither_shards_nor_heaps():
    for path in PACKAGE.rglob("*.py"):
        lines = len(path.read_text().splitlines())
        if path.name not in ("__init__.py", "errors.py"):
            assert 30 <= lines <= 450, f"{path} has {lines} lines"
    for path in TOOLS.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 10, path
