"""The model of the page, which all users share, and examples from its test set."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from ...config import load_config
from ...data.images import image_paths
from ...errors import UserError
from ...io import read_json_file
from .. import Predictor
from ..predict.records import fingerprint, model_fingerprint
from ..predictor import files_of_run

logger = logging.getLogger(__name__)

TTA = "inference.tta"
MAX_EXAMPLES = 8


class SharedModel:
    """A run's predictor, with and without mirrored augmentation.

    Attributes:
        name: Of the run folder.
        predictors: By whether the mirrored image is used, too. Both share the weights; a model without
            test-time augmentation has no True.
        mirrored: The run's own choice.
        min_score: Objects with a lower score are not predicted.

    Args:
        run: A run folder.
        overrides: Of its config.

    Raises:
        UserError: If the run folder is not complete, or an override is wrong.
    """

    def __init__(self, run: str | Path, overrides: Sequence[str] = ()) -> None:
        config, self.weights = files_of_run(run)
        self.name = Path(run).resolve().name
        self.cfg = load_config(config, list(overrides))
        self.mirrored = bool(OmegaConf.select(self.cfg, f"{TTA}.enabled"))
        plain = Predictor(self._config(False), self.weights)
        self.predictors = {False: plain}
        if OmegaConf.select(self.cfg, TTA) is not None:
            mirrored = copy.copy(plain)
            try:
                tta = instantiate(self._config(True).inference.tta)
                mirrored.model = tta.augmented(plain.model).eval()
                self.predictors[True] = mirrored
            except UserError as error:  # the model cannot be augmented
                logger.warning("no mirrored augmentation: %s", error)
        self.schema, self.classes = plain.schema, plain.classes
        self.device = next(plain.model.parameters()).device
        stages: Any = plain.model.roi_heads.box_predictor
        stages = stages if isinstance(stages, torch.nn.ModuleList) else [stages]  # of a cascade
        self.min_score = float(max(stage.test_score_thresh for stage in stages))
        self._fingerprints = {
            side: model_fingerprint(self._config(side), self.weights) for side in self.predictors
        }

    def fingerprint(self, mirrored: bool, score: float, track: bool, smooth: bool) -> str:
        """The fingerprint in the json of tools/predict.py with these settings."""
        model = self._fingerprints[mirrored]
        if track:
            model = fingerprint(model, "track", smooth)
        return fingerprint(model, score)

    def describe(self) -> str:
        """The classes and the number of keypoints, such as "person (17 keypoints)"."""
        counts = {name: len(keypoints) for name, keypoints in self.classes.items()}
        names = [f"{name} ({count} keypoints)" if count else name for name, count in counts.items()]
        more = f" and {len(names) - 5} more classes" if len(names) > 6 else ""
        return ", ".join(names[:5] if more else names) + more

    def _config(self, mirrored: bool) -> DictConfig:
        cfg = self.cfg.copy()
        if OmegaConf.select(cfg, TTA) is not None:
            cfg.inference.tta.enabled = mirrored
        return cfg


def find_examples(cfg: DictConfig, max_examples: int = MAX_EXAMPLES) -> list[Path]:
    """Images of the config's test set, evenly spaced in its list; none if the set is not there."""
    annotations, folder = (
        OmegaConf.select(cfg, f"data.test.{key}") for key in ("annotations", "images")
    )
    if not annotations or not folder or not os.path.isfile(annotations):
        return []
    try:
        entries = read_json_file(annotations)["images"]
        paths = [path for path in image_paths(entries, folder) if path and os.path.isfile(path)]
    except (UserError, KeyError, TypeError, AttributeError) as error:
        logger.warning("no examples: %s is not a list of images (%s)", annotations, error)
        return []
    step = max(1, len(paths) // max_examples)
    return [Path(path) for path in paths[::step][:max_examples]]
