"""Images that a run went on without."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from detectron2.utils import comm
from omegaconf import DictConfig

from ..io import replace_text

logger = logging.getLogger(__name__)


def skipped_file(cfg: DictConfig) -> Path:
    """Where the run folder lists the images that were skipped, a line each; no such file if there are none."""
    return Path(cfg.train.output_dir) / "skipped_images.txt"


def report_skipped(cfg: DictConfig, loader: Any) -> None:
    """Log how many images `loader` skipped in all processes, and add them to the run folder's list."""
    # A loader of the user's own need not know.
    bad = getattr(loader, "bad_images", None)
    gathered = comm.gather(list(bad.messages) if bad else [])
    messages = sorted({message for part in gathered for message in part})
    if not messages:
        return
    path = skipped_file(cfg)
    known = path.read_text().splitlines() if path.exists() else []
    replace_text(path, "".join(f"{line}\n" for line in dict.fromkeys([*known, *messages])))
    logger.warning("%d images cannot be used and were skipped: %s", len(messages), path)
