"""Configs that were saved before something moved load as they did."""

import pytest
from detectron2.utils.registry import locate

from hrnet_kpt.config import load_config
from hrnet_kpt.config.moved import MOVED


def test_table_leads_from_names_that_are_gone_to_names_that_are_there():
    for old, new in MOVED.items():
        assert callable(locate(new))
        with pytest.raises(ImportError):
            locate(old)


def test_config_yaml_of_an_older_run_is_todays(run_folder, tmp_path):
    text = (run_folder / "config.yaml").read_text()
    for old, new in MOVED.items():
        assert f"_target_: {new}\n" in text
        text = text.replace(f"_target_: {new}\n", f"_target_: {old}\n")
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(tmp_path / "config.yaml") == load_config(run_folder / "config.yaml")


def test_imports_of_an_older_config_in_python_are_followed(tmp_path):
    pairs = [old.rsplit(".", 1) for old in MOVED]
    imports = "".join(f"from {module} import {name}\n" for module, name in pairs)
    found = ", ".join(f"{name}.__name__" for _, name in pairs)
    (tmp_path / "config.py").write_text(f"{imports}node = dict(names=[{found}])\n")
    names = [new.rpartition(".")[2] for new in MOVED.values()]
    assert load_config(tmp_path / "config.py").node.names == names
