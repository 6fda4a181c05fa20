"""The command: its file, its cache, and inputs that are wrong."""

import json
import shutil

import pytest
from detectron2.config import LazyConfig
from omegaconf import OmegaConf

from hrnet_kpt.analysis.new_config import new_config, run, step_times
from hrnet_kpt.cli.new_config import main
from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.errors import UserError


@pytest.fixture
def people(synthetic_people, tmp_path):
    """A folder with train.json, test.json and the images, whose names are in folders of their own."""
    folder = tmp_path / "people"
    shutil.copytree(synthetic_people, folder)
    return folder


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The file of the cache of times."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hrnet_kpt" / "step_times.json"


@pytest.fixture
def tiny_page(tiny_overrides, tmp_path):
    """A page of the user's own, which trains in seconds."""
    lines = [
        "from hrnet_kpt.config.load import load_config",
        "from hrnet_kpt.config import load_page",
    ]
    lines += [
        "data, dataloader, inference, lr_multiplier, model, optimizer, train = load_page('own.py')"
    ]
    kept = ("model.backbone", "model.roi_heads.box_head", "model.roi_heads.keypoint_head")
    for override in tiny_overrides(tmp_path):
        key, _, value = override.partition("=")
        if key.startswith(kept):
            lines.append(f"{key} = {value}")
    path = tmp_path / "tiny_page.py"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_file_is_short_loads_from_any_folder_and_is_the_same_again(
    people, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "mine.py"
    arguments = ["--data", str(people), "--output", str(output), "--device", "cpu"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    text = output.read_text()
    lines = text.splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 120 + len(str(people))
    assert "12 training images" in printed and "--config-file" in printed
    assert "12 training images of 96 x 96" in text
    # Each statement belongs to a comment with its reason.
    body = lines[[line.partition(".")[0] for line in lines].index("data") :]
    assert all(line.startswith("#") or " = " in line or ".update(" in line for line in body)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    # A file with the name of the page in the current folder is not the page.
    (elsewhere / "own.py").write_text("raise SystemExit\n")
    cfg = load_config(str(output))
    assert not [finding for finding in check_config(cfg) if finding.level == "error"]
    assert cfg.data.train.annotations == str(people / "train.json")
    assert cfg.train.output_dir == "output/mine"
    assert cfg.dataloader.train.mapper.augmentations[0].short_edge_length == [96]
    plain = LazyConfig.load(str(output))
    assert plain.train == cfg.train and plain.optimizer.lr == cfg.optimizer.lr
    assert main(arguments) == 0
    assert output.read_text() == text


def test_file_sets_what_was_checked_and_timed(people, tmp_path):
    """The config in memory, which is checked and timed, is that of the file."""
    seen = []
    output = tmp_path / "mine.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "prepare_run", lambda cfg, report: seen.append(cfg.copy()))
        new_config(people, output, device="cpu", report=seen.append)
    [cfg] = [one for one in seen if not isinstance(one, str)]
    written = LazyConfig.load(str(output))
    for node in ("data", "dataloader", "model", "optimizer", "inference"):
        assert OmegaConf.to_yaml(cfg[node]) == OmegaConf.to_yaml(written[node]), node


def test_times_are_measured_once(people, tiny_page, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(step_times, "MIN_SECONDS", 0.0)
    output = tmp_path / "mine.py"
    arguments = [
        *("--data", str(people), "--output", str(output), "--base", str(tiny_page)),
        *("--minutes", "20", "--device", "cpu"),
    ]
    before = set(tmp_path.rglob("*"))
    assert main(arguments) == 0
    text = output.read_text()
    [times] = json.loads(cache.read_text()).values()
    assert len(times) == 3 and all(0 < seconds < 60 for seconds in times)
    assert f"{times[0]:g} s an iteration" in text
    new = {path for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert new == {cache, output}  # no run folder

    def fail(*_):
        raise AssertionError("measured again")

    with monkeypatch.context() as patch:
        patch.setattr(step_times, "measure", fail)
        assert main(arguments) == 0
        assert output.read_text() == text
    with monkeypatch.context() as patch:
        patch.setattr(step_times, "measure", lambda *_: (0.5, 2.0))
        assert main([*arguments, "--time-again"]) == 0
        assert "0.5 s an iteration" in output.read_text()
        cache.write_text("{damaged")
        assert main(arguments) == 0
    [times] = json.loads(cache.read_text()).values()
    assert times[:2] == [0.5, 2.0]


def test_only_a_file_of_its_own_is_replaced(people, tmp_path, refused):
    output = tmp_path / "mine.py"
    arguments = ["--data", people, "--output", output, "--device", "cpu"]
    output.write_text("train = dict(max_iter=5)\n")
    assert "--overwrite" in refused(main, arguments)[0]
    assert output.read_text() == "train = dict(max_iter=5)\n"
    assert main([*map(str, arguments), "--overwrite"]) == 0
    written = output.read_text()
    output.write_text(written.replace("optimizer.lr = 0.0014", "optimizer.lr = 0.001"))
    assert output.read_text() != written
    assert "changed" in refused(main, arguments)[0]


def test_train_goes_on(people, tiny_page, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr("hrnet_kpt.cli.train.run", lambda args: given.append(args) or 3)
    output = tmp_path / "mine.py"
    words = ["--data", str(people), "--output", str(output), "--base", str(tiny_page), "--train"]
    assert main([*words, "--device", "cpu"]) == 3
    assert given[0].config_file == str(output) and given[0].overrides == []


@pytest.fixture
def change_json(people):
    """Function that changes the content of a json of the data set."""

    def change_json(name, change):
        content = json.loads((people / name).read_text())
        change(content)
        (people / name).write_text(json.dumps(content))

    return change_json


def test_errors_of_the_data_come_before_the_times(people, change_json, tmp_path, refused, cache):
    change_json("train.json", lambda content: content["images"][0].update(file_name="gone.png"))
    arguments = ["--data", people, "--output", tmp_path / "a.py", "--minutes", 5, "--device", "cpu"]
    [line, *_] = refused(main, arguments)
    assert "image-missing" in line and "train.json" in line
    assert not (tmp_path / "a.py").exists() and not cache.exists()


def test_an_image_that_cannot_be_read_is_found(people, tmp_path, refused):
    first = sorted((people / "train").iterdir())[0]
    first.write_bytes(first.read_bytes()[:100])
    arguments = ["--data", people, "--output", tmp_path / "a.py", "--device", "cpu"]
    assert "image-unreadable" in refused(main, arguments)[0]


def without_keypoints(content):
    for category in content["categories"]:
        category.pop("keypoints")
    for annotation in content["annotations"]:
        annotation.pop("keypoints")


def test_boxes_need_a_page_for_boxes(people, change_json, tmp_path, refused):
    for name in ("train.json", "test.json"):
        change_json(name, without_keypoints)
    arguments = ["--data", people, "--output", tmp_path / "a.py", "--device", "cpu"]
    assert "--base hrnet_w18_box.py" in refused(main, arguments)[0]
    page = tmp_path / "boxes.py"
    page.write_text(
        "from hrnet_kpt.config import load_page\n"
        "data, dataloader, inference, lr_multiplier, model, optimizer, train = "
        "load_page('hrnet_w18_box.py')\n"
        "model.backbone.bottom_up.update(width=4, num_modules=[1] * 4, num_blocks=[1] * 4, norm='BN')\n"
        "train.init_checkpoint = ''\n"
    )
    assert main([*map(str, arguments), "--base", str(page)]) == 0
    cfg = load_config(str(tmp_path / "a.py"))
    assert cfg.train.best.metric == "bbox/AP"
    assert not [finding for finding in check_config(cfg) if finding.level == "error"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"--data": "nowhere"}, "--data nowhere"),
        ({"--data": "."}, "none of the formats"),
        ({"--minutes": 0}, "--minutes 0"),
        ({"--minutes": -3}, "--minutes -3"),
        ({"--minutes": "nan"}, "--minutes nan"),
        ({"--output": "gone/a.py"}, "--output gone/a.py"),
        ({"--output": "a.yaml"}, "--output a.yaml"),
        ({"--base": "hrnet_w19.py"}, "hrnet_w19.py"),
        ({"--images": "nowhere"}, "--images nowhere"),
        ({"--test": "nowhere.json"}, "--test nowhere.json"),
        ({"--test": "PEOPLE/test.json"}, "is a folder"),
        ({"--device": "tpu"}, "--device"),
        ({"--format": "coko"}, "--format coko"),
        ({"--data": "PEOPLE/train.json", "--images": "PEOPLE"}, "--test"),
    ],
)
def test_wrong_arguments(change, named, people, tmp_path, monkeypatch, refused):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    arguments = {"--data": people, "--output": "a.py", "--device": "cpu"} | change
    words = [
        str(word).replace("PEOPLE", str(people)) for pair in arguments.items() for word in pair
    ]
    assert named in refused(main, words)[0]
    assert not any(empty.iterdir())


def test_jsons_whose_images_lie_elsewhere(people, tmp_path):
    (people / "annotations").mkdir()
    paths = [people / "annotations" / name for name in ("train.json", "test.json")]
    for path in paths:
        (people / path.name).rename(path)
    found = []
    output = new_config(
        paths[0], tmp_path / "a.py", test=paths[1], device="cpu", report=found.append
    )
    cfg = load_config(str(output))
    assert cfg.data.train.annotations == str(paths[0])
    assert cfg.data.train.images == str(people / "train")
    with pytest.raises(UserError, match="image-missing"):
        empty = tmp_path / "empty"
        empty.mkdir()
        new_config(paths[0], tmp_path / "b.py", test=paths[1], images=empty, report=found.append)


def test_other_layouts_are_imported_beside_the_file(people, tmp_path):
    (people / "test.json").unlink()
    shutil.rmtree(people / "test")
    (people / "train.json").rename(people / "labels.json")
    lines = []
    output = new_config(people, tmp_path / "mine.py", device="cpu", report=lines.append)
    cfg = load_config(str(output))
    folder = tmp_path / "mine_data"
    assert cfg.data.train.annotations == str(folder / "train.json")
    counts = [
        len(json.loads((folder / f"{s}.json").read_text())["images"]) for s in ("train", "test")
    ]
    assert sum(counts) == 12 and counts[1] in (2, 3)  # a fifth
    text = output.read_text()
    new_config(people, output, device="cpu", report=lines.append)
    assert output.read_text() == text


def test_folder_for_imported_data_is_named_with_the_option(people, tmp_path, refused):
    (tmp_path / "mine_data").mkdir()
    (tmp_path / "mine_data" / "notes.txt").touch()
    (people / "test.json").unlink()
    [line] = refused(main, ["--data", people, "--output", tmp_path / "mine.py"])
    assert "mine_data, for the imported data, has other files: notes.txt" in line
    assert line.endswith("give another --output")
    [line] = refused(main, ["--data", people, "--output", people / "mine.py"])
    assert "mine_data is in the data set itself" in line
    assert not (people / "mine_data").exists()
