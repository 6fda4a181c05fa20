"""The values of a new config, each with its reason: pure functions of the data, the machine and the measured times.

All numbers of the recipe are constants here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import UserError, join_names
from .machine import Machine
from .survey import Survey

# Pages.
SMALL_PAGE = "own.py"
PRETRAINED_PAGE = "own_w18.py"
# Size of images: the longer side of the median object becomes OBJECT_LENGTH pixels.
OBJECT_LENGTH = 104
SHORT_SIDES = {"cpu": (192, 480), "cuda": (640, 800)}  # minimum and maximum
MULTIPLE = 32
MAX_ASPECT = 2.5  # of images; longer ones are scaled down further
TRAINING_SCALES = (0.8, 0.9, 1.0, 1.1, 1.2)
# The window of the image in training, in lengths of the objects of this quantile; at least so many pixels.
WINDOW_LENGTHS, WINDOW_QUANTILE, MIN_WINDOW = 1.3, 0.95, 128
# Quarter turns are added if the objects' directions are less aligned than this.
ALIGNED = 0.5
# Test images have new colors if they are farther from the training images than this many times what these are from one
# another, plus so many levels of 255. Otherwise the colors are changed less than on the page.
NEW_COLORS, NEW_LEVELS = 2.0, 2.0
SLIGHT_JITTER = {
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.02,
    "gray": 0,
}
# Anchors: one size for each level, that of the median object in the middle, in equal ratios.
ANCHOR_QUANTILES = (0.05, 0.5, 0.95)  # of sqrt(area)
ANCHOR_RATIOS = (math.sqrt(2), 2.0)  # minimum and maximum
ANCHOR_MULTIPLE = 4
SHAPE_QUANTILES = (0.05, 0.95)  # of height / width
ASPECT_RATIOS = (0.5, 1.0, 2.0)
MATCHED_SHAPES = (0.35, 2.9)  # that these aspect ratios match
# Numbers of an image, from the maximum number of objects in one.
PROPOSALS_PER_OBJECT, PROPOSALS = 10, (100, 1000)
SAMPLES_PER_OBJECT, SAMPLES = 16, (32, 512)
DETECTIONS_PER_OBJECT, DETECTIONS = 2, (20, 300)
COUNTED_DETECTIONS = 20  # of an image and a class, in COCO's keypoint AP
# Optimization.
CPU_BATCH = 2  # up to 1.3 times the time of 4 for each image, but twice the steps learn more
GPU_BATCHES = ((16, 16.0), (8, 8.0), (4, 0.0))  # images, and the GiB of memory that they need
EPOCHS = (80, 12)  # for EPOCH_IMAGES or less, and for 1000 times as many or more
EPOCH_IMAGES = 100
MIN_ITERATIONS = 100
WARMUP_FRACTION, WARMUP = 0.1, (10, 1000)
EMA_FRACTION, EMA_DECAYS = 0.125, (0.99, 0.9998)  # of a run, over which weights are averaged
# Evaluations.
EVALUATIONS = 8
EVALUATION_GAP = 25  # minimum number of iterations between two
EVALUATION_TIME = 0.15  # maximum fraction of the time
TRAINING_IMAGES_EVALUATED = 16
# Images of classes in a smaller fraction of the images than this, times that of the most frequent class, are repeated.
RARE = 0.3
# Workers of the data loaders: on a GPU at most so many; on a CPU, whose cores train, one for four cores, up to so many.
GPU_WORKERS, CPU_WORKERS = 8, 4
# A run's time besides iterations and evaluations, on a CPU core of 2024: imports and drawings.
OTHER_SECONDS = 20.0


class Choice(NamedTuple):
    """Values that have one reason, by dotted key."""

    reason: str
    settings: dict[str, Any]


class Times(NamedTuple):
    """Seconds of the parts of a run: one iteration, one evaluation, and the checks at its start."""

    iteration: float
    evaluation: float
    start: float


def clip(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])


def round_to(value: float, multiple: int, least: int = 1) -> int:
    """The nearest multiple, at least `least` times it."""
    return multiple * max(least, math.floor(value / multiple + 0.5))


def number(value: float) -> str:
    """A number with three digits: 0.412, 57, 1920."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def choose_page(machine: Machine, has_weights: bool) -> tuple[str, str]:
    """The page, and the reason.

    Args:
        has_weights: Whether the ImageNet weights of PRETRAINED_PAGE are on this machine or can be downloaded.
    """
    if machine.device == "cpu":
        return SMALL_PAGE, "The small HRNet from scratch, for training on a CPU."
    if not has_weights:
        return (
            SMALL_PAGE,
            "The small HRNet from scratch: the ImageNet weights cannot be downloaded.",
        )
    return PRETRAINED_PAGE, "HRNet-W18 with ImageNet weights: there is a GPU to train it."


def choose_short_side(survey: Survey, device: str) -> int:
    """The shorter side of images at the input, in pixels, a multiple of MULTIPLE."""
    sizes = survey.image_sizes[survey.box_image]
    relative = survey.box_sizes.max(axis=1) / sizes.min(axis=1)
    wanted = round_to(OBJECT_LENGTH / float(np.median(relative)), MULTIPLE)
    original = max(MULTIPLE, MULTIPLE * math.floor(survey.short_side / MULTIPLE))
    return min(int(clip(wanted, SHORT_SIDES[device])), original)


def choose_longest_side(survey: Survey, short: float) -> int:
    """The maximum of the longer side: of the most elongated image, if it is not above MAX_ASPECT."""
    aspect = float((survey.image_sizes.max(axis=1) / survey.image_sizes.min(axis=1)).max())
    return MULTIPLE * math.ceil(short * min(aspect, MAX_ASPECT) / MULTIPLE - 1e-9)


def choose_input(survey: Survey, device: str, augmentations: Sequence[str]) -> Choice:
    """The size of images.

    Args:
        augmentations: Names of the page's augmentations in training, in their order.
    """
    short = choose_short_side(survey, device)
    longest = choose_longest_side(survey, short)
    original = float(np.median(survey.box_sizes.max(axis=1)))
    at_input = float(np.median(survey.box_sizes_at(short, longest).max(axis=1)))
    reason = (
        f"The median object is {number(original)} pixels long in images of {number(survey.short_side)} (the shorter "
        f"side), {number(at_input)} at {short} (aim: {OBJECT_LENGTH}; {SHORT_SIDES[device][0]} to "
        f"{SHORT_SIDES[device][1]}, at most the original)."
    )
    test = "dataloader.test.mapper.augmentations.0"
    settings: dict[str, Any] = {
        f"{test}.short_edge_length": short,
        f"{test}.max_size": longest,
    }
    train = "dataloader.train.mapper.augmentations"
    affine = "RandomAffine" in augmentations
    if "ResizeShortestEdge" in augmentations:
        resize = f"{train}.{augmentations.index('ResizeShortestEdge')}"
        sizes = [short] if affine else [round_to(s * short, 16) for s in TRAINING_SCALES]
        settings[f"{resize}.short_edge_length"] = sizes
        settings[f"{resize}.max_size"] = choose_longest_side(survey, max(sizes))
        if not affine:
            reason += f" In training {TRAINING_SCALES[0]} to {TRAINING_SCALES[-1]} times that."
    if affine:
        lengths = survey.box_sizes_at(short, longest).max(axis=1)
        large = float(np.quantile(lengths, WINDOW_QUANTILE))
        window = min(short, round_to(max(MIN_WINDOW, WINDOW_LENGTHS * large), MULTIPLE))
        settings[f"{train}.{augmentations.index('RandomAffine')}.size"] = [window, window]
        reason += (
            f" Training sees windows of {window}, {WINDOW_LENGTHS} times the {100 * WINDOW_QUANTILE:g} percent "
            f"quantile of lengths, {number(large)} (at least {MIN_WINDOW})."
        )
    return Choice(reason, settings)


def choose_augmentations(survey: Survey, augmentations: Sequence[str]) -> list[Choice]:
    """Rotations by the objects' directions, and changes of color by those between training and test images.

    Args:
        augmentations: Names of the page's augmentations in training, in their order.
    """
    found = []
    train = "dataloader.train.mapper.augmentations"
    if survey.direction and "RandomAffine" in augmentations:
        start, end, alignment = survey.direction
        turns = alignment < ALIGNED
        reason = (
            f"From {start} to {end}, directions have an alignment of {alignment:.2f} (1: all the same, 0: all "
            f"directions): {'' if turns else 'no '}quarter turns (below {ALIGNED})."
        )
        key = f"{train}.{augmentations.index('RandomAffine')}.quarter_turns"
        found.append(Choice(reason, {key: turns}))
    if survey.colors and "ColorJitter" in augmentations:
        new, known = survey.colors
        limit = NEW_COLORS * known + NEW_LEVELS
        distance = (
            f"Mean colors of test images are {new:.1f} levels from the nearest training image, of training images "
            f"{known:.1f}"
        )
        key = f"{train}.{augmentations.index('ColorJitter')}"
        if new <= limit:
            reason = f"{distance}: known colors (up to {limit:.1f}) are changed slightly."
            settings = {f"{key}.{name}": value for name, value in SLIGHT_JITTER.items()}
            found.append(Choice(reason, settings))
        else:
            reason = f"{distance}: new colors (above {limit:.1f}), so they are changed strongly, as the page does."
            found.append(Choice(reason, {}))
    return found


def choose_anchors(survey: Survey, device: str, levels: int) -> Choice:
    """Sizes and aspect ratios of anchors, at the input size, for this number of levels of the RPN."""
    short = choose_short_side(survey, device)
    boxes = survey.box_sizes_at(short, choose_longest_side(survey, short))
    small, middle, large = np.quantile(np.sqrt(boxes.prod(axis=1)), ANCHOR_QUANTILES).tolist()
    steps = levels - 1  # from the smallest to the largest
    ratio = clip((large / small) ** (1 / max(1, steps)), ANCHOR_RATIOS)
    sizes = [
        round_to(middle * ratio ** (step - steps / 2), ANCHOR_MULTIPLE) for step in range(levels)
    ]
    low, high = np.quantile(boxes[:, 1] / boxes[:, 0], SHAPE_QUANTILES).tolist()
    ratios = list(ASPECT_RATIOS)
    if low < MATCHED_SHAPES[0]:
        ratios.insert(0, max(0.1, round(low, 2)))
    if high > MATCHED_SHAPES[1]:
        ratios.append(min(10.0, round(high, 1)))
    more = len(ratios) > len(ASPECT_RATIOS)
    reason = (
        f"sqrt(area) at that size is {number(small)} to {number(large)} for 90 percent of the objects, "
        f"{number(middle)} in the median: anchors of the {levels} levels in the ratio {number(ratio)} "
        f"({number(ANCHOR_RATIOS[0])} to 2). Height / width is {number(low)} to {number(high)} (three shapes match "
        f"{MATCHED_SHAPES[0]} to {MATCHED_SHAPES[1]})."
    )
    generator = "model.proposal_generator.anchor_generator"
    settings: dict[str, Any] = {
        f"{generator}.sizes": [[size] for size in sizes],
        f"{generator}.aspect_ratios": ratios,
    }
    if more:
        settings["model.proposal_generator.head.num_anchors"] = len(ratios)
    return Choice(reason, settings)


def choose_counts(survey: Survey) -> Choice:
    """Numbers of proposals, sampled regions and detections in an image."""
    most = survey.most_objects
    proposals = int(clip(50 * math.ceil(PROPOSALS_PER_OBJECT * most / 50), PROPOSALS))
    samples = int(clip(2 ** math.ceil(math.log2(SAMPLES_PER_OBJECT * most)), SAMPLES))
    detections = int(clip(DETECTIONS_PER_OBJECT * most, DETECTIONS))
    reason = (
        f"At most {most} object{'s' * (most != 1)} in an image, and {PROPOSALS_PER_OBJECT} times as many proposals "
        f"({PROPOSALS[0]} to {PROPOSALS[1]}), {SAMPLES_PER_OBJECT} times as many regions to learn from ({SAMPLES[0]} "
        f"to {SAMPLES[1]}), twice as many detections ({DETECTIONS[0]} to {DETECTIONS[1]})."
    )
    settings: dict[str, Any] = {
        "model.proposal_generator.pre_nms_topk": [2 * proposals, 2 * proposals],
        "model.proposal_generator.post_nms_topk": [proposals, proposals],
        "model.proposal_generator.batch_size_per_image": min(2 * samples, 256),
        "model.roi_heads.batch_size_per_image": samples,
        "model.roi_heads.box_predictor.test_topk_per_image": detections,
    }
    if survey.most_of_class > COUNTED_DETECTIONS:
        settings["dataloader.evaluator.max_detections"] = detections
        reason += f" AP counts all of them, not {COUNTED_DETECTIONS}: a class has up to {survey.most_of_class} objects."
    return Choice(reason, settings)


def choose_batch(
    survey: Survey, machine: Machine, page_batch: int, page_rate: float, adaptive: bool
) -> Choice:
    """The batch, and the learning rate that follows it.

    Args:
        page_batch: The page's batch size.
        page_rate: The page's learning rate, for its batch size.
        adaptive: Whether the optimizer is an Adam, whose rate is in proportion to the square root of the batch:
            https://arxiv.org/abs/2205.10287. That of SGD is in proportion to the batch.
    """
    if machine.device == "cpu":
        batch, why = CPU_BATCH, f"{CPU_BATCH} images are one batch on a CPU"
    else:
        batch = next(images for images, memory in GPU_BATCHES if machine.memory >= memory)
        why = f"{batch} images are one batch with {machine.memory:.0f} GiB of GPU memory"
    if batch > survey.images:
        batch, why = survey.images, f"all {survey.images} images are one batch"
    rate = float(f"{page_rate * (batch / page_batch) ** (0.5 if adaptive else 1):.3g}")
    proportion = "in proportion to the square root" if adaptive else "in proportion"
    return Choice(
        f"{why[0].upper()}{why[1:]}; the page's rate is {page_rate:g} for {page_batch}; it is {proportion}.",
        {"dataloader.train.total_batch_size": batch, "optimizer.lr": rate},
    )


def choose_device(machine: Machine) -> Choice:
    """Device, precision, and workers of the data loaders.

    On two cores, a step of two threads beside a worker takes longer than the step and the loading one after the other:
    at the end of each operation, one thread waits for the other, whose core the worker has.
    """
    precision = "has instructions for bfloat16."
    if not machine.bfloat16:
        fallback = "float32" if machine.device == "cpu" else "float16"
        precision = f"has no instructions for bfloat16: {fallback}."
    if machine.device == "cpu":
        workers = min(machine.cores // 4, CPU_WORKERS)
        rule = f"a quarter, up to {CPU_WORKERS}"
    else:
        workers = int(clip(machine.cores - 1, (1, GPU_WORKERS)))
        rule = f"all but one, up to {GPU_WORKERS}"
    reason = (
        f"{machine.name} {precision} {workers} worker{'s' * (workers != 1)} for "
        f"{machine.cores} CPU core{'s' * (machine.cores != 1)} ({rule})."
    )
    settings = {
        "train.device": machine.device,
        "train.amp.enabled": True,
        "dataloader.train.num_workers": workers,
    }
    return Choice(reason, settings)


def choose_inference(survey: Survey, page_decoding: str) -> list[Choice]:
    """Decoding of heatmaps, if the page has another one, and the range of deep images."""
    found = []
    if survey.keypoints and page_decoding != "dark":
        reason = "Keypoints between the pixels of a heatmap: more accurate than at its maximum, without training."
        found.append(Choice(reason, {"inference.keypoint_decoding": "dark"}))
    if not isinstance(survey.image_range, str):
        low, high = (float(value) for value in survey.image_range)
        reason = f"Images have more than 8 bits; their values {low:g} to {high:g} become 0 to 255."
        found.append(Choice(reason, {"data.image_range": [low, high]}))
    return found


def choose_repeats(survey: Survey) -> list[Choice]:
    """The repetition of images of rare classes; nothing if there are none."""
    fractions = {name: count / survey.images for name, count in survey.class_images.items()}
    threshold = float(f"{RARE * max(fractions.values()):.3g}")
    rare = {name: fraction for name, fraction in fractions.items() if fraction < threshold}
    if not rare:
        return []
    names = join_names([f"{name} {100 * fraction:.3g} %" for name, fraction in rare.items()], 2)
    reason = (
        f"Images of rare classes ({names}; the most frequent one: {100 * max(fractions.values()):.3g} %) are repeated "
        f"sqrt({threshold:g} / fraction) times."
    )
    return [Choice(reason, {"dataloader.train.repeat_threshold": threshold})]


def choose_epochs(images: int) -> float:
    """How often each image is seen: fewer times where there are more; between EPOCHS."""
    most, fewest = EPOCHS
    return clip(most - (most - fewest) * math.log10(images / EPOCH_IMAGES) / 3, (fewest, most))


def choose_evaluation(survey: Survey) -> Choice:
    """What is evaluated, and which weights the run ends with."""
    metric = "keypoints/AP" if survey.keypoints else "bbox/AP"
    compared = min(TRAINING_IMAGES_EVALUATED, survey.images)
    return Choice(
        f"The run ends with its best weights by {metric}; AP on {compared} of {survey.images} training images shows "
        "overfitting.",
        {
            "train.best": {"metric": metric, "restore": True},
            "train.eval_train_images": compared,
        },
    )


def choose_schedule(
    survey: Survey, batch: int, minutes: float | None, times: Times | None
) -> list[Choice]:
    """Iterations, warm-up, EMA and the period of evaluations.

    Args:
        batch: Images in an iteration.
        minutes: The time of the whole run; None: as many iterations as the number of images asks for.
        times: What was measured; required with `minutes`.

    Raises:
        UserError: If there is no time for MIN_ITERATIONS.
    """
    if minutes is None:
        iterations, evaluations, reason = _iterations_of_images(survey.images, batch)
    else:
        assert times is not None
        iterations, evaluations, reason = _iterations_of_time(minutes, times)
        epochs = iterations * batch / survey.images
        reason += f"; each image is seen {number(epochs)} times."
    period = math.ceil(iterations / evaluations)
    warmup = int(clip(WARMUP_FRACTION * iterations, WARMUP))
    decay = float(f"{clip(1 - 1 / (EMA_FRACTION * iterations), EMA_DECAYS):.4g}")
    return [
        Choice(
            f"{reason} {evaluations} evaluation{'s' * (evaluations != 1)}, at least {EVALUATION_GAP} iterations apart.",
            {"train.max_iter": iterations, "train.eval_period": period},
        ),
        Choice(
            f"Of {iterations} iterations, a tenth to warm up ({WARMUP[0]} to {WARMUP[1]}) and an eighth in the "
            f"average of weights that is evaluated (decay {EMA_DECAYS[0]} to {EMA_DECAYS[1]}).",
            {
                "lr_multiplier.warmup_iters": warmup,
                "train.ema": {"enabled": True, "decay": decay},
            },
        ),
    ]


def _iterations_of_images(images: int, batch: int) -> tuple[int, int, str]:
    epochs = choose_epochs(images)
    iterations = max(MIN_ITERATIONS, round_to(epochs * images / batch, 10))
    reason = (
        f"Each of the {images} images is seen {number(epochs)} times ({EPOCHS[0]} for {EPOCH_IMAGES} images, "
        f"{EPOCHS[1]} for {1000 * EPOCH_IMAGES}), {batch} in an iteration, {MIN_ITERATIONS} iterations or more."
    )
    return iterations, _evaluations(iterations), reason


def _iterations_of_time(minutes: float, times: Times) -> tuple[int, int, str]:
    """Iterations, evaluations and the reason."""
    seconds = 60 * minutes
    other = OTHER_SECONDS + times.start
    affordable = int(EVALUATION_TIME * seconds / times.evaluation) - 1
    # Fewer evaluations leave time for more iterations.
    for evaluations in range(min(EVALUATIONS, max(1, affordable)), 0, -1):
        # The best weights are evaluated once more, at the end.
        evaluating = (evaluations + 1) * times.evaluation
        iterations = int((seconds - other - evaluating) / times.iteration)
        if iterations >= MIN_ITERATIONS and evaluations <= _evaluations(iterations):
            break
    if iterations < MIN_ITERATIONS:
        needed = other + 2 * times.evaluation + MIN_ITERATIONS * times.iteration
        raise UserError(
            f"--minutes {minutes:g}: there is time for {max(0, iterations)} iterations of {times.iteration:.2g} s, and "
            f"training needs at least {MIN_ITERATIONS}: give at least {math.ceil(10 * needed / 60) / 10:g} minutes"
        )
    reason = (
        f"{minutes:g} minutes: {iterations} iterations of {times.iteration:.3g} s, {evaluations + 1} evaluations of "
        f"{times.evaluation:.3g} s, {number(other)} s for the rest"
    )
    return iterations, evaluations, reason


def _evaluations(iterations: int) -> int:
    """As many evaluations as a run may have, at least EVALUATION_GAP iterations apart."""
    return max(1, min(EVALUATIONS, iterations // EVALUATION_GAP))
