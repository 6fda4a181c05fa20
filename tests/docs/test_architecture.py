"""docs/architecture.md names files, functions and folders that exist."""

import ast
import re

import pytest


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "architecture.md").read_text()


def test_each_file_defines_what_the_page_finds_in_it(page, repository):
    rows = re.findall(r"\]\(\.\./([\w/]+\.py)\), `([\w.]+)`", page)
    assert len(rows) >= 18
    for path, name in rows:
        text = (repository / path).read_text()
        names = {node.name for node in ast.walk(ast.parse(text)) if hasattr(node, "name")}
        names |= set(re.findall(r"^\s*(\w+)=L\(", text, re.MULTILINE))  # of a config
        assert set(name.split(".")) <= names, f"{path} has no {name}"


def test_diagrams_and_rooms_are_those_of_the_package(page, repository):
    package = repository / "projects" / "hrnet_kpt"
    for diagram in re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL):
        files = re.findall(r"\b((?:\w+/)+\w+\.py)\b", diagram)
        assert len(files) >= 5
        for name in files:
            assert (package / name).is_file() or (repository / name).is_file(), name
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert set(re.findall(r"^\| \[`(\w+)/`\]\(\.\./projects", page, re.MULTILINE)) == folders
