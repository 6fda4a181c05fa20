"""The splits of a source are kept; a test set is made of whole series, by the hash of their names."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.data.formats.split import choose_test, make_splits, series_of
from hrnet_kpt.errors import UserError


def part(names):
    return {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i // 2} for i in range(2 * len(names))],
    }


def names_of(part):
    return [image["file_name"] for image in part["images"]]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (["train", "test"], {"train": "train", "test": "test"}),
        (["train", "val"], {"train": "train", "test": "val"}),
        (["train", "val", "test"], {"train": "train", "val": "val", "test": "test"}),
        (["all"], {"all": "all"}),
        (["train"], {"all": "train"}),
    ],
)
def test_splits_of_the_source_are_kept(given, written):
    parts = {name: part([name]) for name in given}
    splits, _ = make_splits(parts)
    assert splits == {name: parts[source] for name, source in written.items()}


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (["train", "val"], {"test_share": 0.2}),
        (["val", "test"], {}),
        (["all"], {"series": "_"}),
        (["all"], {"test_share": 0.0}),
        (["all"], {"test_share": 1.0}),
        (["all"], {"test_share": float("nan")}),
        (["all"], {"test_share": 0.2}),  # one image
        (["all", "all"], {"test_share": 0.2, "series": "l"}),
    ],
)
def test_split_that_cannot_be_is_refused(given, options):
    with pytest.raises(UserError):
        make_splits({name: part([name] * given.count(name)) for name in given}, **options)


def test_every_image_is_in_one_set_with_its_objects():
    whole = part([f"{i // 5}_{i}.jpg" for i in range(300)])
    splits, _ = make_splits({"all": whole}, 0.2, "_")
    assert sorted(i["id"] for p in splits.values() for i in p["images"]) == list(range(300))
    for split in splits.values():
        ids = [image["id"] for image in split["images"]]
        assert [a["image_id"] for a in split["annotations"]] == [i for i in ids for _ in range(2)]
    assert 0.1 < len(splits["test"]["images"]) / 300 < 0.3
    series = [{name.split("_")[0] for name in names_of(split)} for split in splits.values()]
    assert not series[0] & series[1]


FRAMES = [f"clip{c}_f{i:04d}.png" for c in "abcdefgh" for i in range(10)]


@pytest.mark.parametrize(
    ("names", "series", "first", "second", "together"),
    [
        (FRAMES, "", "clipa_f0000.png", "clipa_f0009.png", True),
        (FRAMES, "", "clipa_f0000.png", "clipb_f0000.png", False),
        (FRAMES, "image", "clipa_f0000.png", "clipa_f0009.png", False),
        ([f"{v}/img{i}.png" for v in "ab" for i in range(9)], "", "a/img1.png", "a/img2.png", True),
        (["a/x_1.png", "b/x_1.png", "c/y_1.png"], "_", "a/x_1.png", "b/x_1.png", False),
        ([f"img{i}.png" for i in range(9)], "", "img1.png", "img2.png", False),  # one video
        (["a1.png", "a2.png", "b1.png"], "", "a1.png", "a2.png", False),  # too few series
        # Roboflow's versions of one photograph
        ([f"{n}.rf.{32 * c}.jpg" for n in "xyzuvw" for c in "ab"], "",
         f"x.rf.{32 * 'a'}.jpg", f"x.rf.{32 * 'b'}.jpg", True),
    ],
)  # fmt: skip
def test_series(names, series, first, second, together):
    key, _ = series_of(names, series)
    assert (key(first) == key(second)) == together


def test_frames_of_one_video_are_split_with_a_remark():
    names = [f"img{i:04d}.png" for i in range(100)]
    splits, remarks = make_splits({"all": part(names)}, 0.2)
    assert {*names_of(splits["train"]), *names_of(splits["test"])} == {*names}
    assert any("same video" in remark for remark in remarks)


def test_series_by_folder_needs_several_folders():
    with pytest.raises(UserError, match="--series folder"):
        series_of(["a/1.png", "a/2.png"], "folder")


def test_series_stays_in_its_set_when_others_are_added():
    """The rule, worked out here: the first 32 bits of the name's SHA-256, as a fraction, are below the share."""
    names = [f"series {i}" for i in range(400)]
    fractions = {n: int(hashlib.sha256(n.encode()).hexdigest()[:8], 16) / 2**32 for n in names}
    few = choose_test(dict.fromkeys(names[:100], 1), 0.2)
    many = choose_test(dict.fromkeys(names, 1), 0.2)
    assert many == {name for name in names if fractions[name] < 0.2}
    assert few == many & {*names[:100]}


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefghijklm"), st.integers(1, 100), min_size=2),
    st.floats(0.01, 0.99),
)
def test_both_sets_have_images_however_few_series_there_are(sizes, share):
    test = choose_test(sizes, share)
    assert set() < test < sizes.keys()
    assert test == choose_test(dict(reversed(sizes.items())), share)


def test_few_series_come_close_to_the_share():
    assert choose_test({"a": 1000, "b": 50}, 0.2) == {"b"}
    sizes = dict.fromkeys("abcd", 100)
    assert len(choose_test(sizes, 0.25)) == 1 and len(choose_test(sizes, 0.5)) == 2
