"""Fixtures of all formats."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def malformed():
    """The module malformed.py: damaged copies of a data set."""
    path = Path(__file__).with_name("malformed.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
