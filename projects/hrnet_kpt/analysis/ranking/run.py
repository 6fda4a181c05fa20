"""tools/rank_images.py: predictions of images and their mirror images, the ranking, and a sheet of the first ones."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import load_config
from ...errors import UserError
from ...inference import Predictor
from ...inference.predict.inputs import Input, find_inputs, refuse_os_errors
from ...inference.predict.stream import Problem, Sample, Task, prefetched, read_samples
from ...inference.predict.writing import Progress
from ...inference.predictor import files_of_run
from ...io import atomic_write, replace_text
from .doubt import SURE, Doubt, Found, Pair, compare_mirrored, doubt_of
from .order import order_images, thumbnail
from .sheet import draw_sheet

PREFETCH = 4  # images
COLUMNS = ("rank", "image", "score", "keypoints", "boxes", "mirror", "objects", "duplicate_of")


@dataclass(frozen=True)
class Ranked:
    """An image, and what it is ranked by."""

    item: Input
    doubt: Doubt
    objects: int  # with a score of SURE or more
    thumbnail: np.ndarray


def rank_images(
    run: str, words: Sequence[str], output: Path, device: str = "", overrides: Sequence[str] = ()
) -> list[str]:
    """Rank images, and write ranking.csv, images.txt (their paths in this order) and ranking.jpg into `output`.

    Args:
        run: A run folder.
        words: See `find_inputs`.
        output: A folder; it is created, and its own images are not ranked.
        device: See `Predictor`.
        overrides: Of the run's config.

    Returns:
        A message for each image that cannot be read.

    Raises:
        UserError: If the run or an input is wrong, or no image can be read.
    """
    config, weights = files_of_run(run)
    cfg = load_config(config, list(overrides))
    inputs = find_inputs(words, str(output))
    video = next((item for item in inputs if item.is_video), None)
    if video is not None:
        raise UserError(f"--input {video.path} is a video: give images, such as some of its frames")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: give a folder for the ranking")
    with refuse_os_errors("--output", output):
        output.mkdir(parents=True, exist_ok=True)
    predictor = Predictor(cfg, weights, device)
    ranked: list[Ranked] = []
    problems: list[str] = []
    samples = prefetched(
        read_samples([Task(item, False) for item in inputs], None, predictor.image_range), PREFETCH
    )
    with closing(Progress(len(inputs))) as progress, closing(samples):
        for sample in samples:
            progress.advance()
            try:
                if isinstance(sample, Problem):
                    raise UserError(sample.message)
                objects, pairs = _compare(predictor, sample)
            except UserError as error:
                problems.append(str(error))
                progress.print(f"skipped: {error}")
                continue
            count = sum(found["score"] >= SURE for found in objects)
            doubt = doubt_of(objects, pairs)
            ranked.append(Ranked(sample.task.item, doubt, count, thumbnail(sample.image)))
    if not ranked:
        raise UserError(f"none of the {len(inputs)} images can be used: {problems[0]}")
    order, like = order_images([r.doubt.score for r in ranked], [r.thumbnail for r in ranked])
    with refuse_os_errors("--output", output):
        _write_table(output / "ranking.csv", ranked, order, like)
        paths = [str(ranked[index].item.path) for index in order]
        replace_text(output / "images.txt", "".join(f"{path}\n" for path in paths))
        first = [(ranked[index].item, ranked[index].doubt) for index in order]
        sheet = draw_sheet(predictor, first)
        with atomic_write(output / "ranking.jpg") as unfinished:
            sheet.save(unfinished, quality=90)
    print(f"{output}: {len(ranked)} images; near-duplicates, at the end: {len(like)}")
    return problems


def _compare(predictor: Predictor, sample: Sample) -> tuple[list[Found], list[Pair]]:
    try:
        return compare_mirrored(predictor, sample.image)
    except UserError as error:
        raise UserError(f"{sample.task.item.path}: {error}") from error


def _write_table(
    path: Path, ranked: Sequence[Ranked], order: Sequence[int], like: dict[int, int]
) -> None:
    with (
        atomic_write(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for rank, index in enumerate(order, 1):
            row, other = ranked[index], like.get(index)
            doubt = row.doubt
            parts = (doubt.score, doubt.keypoints, doubt.boxes, doubt.mirror)
            writer.writerow(
                [
                    rank,
                    row.item.path,
                    *(f"{part:.4f}" for part in parts),
                    row.objects,
                    "" if other is None else ranked[other].item.path,
                ]
            )
