"""A run that is resumed against what it was: its folder has its config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from ...errors import UserError, join_names
from ..diff import ABSENT, Difference, differences, format_differences
from ..findings import Finding, error, warning
from ..load import load_config
from ..resolve import label_names
from ..save import absolute_paths
from .build import build_on_meta

SHOWN = 5
REMEDY = "take the old values, or another train.output_dir"
# What a resumed run may change without a word: where it runs, and how often it reports.
FREE = [
    "train.output_dir",
    "train.init_checkpoint",
    "train.init_strict",
    "train.imagenet",
    "train.device",
    "train.deterministic",
    "train.ddp",
    "train.log_period",
    "train.eval_period",
    "train.checkpointer",
    "train.hooks",
    "train.writers",
    "train.best",
    "train.validation_loss",
    "train.accumulation_steps",
    "train.divergence",
    "inference",
    "model.backbone.bottom_up.activation_checkpointing",
    "dataloader.train.num_workers",
    "dataloader.train.prefetch_factor",
    "dataloader.train.pin_memory",
    "dataloader.train.timeout",
    "dataloader.test",
    "dataloader.evaluator",
    "data.root",
    "data.test",
    "data.generate",
    "data.on_bad_image",
    "data.max_bad_images",
    "data.timeout",
]
# What decides how long the run is and how its rate falls.
SCHEDULE = ("train.max_iter", "train.max_epochs", "lr_multiplier")


def check_resume(cfg: DictConfig, model: nn.Module | None) -> Iterator[Finding]:
    """What differs from the config in the run folder: a model or an optimizer that the checkpoint does not fit is an
    error; all else that changes the training is a warning."""
    saved = Path(cfg.train.output_dir) / "config.yaml"
    if not saved.is_file():
        return
    try:
        old = load_config(str(saved))
    except (UserError, ValueError, KeyError, TypeError) as reason:
        sentence = f"{saved} cannot be read ({reason}): what has changed since is not known"
        yield warning("resume-differs", "train.output_dir", sentence)
        return
    yield from _check_labels(old, cfg)
    found = [
        d
        for d in differences(old, absolute_paths(cfg))
        # A key that the run's config did not have yet has its default.
        if not (_under(d.key, FREE) or (d.old is ABSENT and d.key.startswith("train.")))
        # `auto` is read from the same images again.
        and not (d.key.endswith(".image_range") and (d.old is ABSENT or d.new == "auto"))
    ]
    model_changes = [d for d in found if _under(d.key, ("model",))]
    if model_changes and model is not None and _shapes(old) != _shapes_of(model):
        sentence = (
            f"the run's checkpoints are of another model: {_describe(model_changes)}; {REMEDY}"
        )
        yield error("resume-differs", model_changes[0].key, sentence)
        model_changes = []
    optimizer_changes = [d for d in found if d.key in ("optimizer", "optimizer._target_")]
    if optimizer_changes:
        sentence = f"the run's checkpoints are of another optimizer: {_describe(optimizer_changes)}; {REMEDY}"
        yield error("resume-differs", "optimizer", sentence)
    schedule_changes = [d for d in found if _under(d.key, SCHEDULE)]
    if schedule_changes:
        sentence = (
            f"the schedule is not that of the run so far: {_describe(schedule_changes)}; from here on the rate follows "
            "the new one: take the old values if that is not meant"
        )
        yield warning("resume-differs", schedule_changes[0].key, sentence)
    reported = (*optimizer_changes, *schedule_changes)
    labels = ("data.keypoints.names", "data.classes")
    others = model_changes + [
        d for d in found if not _under(d.key, ("model", *labels)) and d not in reported
    ]
    if others:
        sentence = (
            f"the run so far had other settings: {_describe(others)}; it goes on with the new ones"
        )
        yield warning("resume-differs", others[0].key, sentence)


def _check_labels(old: DictConfig, cfg: DictConfig) -> Iterator[Finding]:
    """Rows of the checkpoint, and of the optimizer's momenta, that would stand for something else."""
    before, now = label_names(old), label_names(cfg)
    for what in ("keypoints", "classes"):
        if before[what] and now[what] and before[what] != now[what]:
            same = set(before[what]) == set(now[what])
            new = "the same in another order" if same else join_names(now[what])
            sentence = (
                f"the run's checkpoints have the {what} {join_names(before[what])}, and the data now {new}: {REMEDY}, "
                "with the run's weights as train.init_checkpoint"
            )
            yield error("resume-differs", f"data.{what}", sentence)


def _under(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _describe(found: Sequence[Difference]) -> str:
    lines = [" ".join(format_differences([d]).split()) for d in found[:SHOWN]]
    more = len(found) - len(lines)
    return ", ".join(lines) + (f", and {more} more" if more else "")


def _shapes(cfg: DictConfig) -> dict[str, tuple[int, ...]]:
    model, _ = build_on_meta(cfg)
    return {} if model is None else _shapes_of(model)


def _shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
