"""Checks a run that is resumed against the config.yaml in its output folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from ...errors import join_names
from ..diff import ABSENT, Difference, differences, format_differences
from ..findings import Finding, error, warning
from ..load import load_config
from ..resolve import label_names
from ..save import absolute_paths
from .build import build_on_meta

MAX_SHOWN = 5
REMEDY = "restore the old values, or use another train.output_dir"
# Keys that a resumed run may change: where it runs, and how often it reports.
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
    "train.eval_train_images",
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
    "data.keypoints.reference",
    "data.on_bad_image",
    "data.max_bad_images",
    "data.timeout",
]
# Keys that older configs may lack.
ADDED = ("train.", "dataloader.train.repeat_threshold", "dataloader.train.classes")
# The length of the run and its learning rate.
SCHEDULE = ("train.max_iter", "train.max_epochs", "lr_multiplier")


def check_resume(cfg: DictConfig, model: nn.Module | None) -> Iterator[Finding]:
    """Compare with the config in the run folder.

    A model or an optimizer that the checkpoint does not fit is an error; other changes of the training are warnings.

    Args:
        model: `cfg.model` on the meta device, None if it cannot be built.
    """
    saved = Path(cfg.train.output_dir) / "config.yaml"
    if not saved.is_file():
        return
    try:
        old = load_config(str(saved))
    except (ValueError, KeyError, TypeError) as reason:
        message = f"{saved} cannot be read ({reason}): changes since then are not known"
        yield warning("resume-differs", "train.output_dir", message)
        return
    yield from _check_labels(old, cfg)
    found = [
        d
        for d in differences(old, absolute_paths(cfg))
        # A key that is missing in an older config has its default value.
        if not (_under(d.key, FREE) or (d.old is ABSENT and d.key.startswith(ADDED)))
        # `auto` is read again from the same images.
        and not (d.key.endswith(".image_range") and (d.old is ABSENT or d.new == "auto"))
    ]
    model_changes = [d for d in found if _under(d.key, ("model",))]
    if model_changes and model is not None and _shapes(build_on_meta(old)[0]) != _shapes(model):
        message = f"the checkpoints are of another model: {_describe(model_changes)}; {REMEDY}"
        yield error("resume-differs", model_changes[0].key, message)
        model_changes = []
    optimizer_changes = [d for d in found if d.key in ("optimizer", "optimizer._target_")]
    if optimizer_changes:
        message = f"the run's checkpoints are of another optimizer: {_describe(optimizer_changes)}; {REMEDY}"
        yield error("resume-differs", "optimizer", message)
    schedule_changes = [d for d in found if _under(d.key, SCHEDULE)]
    if schedule_changes:
        message = (
            f"the schedule has changed: {_describe(schedule_changes)}; the run continues with the new one: restore the "
            "old values if that is not intended"
        )
        yield warning("resume-differs", schedule_changes[0].key, message)
    reported = (*optimizer_changes, *schedule_changes)
    labels = ("data.keypoints.names", "data.classes")
    others = model_changes + [
        d for d in found if not _under(d.key, ("model", *labels)) and d not in reported
    ]
    if others:
        message = f"settings have changed: {_describe(others)}; the run continues with the new ones"
        yield warning("resume-differs", others[0].key, message)


def _check_labels(old: DictConfig, cfg: DictConfig) -> Iterator[Finding]:
    """Keypoints or classes of other names or in another order, so that rows in the checkpoint mean another thing."""
    before, now = label_names(old), label_names(cfg)
    for what in ("keypoints", "classes"):
        if before[what] and now[what] and before[what] != now[what]:
            same = set(before[what]) == set(now[what])
            new = "the same in another order" if same else join_names(now[what])
            message = (
                f"the run's checkpoints have the {what} {join_names(before[what])}, but the data have {new}: {REMEDY} "
                "with the run's weights as train.init_checkpoint"
            )
            yield error("resume-differs", f"data.{what}", message)


def _under(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _describe(found: Sequence[Difference]) -> str:
    lines = [" ".join(format_differences([d]).split()) for d in found[:MAX_SHOWN]]
    more = len(found) - len(lines)
    return ", ".join(lines) + (f", and {more} more" if more else "")


def _shapes(model: nn.Module | None) -> dict[str, tuple[int, ...]]:
    if model is None:
        return {}
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
