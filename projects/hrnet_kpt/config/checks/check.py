"""Runs all checks of a config."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ...errors import UserError
from ..findings import Finding, error, warning
from ..resolve import resolve_labels
from ..save import refuse_unsavable
from ..structure import check_structure
from .build import build_on_meta, compute_features, describe
from .data import check_data_settings
from .features import check_declared, check_proposals, check_usage
from .heads import check_heads
from .resume import check_resume
from .run import (
    check_fit,
    check_inference,
    check_norms,
    check_run,
    check_weights_present,
    resumable,
)
from .schedule import check_schedule, check_switches
from .values import check_values


def check_config(
    cfg: DictConfig,
    *,
    training: bool = True,
    resume: bool = False,
    processes: int = 1,
    resolve: bool = False,
) -> list[Finding]:
    """Check a config before any image is read.

    The model is built on the meta device, where tensors have shapes but no values, and runs on an image there. The
    channels, strides and counts that it computes are compared with those that the config declares for every part.

    Args:
        training: Whether the run trains; otherwise it evaluates.
        resume: Whether the run resumes from its own output folder, if that has a checkpoint.
        processes: The number of processes that train together.
        resolve: Whether to replace `auto` in data.keypoints and data.classes, in place, before the checks.

    Returns:
        The findings, errors first.

    Raises:
        UserError: If, with `resolve`, the annotations cannot be read, or contradict data.keypoints or data.classes.
    """
    findings = check_structure(cfg) or check_values(cfg, training)
    if any(f.level == "error" and f.name != "value-unread" for f in findings):
        return findings  # nothing more can be built
    if resolve:
        resolve_labels(cfg)
    resumes = resume and resumable(cfg)
    if training:
        findings += _check_saving(cfg)
    findings += check_data_settings(cfg)
    findings += check_weights_present(cfg, resumes)
    if training:
        findings += [*check_run(cfg, resume, processes), *check_switches(cfg, processes)]
    model, problems = build_on_meta(cfg)
    if training:
        findings += check_schedule(cfg, model)
    findings += [*problems, *check_inference(cfg, model)]
    if training and resumes:
        findings += check_resume(cfg, model)
    if model is not None:
        findings += _check_wiring(cfg, model)
        if not resumes:
            findings += check_fit(cfg, model, training)
        if training:
            findings += check_norms(cfg, model, resumes, processes)
    return sorted(findings, key=lambda finding: finding.level != "error")


def resolve_and_check(cfg: DictConfig, **options: Any) -> tuple[DictConfig, list[Finding]]:
    """Copy a config and check the copy with `check_config`.

    Args:
        options: Further arguments of `check_config`.

    Returns:
        A writable copy of the config, with `auto` in data.keypoints and data.classes replaced, and the findings.
    """
    cfg = copy.deepcopy(cfg)
    OmegaConf.set_readonly(cfg, False)
    OmegaConf.set_struct(cfg, False)
    return cfg, check_config(cfg, resolve=True, **options)


def _check_saving(cfg: DictConfig) -> list[Finding]:
    try:
        refuse_unsavable(cfg)
    except UserError as reason:
        key = str(reason).removeprefix("config ").partition("=")[0].split(" ")[0]
        return [error("config-unsavable", key, str(reason))]
    return []


def _check_emptiness(model: torch.nn.Module) -> Iterator[Finding]:
    empty = [name for name, parameter in model.named_parameters() if not parameter.numel()]
    if empty:
        key = f"model.{empty[0].rpartition('.')[0]}"
        message = f"{key} has no weights, because a size or number of channels is 0: increase it"
        yield error("model-wrong", key, message)


@torch.no_grad()
def _check_wiring(cfg: DictConfig, model: torch.nn.Module) -> list[Finding]:
    try:
        features = compute_features(model)
    except Exception as reason:
        key, message = "model.backbone", f"model.backbone fails on an image: {describe(reason)}"
        if "meta" in str(reason):  # it reads values, which the meta device does not have
            return [warning("wiring-unchecked", key, f"{message}; its wiring was not checked")]
        return [error("forward-fails", key, message)]
    return [
        *_check_emptiness(model),
        *check_declared(model, features),
        *check_proposals(cfg, model, features),
        *check_heads(cfg, model, features),
        *check_usage(model, features),
    ]
