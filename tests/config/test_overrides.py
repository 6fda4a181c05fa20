"""Valid overrides, and arbitrary strings as overrides."""

import math
import os
import re
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import ListConfig, OmegaConf

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.config.overrides import apply_overrides

PAGE = "hrnet_w18_kpt.py"
AUGMENTATIONS = "dataloader.train.mapper.augmentations"
BRIGHTNESS = (
    "{_target_:detectron2.data.transforms.RandomBrightness,intensity_min:0.9,intensity_max:1.1}"
)

# An override, a key, and the value of that key.
RIGHT = [
    # numbers
    ("train.max_iter=5", "train.max_iter", 5),
    ("train.max_iter=1e4", "train.max_iter", 10000),
    ("train.max_iter=2.7e5", "train.max_iter", 270000),
    ("train.max_iter=5.0", "train.max_iter", 5),
    ("train.max_iter=1_000", "train.max_iter", 1000),
    ("train.max_iter= 5 ", "train.max_iter", 5),
    ("train.max_iter = 5", "train.max_iter", 5),
    ("train.seed=-1", "train.seed", -1),
    ("train.max_iter=${train.eval_period}", "train.max_iter", 5000),
    ("optimizer.lr=1", "optimizer.lr", 1.0),
    ("optimizer.lr=1e-3", "optimizer.lr", 0.001),
    ("optimizer.lr=.5", "optimizer.lr", 0.5),
    ("train.clip_grad_norm=inf", "train.clip_grad_norm", math.inf),
    # bools
    ("train.amp.enabled=true", "train.amp.enabled", True),
    ("train.amp.enabled=TRUE", "train.amp.enabled", True),
    ("train.amp={enabled:true}", "train.amp.enabled", True),
    ("train={amp:{enabled:true,dtype:bfloat16},max_iter:1e3}", "train.max_iter", 1000),
    # texts
    ("train.output_dir=runs/1", "train.output_dir", "runs/1"),
    ("train.output_dir=123", "train.output_dir", "123"),
    ("train.output_dir=007", "train.output_dir", "007"),
    ("train.output_dir=1e4", "train.output_dir", "1e4"),
    ("train.output_dir=true", "train.output_dir", "true"),
    ("train.output_dir=run#1", "train.output_dir", "run#1"),
    ("train.output_dir=a b", "train.output_dir", "a b"),
    ("train.output_dir='a,b'", "train.output_dir", "a,b"),
    ('train.output_dir="a,b"', "train.output_dir", "a,b"),
    ("train.output_dir=größe", "train.output_dir", "größe"),
    ("train.output_dir=~/runs", "train.output_dir", os.path.expanduser("~/runs")),
    ("train.output_dir=C:\\runs", "train.output_dir", "C:\\runs"),
    ("train.output_dir=${train.device}/1", "train.output_dir", "cuda/1"),
    ("train.init_checkpoint=", "train.init_checkpoint", ""),
    ("train.init_checkpoint=''", "train.init_checkpoint", ""),
    ("train.init_checkpoint=/a/epoch=10.pth", "train.init_checkpoint", "/a/epoch=10.pth"),
    ("train.init_checkpoint='a=b.pth'", "train.init_checkpoint", "a=b.pth"),
    ("train.init_checkpoint=https://x.org/w.pth?a=1&b=2", "train.init_checkpoint", "https://x.org/w.pth?a=1&b=2"),
    # lists
    ("model.pixel_mean=[1,2,3]", "model.pixel_mean", [1.0, 2.0, 3.0]),
    ("model.proposal_generator.pre_nms_topk=[1e3, 5e2]", "model.proposal_generator.pre_nms_topk", [1000, 500]),
    ("model.backbone.out_features=[p2,p3]", "model.proposal_generator.in_features", ["p2", "p3"]),
    ("model.proposal_generator.pre_nms_topk.0=9", "model.proposal_generator.pre_nms_topk", [9, 1000]),
    ("model.proposal_generator.pre_nms_topk[1]=9", "model.proposal_generator.pre_nms_topk", [2000, 9]),
    (f"{AUGMENTATIONS}=[]", AUGMENTATIONS, []),
    (f"{AUGMENTATIONS}[0].max_size=64", f"{AUGMENTATIONS}.0.max_size", 64),
    # nodes
    ("model.roi_heads.num_classes=3", "model.roi_heads.box_predictor.num_classes", 3),
    ("model.roi_heads.box_pooler.scales=[0.25]", "model.roi_heads.box_pooler.scales", [0.25]),
    ("data.classes={dog:[nose],cat:[]}", "data.classes", {"dog": ["nose"], "cat": []}),
    ("data.keypoints={names:[nose,tail]}", "data.keypoints.names", ["nose", "tail"]),
    ("optimizer={_target_:torch.optim.Adam,params:[],lr:0.1}", "optimizer.lr", 0.1),
    # new and deleted keys
    ("+optimizer.nesterov=true", "optimizer.nesterov", True),
    ("++optimizer.nesterov=true", "optimizer.nesterov", True),
    ("+train.max_iter=5", "train.max_iter", 5),
    ("+train.mine={a:[1,{b:x}]}", "train.mine", {"a": [1, {"b": "x"}]}),
    ("+model.backbone.bottom_up.out_features=[stage1]", "model.backbone.in_features", ["stage1"]),
    (f"+{AUGMENTATIONS}.2={BRIGHTNESS}", f"{AUGMENTATIONS}.2.intensity_min", 0.9),
    ("~model.roi_heads.keypoint_head.loss_normalizer", "model.roi_heads.keypoint_head.loss_normalizer", None),
    ("~train.clip_grad_norm=35", "train.clip_grad_norm", None),
    (f"~{AUGMENTATIONS}.1", f"{AUGMENTATIONS}.1", None),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "key", "meant"), RIGHT, ids=[row[0] for row in RIGHT])
def test_valid_override(typed, key, meant):
    value = plain(OmegaConf.select(load_config(PAGE, [typed]), key))
    assert value == meant
    assert type(value) is type(meant)
    if isinstance(meant, list):
        assert [type(element) for element in value] == [type(element) for element in meant]


def plain(value):
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def test_last_of_two_overrides_wins():
    cfg = load_config(PAGE, ["train.max_iter=5", "train.seed=1", "train.max_iter=6"])
    assert (cfg.train.max_iter, cfg.train.seed) == (6, 1)


def test_auto_reads_the_data_again(tmp_path, write_set):
    save_config(load_config(PAGE), tmp_path / "config.yaml")
    paths = write_set({"dot": ["centre"]})
    assert len(load_config(tmp_path / "config.yaml", paths).data.keypoints.names) == 17
    again = [*paths, "data.keypoints=auto", "data.classes=auto"]
    cfg = load_config(tmp_path / "config.yaml", again)
    assert cfg.data.keypoints.names == ["centre"]
    assert cfg.data.classes == {"dot": ["centre"]}


# --------------------------------------------------------------------------- arbitrary strings

KINDS = {"flag": False, "count": 3, "rate": 0.5, "name": "x", "counts": [1, 2], "rates": [0.5]}
KINDS |= {"names": ["a"], "none": None, "tree": {"count": 3, "name": "x"}}
ALPHABET = "ab1 .,-_+~=:#$'\"\\/[]{}()*\n\té"
WORDS = (
    "true", "null", "off", "inf", "nan", "1e4", "0.1", "${", "${a.count}", "${oc.env:A}", "}", "[", "]", "{", "a:1",
    "'", '"', "\\", "=", ",", "#", " ", "range(1,3)", "int(", "choice(a)", "(", ")",
)  # fmt: skip
values = st.one_of(
    st.text(alphabet=ALPHABET, max_size=12),
    st.lists(st.sampled_from(WORDS), max_size=5).map("".join),
    st.text(max_size=8),
)
keys = st.one_of(
    st.sampled_from([f"a.{kind}" for kind in KINDS] + ["a.counts.0", "a.tree.count", "a.tree.nothing", "a"]),
    st.text(alphabet=ALPHABET, max_size=8),
)  # fmt: skip
any_override = st.one_of(
    st.builds("{}{}={}".format, st.sampled_from(["", "+", "++", "~"]), keys, values),
    st.text(max_size=20),
)


def small_config():
    return OmegaConf.create({"a": KINDS, "b": {"rate": "${a.rate}"}}, flags={"allow_objects": True})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_override)
def test_any_string_is_refused_or_means_what_is_typed(text):
    cfg = small_config()
    try:
        apply_overrides(cfg, [text])
    except ValueError as error:
        assert "\n" not in str(error)
        assert repr(text) in str(error)
        return
    untouched = small_config()
    key, _, typed = re.sub(r"^\s*(\+\+|\+|~)", "", text).partition("=")
    kind = key.strip().removeprefix("a.")
    if text.lstrip().startswith("~"):
        assert plain(cfg) != plain(untouched)
    elif kind in KINDS and "${" not in typed and "(" not in typed:
        assert_means(cfg.a[kind], KINDS[kind], typed.strip())
        assert all(plain(cfg.a[other]) == KINDS[other] for other in KINDS if other != kind)


def assert_means(value, old, typed):
    """The value has the old one's type, and is what Python reads."""
    if old is None or isinstance(old, dict):
        return
    assert isinstance(value, ListConfig if isinstance(old, list) else type(old))
    if isinstance(old, bool):
        assert str(value).lower() == typed.lower()
    elif isinstance(old, int):
        assert value == Decimal(typed.replace("_", ""))
    elif isinstance(old, float):
        assert value == float(typed.replace("_", ""))
    elif isinstance(old, str) and not set(typed) & set("'\"\\"):
        assert value == typed
    elif isinstance(old, list):
        assert all(type(element) is type(old[0]) for element in value)


def quoted(text):
    """A string as it must be typed: in quotes, with backslashes before quotes."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


whole = st.integers(-(10**15), 10**15)
finite = st.floats(allow_nan=False, allow_infinity=False)
letters = st.characters(exclude_categories=["C", "Z"], exclude_characters="${}")
safe_text = st.text(letters, min_size=1, max_size=10)
typed_values = st.one_of(
    st.tuples(st.just("flag"), st.booleans().map(lambda v: (v, str(v)))),
    st.tuples(st.just("count"), whole.map(lambda v: (v, str(v)))),
    st.tuples(st.just("count"), st.integers(-99, 99).map(lambda v: (v * 1000, f"{v}e3"))),
    st.tuples(st.just("rate"), finite.map(lambda v: (v, repr(v)))),
    st.tuples(st.just("name"), safe_text.map(lambda v: (v, quoted(v)))),
    st.tuples(st.just("counts"), st.lists(whole, max_size=4).map(lambda v: (v, str(v)))),
    st.tuples(st.just("rates"), st.lists(finite, max_size=4).map(lambda v: (v, repr(v)))),
    st.tuples(st.just("names"), st.lists(safe_text, max_size=3).map(lambda v: (v, f"[{','.join(map(quoted, v))}]"))),
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(typed_values)
def test_any_value_of_the_same_type(typed):
    kind, (value, text) = typed
    cfg = small_config()
    apply_overrides(cfg, [f"a.{kind}={text}"])
    assert plain(cfg.a[kind]) == value
    assert isinstance(cfg.a[kind], ListConfig if isinstance(value, list) else type(value))
