"""Each value by numbers that are worked out by hand, and its reason names them."""

import re

import pytest

from hrnet_kpt.analysis.new_config import choose, run
from hrnet_kpt.analysis.new_config.appearance import Colors, Direction
from hrnet_kpt.analysis.new_config.choose import Times
from hrnet_kpt.config import load_config
from hrnet_kpt.errors import UserError

TEST = "dataloader.test.mapper.augmentations.0"
TRAIN = "dataloader.train.mapper.augmentations"
ANCHORS = "model.proposal_generator.anchor_generator"
PAGE = ["ResizeShortestEdge", "RandomFlip"]


def names_all(reason, *numbers):
    """Whether the reason has each of the numbers, as a number of its own."""
    found = re.findall(r"\d+(?:\.\d+)?", reason)
    return {str(number) for number in numbers} <= set(found)


def test_page_follows_the_machine_and_the_weights(machine_of):
    gpu = machine_of(device="cuda", memory=24.0)
    assert choose.choose_page(machine_of(), False)[0] == "own.py"
    assert choose.choose_page(gpu, False)[0] == "own.py"
    assert choose.choose_page(gpu, True)[0] == "own_w18.py"


@pytest.mark.parametrize(
    ("longer_side", "image", "device", "short"),
    [
        (160, (640, 480), "cpu", 320),  # 480 * 104 / 160 = 312
        (320, (640, 480), "cpu", 192),  # 156, below the minimum
        (40, (640, 480), "cpu", 480),  # 1248, above the original
        (40, (1920, 1080), "cpu", 480),  # 2808, above the maximum
        (200, (400, 299), "cpu", 160),  # 155.5
        (100, (299, 299), "cpu", 288),  # 311; 299 is no multiple of 32
        (160, (96, 96), "cpu", 96),  # smaller than the minimum
        (160, (640, 480), "cuda", 480),  # minimum 640, but no more than the original
        (160, (1920, 1080), "cuda", 704),  # 702
    ],
)
def test_size_of_images(longer_side, image, device, short, survey_of):
    survey = survey_of([(longer_side, 30)] * 3, image)
    if (longer_side, image) == (200, (400, 299)):
        short = 192  # the minimum; the original would allow 288
    choice = choose.choose_input(survey, device, PAGE)
    assert choice.settings[f"{TEST}.short_edge_length"] == short
    assert names_all(choice.reason, longer_side, min(image), short, 104)


def test_sizes_in_training_are_around_that_size(survey_of):
    settings = choose.choose_input(survey_of([(160, 30)] * 3), "cpu", PAGE).settings
    assert settings == {
        f"{TEST}.short_edge_length": 320,
        f"{TEST}.max_size": 448,  # 320 * 4 / 3 = 426.7, up to a multiple of 32
        f"{TRAIN}.0.short_edge_length": [256, 288, 320, 352, 384],
        f"{TRAIN}.0.max_size": 512,
    }
    panorama = choose.choose_input(survey_of([(160, 30)] * 3, (4800, 480)), "cpu", PAGE).settings
    assert panorama[f"{TEST}.max_size"] == 800  # 2.5 * 320


OWN = ["ResizeShortestEdge", "RandomAffine", "RandomFlip", "ColorJitter"]


def test_window_has_room_for_the_longest_objects(survey_of):
    # Lengths 100, 102, ... 300: the median is 200, 104 at the input, so 480 become 250, rounded 256; the quantile 0.95
    # is 290, 154.7 at the input, and 1.3 times that 201.
    choice = choose.choose_input(survey_of([(100 + 2 * i, 30) for i in range(101)]), "cpu", OWN)
    assert choice.settings[f"{TRAIN}.0.short_edge_length"] == [256]
    assert choice.settings[f"{TRAIN}.1.size"] == [192, 192]
    assert names_all(choice.reason, 192, 155, 1.3)
    # Not larger than the image, and not smaller than 128.
    settings = choose.choose_input(survey_of([(470, 30)] * 3), "cpu", OWN).settings
    assert settings[f"{TRAIN}.1.size"] == [192, 192]
    settings = choose.choose_input(survey_of([(30, 30)] * 3), "cpu", OWN).settings
    assert settings[f"{TRAIN}.1.size"] == [128, 128]


@pytest.mark.parametrize(("alignment", "turns"), [(0.12, True), (0.49, True), (0.5, False)])
def test_quarter_turns_where_objects_have_all_directions(alignment, turns, survey_of):
    survey = survey_of([(160, 30)] * 3, direction=Direction("head", "tail", alignment))
    [choice] = choose.choose_augmentations(survey, OWN)
    assert choice.settings == {f"{TRAIN}.1.quarter_turns": turns}
    assert "From head to tail" in choice.reason
    assert names_all(choice.reason, f"{alignment:.2f}", 0.5)
    assert choose.choose_augmentations(survey, PAGE) == []


@pytest.mark.parametrize(("new", "slight"), [(0.0, True), (6.0, True), (6.1, False)])
def test_colors_are_changed_strongly_where_test_images_have_new_ones(new, slight, survey_of):
    survey = survey_of([(160, 30)] * 3, colors=Colors(new, known=2.0))  # limit: 2 * 2 + 2
    [choice] = choose.choose_augmentations(survey, OWN)
    assert choice.settings.get(f"{TRAIN}.3.brightness") == (0.2 if slight else None)
    assert names_all(choice.reason, new, 2.0, 6.0)
    assert choose.choose_augmentations(survey, PAGE) == []


@pytest.mark.parametrize(
    ("sides", "sizes"),
    [
        # The median is 220: 480 * 104 / 220 = 227, rounded 224, times 7 / 15 of the original: 102.7. The quantiles 0.05
        # and 0.95 are 40 and 400, and the fourth root of 10 is 1.778.
        (range(20, 440, 20), [32, 56, 104, 184, 324]),
        # All of one size, 320 / 480 of 160: 106.7; the ratio is sqrt(2).
        ([160] * 9, [52, 76, 108, 152, 212]),
        # From 7 to 700 of 480: the fourth root of 100 is above 2. 200 * 256 / 480 = 106.7.
        ([7] * 4 + [200] * 4 + [700] * 4, [28, 52, 108, 212, 428]),
        # Four levels: the third root of 10 is above 2.
        (range(20, 440, 20), [36, 72, 144, 292]),
        ([160] * 9, [64, 88, 128, 180]),
    ],
)
def test_anchors_follow_the_sizes_of_objects(sides, sizes, survey_of):
    survey = survey_of([(side, side) for side in sides])
    choice = choose.choose_anchors(survey, "cpu", len(sizes))
    assert choice.settings == {
        f"{ANCHORS}.sizes": [[size] for size in sizes],
        f"{ANCHORS}.aspect_ratios": [0.5, 1.0, 2.0],
    }
    assert names_all(choice.reason, "1", "0.35", "2.9", "1.41", len(sizes))


def test_reason_of_anchors_names_the_objects(survey_of):
    choice = choose.choose_anchors(
        survey_of([(side, side) for side in range(20, 440, 20)]), "cpu", 5
    )
    assert names_all(choice.reason, "18.7", "103", "187", "1.78")


def test_long_objects_get_more_shapes(survey_of):
    choice = choose.choose_anchors(survey_of([(200, 50)] * 9 + [(50, 200)] * 9), "cpu", 5)
    assert choice.settings[f"{ANCHORS}.aspect_ratios"] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert choice.settings["model.proposal_generator.head.num_anchors"] == 5
    assert names_all(choice.reason, "0.25", "4")


@pytest.mark.parametrize(
    ("most", "proposals", "rpn", "samples", "detections"),
    [
        (1, 100, 64, 32, 20),
        (3, 100, 128, 64, 20),  # 30 proposals; 48 samples, up to 64
        (14, 150, 256, 256, 28),  # 140 proposals, up to 150; 224 samples
        (60, 600, 256, 512, 120),
        (400, 1000, 256, 512, 300),
    ],
)
def test_counts_follow_the_fullest_image(most, proposals, rpn, samples, detections, survey_of):
    choice = choose.choose_counts(survey_of([(9, 9)], most_objects=most, most_of_class=1))
    assert choice.settings == {
        "model.proposal_generator.pre_nms_topk": [2 * proposals] * 2,
        "model.proposal_generator.post_nms_topk": [proposals] * 2,
        "model.proposal_generator.batch_size_per_image": rpn,
        "model.roi_heads.batch_size_per_image": samples,
        "model.roi_heads.box_predictor.test_topk_per_image": detections,
    }
    assert names_all(choice.reason, most)


def test_ap_counts_more_detections_where_there_are_more_objects(survey_of):
    key = "dataloader.evaluator.max_detections"
    few, many = (
        choose.choose_counts(survey_of([(9, 9)], most_objects=30, most_of_class=own))
        for own in (20, 21)
    )
    assert key not in few.settings
    assert many.settings[key] == 60 and names_all(many.reason, 20, 21)


def test_batch_and_rate(survey_of, machine_of):
    gpu = machine_of(device="cuda", memory=24.0)
    batch, rate = "dataloader.train.total_batch_size", "optimizer.lr"
    survey = survey_of([(9, 9)] * 100)
    cases = [
        (survey, machine_of(), 4, 2e-3, 2, 1e-3),
        (survey, gpu, 16, 0.02, 16, 0.02),
        (survey, machine_of(device="cuda", memory=11.0), 16, 0.02, 8, 0.01),
        (survey, machine_of(device="cuda", memory=6.0), 16, 0.02, 4, 0.005),
        (survey_of([(9, 9)] * 6), gpu, 16, 0.02, 6, 0.0075),
    ]
    for data, machine, page_batch, page_rate, expected, scaled in cases:
        choice = choose.choose_batch(data, machine, page_batch, page_rate, adaptive=False)
        assert choice.settings == {batch: expected, rate: scaled}
        assert names_all(choice.reason, expected, page_batch, page_rate)
    # An Adam's rate: the square root of 16 / 4 is 2, that of 2 / 8 a half.
    for machine, page_batch, scaled in ((gpu, 4, 4e-3), (machine_of(), 8, 1e-3)):
        choice = choose.choose_batch(survey, machine, page_batch, 2e-3, adaptive=True)
        assert choice.settings[rate] == scaled


@pytest.mark.parametrize(
    ("page", "rate"),
    # 0.0014 for two images with AdamW, 0.02 for 16 with SGD; here 8 images.
    [("own.py", 0.0028), ("own_w18.py", 0.01)],
)
def test_rate_follows_the_optimizer_of_the_page(page, rate, survey_of, machine_of):
    machine = machine_of(device="cuda", memory=11.0)
    choices = run._choose_model(survey_of([(9, 9)] * 100), machine, load_config(page))
    settings = {key: value for choice in choices for key, value in choice.settings.items()}
    assert settings["dataloader.train.total_batch_size"] == 8
    assert settings["optimizer.lr"] == rate


def test_precision_follows_the_instructions(machine_of):
    for machine, expected in (
        (machine_of(), "float32"),
        (machine_of(bfloat16=True), "bfloat16"),
        (machine_of(device="cuda", memory=8.0), "float16"),
    ):
        choice = choose.choose_device(machine)
        assert choice.settings["train.amp.enabled"] is True  # with the page's dtype, auto
        assert choice.settings["train.device"] == machine.device
        assert f"{machine.name} has " in choice.reason and f" {expected}." in choice.reason


@pytest.mark.parametrize(
    ("device", "cores", "workers"),
    [
        ("cpu", 1, 0),
        ("cpu", 2, 0),
        ("cpu", 8, 2),
        ("cpu", 64, 4),
        ("cuda", 1, 1),
        ("cuda", 4, 3),
        ("cuda", 64, 8),
    ],
)
def test_workers_leave_cores_to_training(device, cores, workers, machine_of):
    choice = choose.choose_device(machine_of(device=device, cores=cores))
    assert choice.settings["dataloader.train.num_workers"] == workers
    assert names_all(choice.reason, cores, workers)


def test_decoding_and_the_range_of_deep_images(survey_of):
    [dark] = choose.choose_inference(survey_of([(9, 9)]), "highest")
    assert dark.settings == {"inference.keypoint_decoding": "dark"}
    [deep] = choose.choose_inference(survey_of([(9, 9)], image_range=(0, 4095)), "dark")
    assert deep.settings == {"data.image_range": [0.0, 4095.0]} and names_all(deep.reason, 4095)


def test_images_of_rare_classes_are_repeated(survey_of):
    def choice_for(**class_images):
        return choose.choose_repeats(survey_of([(9, 9)] * 100, class_images=class_images))

    assert choice_for(mouse=100) == []
    assert choice_for(mouse=80, bait=24) == []
    [choice] = choice_for(mouse=80, bait=23)  # 0.3 * 0.8 = 0.24
    assert choice.settings == {"dataloader.train.repeat_threshold": 0.24}
    assert names_all(choice.reason, 80, 23, 0.24)


def test_evaluation_is_by_what_the_data_have(survey_of):
    points = choose.choose_evaluation(survey_of([(9, 9)] * 100))
    assert points.settings["train.best"] == {"metric": "keypoints/AP", "restore": True}
    assert points.settings["train.eval_train_images"] == 16
    boxes = choose.choose_evaluation(survey_of([(9, 9)] * 7, keypoints=()))
    assert boxes.settings["train.best"]["metric"] == "bbox/AP"
    assert boxes.settings["train.eval_train_images"] == 7 and names_all(boxes.reason, 7)


@pytest.mark.parametrize(
    ("images", "epochs"),
    [(10, 80), (100, 80), (1000, 57.333), (10_000, 34.667), (100_000, 12), (10**7, 12)],
)
def test_fewer_epochs_of_more_images(images, epochs):
    assert choose.choose_epochs(images) == pytest.approx(epochs, abs=1e-3)


def settings_of(choices):
    return {key: value for choice in choices for key, value in choice.settings.items()}


def test_schedule_without_a_limit(survey_of):
    survey = survey_of([(9, 9)] * 100)
    iterations, others = choose.choose_schedule(survey, 4, None, None)
    assert settings_of([iterations, others]) == {
        "train.max_iter": 2000,  # 80 * 100 / 4
        "lr_multiplier.warmup_iters": 200,
        "train.ema": {"enabled": True, "decay": 0.996},  # 1 - 1 / 250
        "train.eval_period": 250,  # 2000 / 8
    }
    assert names_all(iterations.reason, 100, 80, 4, 8) and names_all(others.reason, 2000)
    few = settings_of(choose.choose_schedule(survey_of([(9, 9)] * 5), 4, None, None))
    assert few["train.max_iter"] == 100 and few["train.eval_period"] == 25  # 4 evaluations
    many = settings_of(choose.choose_schedule(survey_of([(9, 9)] * 10_000), 4, None, None))
    assert many["train.max_iter"] == 86_670 and many["lr_multiplier.warmup_iters"] == 1000
    assert many["train.ema"]["decay"] == 0.9998  # 1 - 1 / 10834


def test_schedule_within_the_time(survey_of, monkeypatch):
    monkeypatch.setattr(choose, "OTHER_SECONDS", 20.0)
    survey = survey_of([(9, 9)] * 100)
    times = Times(iteration=0.5, evaluation=4.0, start=4.0)
    # 600 s less 24 s, and 9 evaluations of 4 s: 540 s.
    iterations, _ = choose.choose_schedule(survey, 4, 10.0, times)
    assert iterations.settings == {"train.max_iter": 1080, "train.eval_period": 135}
    assert names_all(iterations.reason, 10, 1080, 0.5, 9, 4, 24, 43.2)
    # Evaluations of 30 s: 0.15 of 600 s are 3 of them, the last one of the best weights: 576 - 90 s.
    slow = choose.choose_schedule(survey, 4, 10.0, times._replace(evaluation=30.0))
    assert (
        settings_of(slow)["train.max_iter"] == 972 and settings_of(slow)["train.eval_period"] == 486
    )
    # Iterations of 4 s: 135, and 5 evaluations at least 25 apart; then there is time for 138.
    rare = settings_of(choose.choose_schedule(survey, 4, 10.0, times._replace(iteration=4.0)))
    assert rare["train.max_iter"] == 138 and rare["train.eval_period"] == 28


def test_too_little_time_names_what_is_needed(survey_of, monkeypatch):
    monkeypatch.setattr(choose, "OTHER_SECONDS", 20.0)
    times = Times(iteration=1.0, evaluation=4.0, start=4.0)
    # 24 s, two evaluations and 100 iterations: 132 s
    with pytest.raises(UserError, match=r"--minutes 1: .* at least 2\.2 minutes"):
        choose.choose_schedule(survey_of([(9, 9)] * 100), 4, 1.0, times)
    choose.choose_schedule(survey_of([(9, 9)] * 100), 4, 2.2, times)
