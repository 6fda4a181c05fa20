"""tools/check_dataset.py: exit statuses, output, and the files it writes."""

import json
import re
import shutil
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.cli.check_data import main
from hrnet_kpt.dataset_checks.repair import REPAIRED


@pytest.fixture
def people(synthetic_people, tmp_path):
    """Function that writes the json of synthetic people after a change; returns the arguments of the command."""

    def write(change=lambda content: None):
        content = json.loads((synthetic_people / "train.json").read_text())
        change(content)
        (tmp_path / "people.json").write_text(json.dumps(content))
        images = str(synthetic_people / "train")
        return ["--annotations", str(tmp_path / "people.json"), "--images", images]

    return write


def test_clean_set_is_status_0(people, capsys):
    assert main(people()) == 0
    output, errors = capsys.readouterr()
    assert errors == "" and "warning:" not in output


def test_statistics_are_those_of_the_json(people, capsys, synthetic_people):
    main([*people(), "--skip-opening-images"])
    lines = capsys.readouterr().out.splitlines()
    content = json.loads((synthetic_people / "train.json").read_text())
    keypoints = np.array([a["keypoints"] for a in content["annotations"]]).reshape(-1, 17, 3)
    boxes = np.array([a["bbox"] for a in content["annotations"]])
    numbers = [int(n) for n in re.findall(r"\b\d+\b", lines[0].rpartition(".json:")[2])]
    assert numbers == [
        12,
        0,
        len(boxes),
        0,
    ]  # images, those without annotations, annotations, crowds
    [row] = [line.split() for line in lines if line.startswith("left_hip ")]
    points = keypoints[:, 11]
    labelled = points[:, 2] > 0
    position = ((points[:, :2] - boxes[:, :2]) / boxes[:, 2:])[labelled].mean(axis=0)
    percent = [f"{100 * chosen.mean():.1f}" for chosen in (labelled, points[:, 2] == 2)]
    assert row == ["left_hip", "right_hip", *percent, *(f"{v:.2f}" for v in position)]


def drop_areas(content):
    for annotation in content["annotations"]:
        del annotation["area"]


def test_warnings_are_status_0(people, capsys):
    assert main(people(drop_areas)) == 0
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("warning: ")]
    assert ": area-missing: " in line
    assert any(line.startswith("--fix ") and line.endswith(": area-missing") for line in lines)


def break_two_things(content):
    content["annotations"][0]["keypoints"] = [1]
    content["annotations"][1]["bbox"] = [1, 2]
    drop_areas(content)


def test_errors_are_status_2_and_lines_on_standard_error(people, capsys, tmp_path):
    assert main([*people(break_two_things), "--draw", str(tmp_path / "drawn")]) == 2
    output, errors = capsys.readouterr()
    first, second = errors.splitlines()
    assert first.startswith("error: ") and second.startswith("  also: ")
    assert "box-not-numbers" in first and "keypoints-length" in second
    assert "warning: " in output
    assert not (tmp_path / "drawn").exists()


def test_fixed_json_has_none_of_the_repaired_findings(people, capsys, tmp_path):
    def damage(content):
        drop_areas(content)
        content["annotations"][1]["id"] = content["annotations"][2]["id"]
        content["categories"][0]["skeleton"].append("no bone")  # an error
        content["categories"][0]["skeleton"].append([17, 18])

    fixed = tmp_path / "new" / "fixed.json"
    arguments = people(damage)
    assert main(arguments) == 2
    drawn = tmp_path / "drawn"
    assert main([*arguments, "--fix", str(fixed), "--draw", str(drawn)]) == 0
    assert (drawn / "samples.png").is_file()  # of the json without the error
    output = capsys.readouterr().out
    for name in ("area-missing", "annotation-id-repeated", "skeleton-malformed"):
        assert f"repaired: {tmp_path / 'people.json'}: {name}: " in output
    assert any(line.startswith(str(fixed)) and "(2)" in line for line in output.splitlines())
    assert main(["--annotations", str(fixed), *arguments[2:]]) == 0
    assert not any(name in capsys.readouterr().out for name in REPAIRED)


def to_corners(content):
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]


def duplicate(content):
    content["annotations"] += [{**a, "id": 1000 + a["id"]} for a in content["annotations"]]


@pytest.mark.parametrize(
    ("change", "name", "status"),
    [(to_corners, "box-convention", 2), (duplicate, "annotation-doubled", 0)],
)
def test_fix_repairs_what_all_annotations_show(people, capsys, tmp_path, change, name, status):
    arguments = [*people(change), "--skip-opening-images"]
    fixed = tmp_path / "fixed.json"
    assert main(arguments) == status
    output, errors = capsys.readouterr()
    assert f": {name}: " in (errors if status else output)
    assert main([*arguments, "--fix", str(fixed)]) == 0
    output = capsys.readouterr().out
    assert f"repaired: {arguments[1]}: {name}: " in output
    count = len(json.loads(fixed.read_text())["annotations"])
    assert any(line.endswith(f"({count})") for line in output.splitlines())
    assert main(["--annotations", str(fixed), *arguments[2:]]) == 0
    assert "warning: " not in capsys.readouterr().out


def tighten(content):
    for annotation in content["annotations"]:
        points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        points = points[points[:, 2] > 0, :2]
        annotation["bbox"] = [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]


def test_boxes_of_keypoints_grow_by_an_option(people, capsys, refused, tmp_path):
    arguments = [*people(tighten), "--skip-opening-images"]
    fixed = tmp_path / "fixed.json"
    assert main([*arguments, "--fix", str(fixed)]) == 0
    assert "warning: " in capsys.readouterr().out
    assert main([*arguments, "--fix", str(fixed), "--grow-boxes", "0.2"]) == 0
    output = capsys.readouterr().out
    assert "repaired: " in output and "box-from-keypoints" in output
    assert "warning: " not in output
    for wrong in (["--grow-boxes", "0.2"], ["--fix", str(fixed), "--grow-boxes", "much"]):
        assert refused(main, [*arguments, *wrong])[0].startswith("error: --grow-boxes ")


def test_fix_leaves_other_errors_and_is_status_2(people, refused, tmp_path):
    fixed = tmp_path / "fixed.json"
    lines = refused(main, [*people(break_two_things), "--fix", fixed])
    assert "box-not-numbers" in lines[0] and "keypoints-length" in lines[1]
    assert all(str(fixed) in line for line in lines)


def test_fix_does_not_overwrite_the_input(people, refused, tmp_path):
    arguments = people(drop_areas)
    before = (tmp_path / "people.json").read_bytes()
    (tmp_path / "link.json").symlink_to(tmp_path / "people.json")
    for path in (tmp_path / "people.json", tmp_path / "link.json"):
        assert str(path) in refused(main, [*arguments, "--fix", path])[0]
    assert (tmp_path / "people.json").read_bytes() == before


@pytest.fixture
def with_bad_images(people, synthetic_people, tmp_path):
    """Synthetic people with a truncated and a missing file."""
    arguments = people()
    folder = tmp_path / "images"
    shutil.copytree(synthetic_people / "train", folder)
    (folder / "000003.jpg").write_bytes((folder / "000003.jpg").read_bytes()[:500])
    (folder / "000005.jpg").unlink()
    return [*arguments[:3], str(folder)]


def test_bad_images(with_bad_images, refused):
    [line] = refused(main, [*with_bad_images, "--skip-opening-images"])
    assert "image-missing" in line
    first, second = refused(main, with_bad_images)
    assert "image-missing" in first and "image-unreadable" in second


def test_samples_as_annotated_and_mirrored(with_bad_images, capsys, tmp_path):
    """The mirror image is beside each image; bad images are skipped."""
    assert main([*with_bad_images, "--draw", str(tmp_path / "drawn")]) == 2
    path = tmp_path / "drawn" / "samples.png"
    assert str(path) in capsys.readouterr().out
    sheet = np.asarray(Image.open(path).convert("L"), dtype=float)
    # 10 readable images, and as many mirrored ones, in rows of 4; around them are 6 pixels, above them a caption.
    height, width = (sheet.shape[0] - 6) // 5, (sheet.shape[1] - 6) // 4
    for number in range(10):
        top, left = 6 + number // 2 * height, 6 + number % 2 * 2 * width
        rows = slice(top + 30, top + height - 6)
        first = sheet[rows, left : left + width - 6]
        second = sheet[rows, left + width : left + 2 * width - 6]
        # Boxes and bones are drawn on whole pixels, so that it is not exact.
        mirrored, same = (
            np.corrcoef(first.ravel(), other.ravel())[0, 1] for other in (second[:, ::-1], second)
        )
        assert mirrored > 0.9 > same


def test_test_images_that_are_in_the_training_set(people, synthetic_people, capsys, tmp_path):
    test = tmp_path / "test"
    shutil.copytree(synthetic_people / "test", test)
    shutil.copy(synthetic_people / "train" / "000002.jpg", test / "000000.jpg")
    again = BytesIO()
    Image.open(synthetic_people / "train" / "000004.jpg").save(again, "jpeg", quality=80)
    (test / "000001.jpg").write_bytes(again.getvalue())
    test_annotations = str(synthetic_people / "test.json")
    arguments = ["--test-annotations", test_annotations, "--test-images", str(test)]
    assert main([*people(), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    same, similar = [line for line in lines if line.startswith("warning: ")]
    assert ": test-image-in-train: " in same and "(image 1)" in same
    assert ": test-picture-in-train: " in similar and "(image 2)" in similar


def test_signed_images_need_a_range(people, capsys, refused, tmp_path, synthetic_people):
    """Such as those of a CT."""
    (tmp_path / "ct").mkdir()
    for path in (synthetic_people / "train").iterdir():
        gray = np.asarray(Image.open(path).convert("L"), dtype=np.int32)
        Image.fromarray(gray * 16 - 1000).save(tmp_path / "ct" / path.name, "TIFF")
    arguments = [*people()[:2], "--images", str(tmp_path / "ct")]
    assert "image-range-unclear" in refused(main, [*arguments, "--draw", tmp_path])[0]
    assert (tmp_path / "samples.png").is_file()
    assert main([*arguments, "--image-range", "-1000", "3080"]) == 0
    assert "warning:" not in capsys.readouterr().out
    assert "data.image_range" in refused(main, [*arguments, "--image-range", 5, 1])[0]
