"""Keypoints and classes of the data may have any name, also one that looks like an interpolation."""

import json

import pytest
from detectron2.config import instantiate
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.config.keys import escape
from hrnet_kpt.config.resolve import labels_of_config, resolve_labels
from hrnet_kpt.config.save import absolute_paths
from hrnet_kpt.errors import UserError
from hrnet_kpt.weights.labels import labels_beside

PAGE = "hrnet_w18_small_kpt_synthetic.py"
PIECES = [
    "$",
    "${",
    "}",
    "${x}",
    "${data.root}",
    "${oc.env:HOME}",
    "\\",
    "'",
    '"',
    " ",
    ".",
    "[",
    "é",
    "左",
    "a",
]
PIECES += ["#", ": "]
names = st.lists(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join).filter(str.strip),
    min_size=1,
    max_size=4,
    unique=True,
)
reusing = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def is_broken(name):
    """Whether OmegaConf reads it as an invalid interpolation, on which detectron2's instantiate fails."""
    try:
        OmegaConf.create([name])
    except GrammarParseError:
        return True
    return False


@reusing
@given(st.text(alphabet="\\${}'\"a. :", max_size=12))
def test_escaped_text_is_the_text(text):
    assert OmegaConf.create([escape(text)])[0] == text


@reusing
@given(keypoints=names, name=names.map(lambda found: found[0]))
@example(keypoints=["${y}", "}${x}", "\\${x}"], name="${")
def test_names_come_back_from_config_yaml(keypoints, name, tmp_path):
    category = {"id": 1, "name": name, "keypoints": keypoints, "skeleton": []}
    content = {"images": [], "annotations": [], "categories": [category]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    files = {"annotations": str(path), "images": str(tmp_path)}
    data = {"train": files, "test": files, "share_keypoints": True}
    data |= {"keypoints": "auto", "classes": "auto"}
    cfg = OmegaConf.create({"data": data}, flags={"allow_objects": True})
    if any(map(is_broken, keypoints)):
        with pytest.raises(UserError):
            resolve_labels(cfg)
        return
    resolve_labels(cfg)
    resolve_labels(cfg)  # as happens in a run
    save_config(cfg, tmp_path / "config.yaml")
    again = OmegaConf.load(tmp_path / "config.yaml")
    for config in (cfg, again):
        assert list(instantiate(config.data.keypoints).names) == keypoints
        labels = {"keypoints": keypoints, "classes": {name: keypoints}}
        assert labels_of_config(config).to_dict() == labels
    assert labels_beside(tmp_path / "model_final.pth").to_dict() == labels_of_config(cfg).to_dict()


def test_reference_may_be_set_beside_what_the_data_give(write_set, tmp_path):
    names = ["nose", "left_${x}", "tail"]
    paths = write_set({"cow": names})
    reference = r"data.keypoints.reference=[nose,left_\${x}]"
    cfg = load_config(PAGE, [*paths, reference])
    save_config(cfg, tmp_path / "config.yaml")
    for config in (cfg, load_config(tmp_path / "config.yaml")):
        schema = instantiate(config.data.keypoints)
        assert list(schema.names) == names
        assert schema.reference == ("nose", "left_${x}")
        assert schema.sigmas == (0.026, 0.05, 0.05)
    two = ["data.keypoints.sigmas=[1,2,3]", "data.keypoints.reference=[tail,nose]"]
    schema = instantiate(load_config(PAGE, [*paths, *two]).data.keypoints)
    assert (schema.sigmas, schema.reference) == ((1, 2, 3), ("tail", "nose"))


def test_saved_configs_without_a_reference_have_none_and_may_get_one(write_set, tmp_path):
    cfg = load_config(PAGE, write_set({"cow": ["nose", "tail"]}))
    del cfg.data.keypoints.reference
    older = tmp_path / "config.yaml"
    save_config(cfg, older)
    assert instantiate(load_config(older).data.keypoints).reference == ()
    for override in (
        "data.keypoints={reference:[tail,nose]}",
        "data.keypoints.reference=[tail,nose]",
    ):
        schema = instantiate(load_config(older, [override]).data.keypoints)
        assert schema.reference == ("tail", "nose")


@pytest.mark.parametrize("kind", ["yaml", "py"])
def test_whole_config_with_such_names_is_saved_and_read(kind, write_set, tmp_path):
    keypoints = ["nose", "${left}_eye", "a$b", "\\${x}", "it's", 'a "b"', "c.d"]
    paths = write_set({"cow ${1}": keypoints})
    cfg = load_config(PAGE, paths)
    save_config(absolute_paths(cfg), tmp_path / f"config.{kind}")
    again = load_config(tmp_path / f"config.{kind}")
    for config in (cfg, again):
        labels = labels_of_config(config)
        assert labels.keypoints == keypoints and labels.classes == {"cow ${1}": keypoints}
        assert len(instantiate(config.dataloader.test.dataset)) == 6
