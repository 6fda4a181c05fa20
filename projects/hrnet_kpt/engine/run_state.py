"""The state of a training, written to a checkpoint and restored from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectron2.utils import comm

from ..errors import UserError
from ..io import replace_text
from ..weights.labels import LABELS, Labels, labels_of
from ..weights.run_checkpoints import (
    BEST,
    FINAL,
    LAST,
    checkpoint_name,
    link_checkpoint,
    number_last_checkpoint,
    read_checkpoint,
    save_checkpoint,
    save_result,
)

if TYPE_CHECKING:
    from .trainer import Trainer

logger = logging.getLogger(__name__)


class RunState:
    """Saves and restores the state with which a training continues as if it had never stopped.

    A checkpoint is a dict of `model` (the evaluated weights: the EMA, if there is one), `training_model` (the weights
    in training, if there is an EMA), `averaged` (the EMA's number of updates), `trainer` (iteration, optimizer,
    schedule, loss scaler, last metrics), `loaders` (the position of each process in the stream of images), `labels`
    (names of keypoints and classes), `seed` and `iteration`. Random states are not saved: each step draws its random
    numbers from the seed and the iteration.

    All processes must call `save`; the first one writes.
    """

    def __init__(
        self, folder: Path, trainer: Trainer, seed: int, max_to_keep: int, labels: Labels
    ) -> None:
        self.folder, self.trainer, self.seed = folder, trainer, seed
        self.max_to_keep, self.labels = max_to_keep, labels
        self.saved = -1  # the iteration of `path`
        self.path = Path()

    def save(self) -> Path:
        """Write a checkpoint of this iteration, unless it is written already; return its path."""
        trainer = self.trainer
        name = checkpoint_name(trainer.iter)
        if trainer.iter + 1 >= trainer.max_iter:
            name = FINAL
        if self.saved == trainer.iter:
            if self.path.name != name and comm.is_main_process():  # early stopping made it the last
                link_checkpoint(self.path, name)
                replace_text(self.folder / LAST, name)
        else:
            content = self.content()
            if comm.is_main_process():
                save_checkpoint(self.folder, name, content, self.max_to_keep)
        self.saved, self.path = trainer.iter, self.folder / name
        return self.path

    def content(self) -> dict[str, Any]:
        """The content of a checkpoint."""
        trainer = self.trainer
        loader = trainer.data_loader
        state = loader.state_dict() if hasattr(loader, "state_dict") else None
        content = {
            "model": trainer.module.state_dict(),
            "trainer": trainer.state_dict(),
            "loaders": comm.gather(state),
            LABELS: self.labels.to_dict(),
            "seed": self.seed,
            "iteration": trainer.iter,
        }
        if trainer.ema:
            content["training_model"] = content["model"]
            content["model"] = trainer.evaluated.state_dict()
            content["averaged"] = trainer.ema.updates
        return content

    def restore(self, path: Path, content: Mapping[str, Any]) -> None:
        """Restore the state in a checkpoint.

        Args:
            path: The checkpoint's file, for messages.
            content: What `content` returned for it.

        Raises:
            UserError: If the optimizer's parameter groups, the keypoints or the classes differ.
        """
        trainer, saved = self.trainer, labels_of(content)
        for what in ("keypoints", "classes"):
            names, now = list(getattr(saved, what, [])), list(getattr(self.labels, what))
            if names and now and names != now:
                raise UserError(
                    f"{path} has the {what} {', '.join(names)}, and the data now {', '.join(now)}: resume with the "
                    "data that the run had, or start another run from it by train.init_checkpoint"
                )
        # Strictly: `model` was built with the same weights, but not with the batch norms' counts.
        trainer.module.load_state_dict(content.get("training_model", content["model"]))
        if trainer.ema:
            trainer.evaluated.load_state_dict(content["model"])
            trainer.ema.updates = content.get("averaged", 0)
        # The config's optimizer options replace those in the checkpoint: a lower rate after a divergence, say.
        options = [
            {key: value for key, value in group.items() if key != "params"}
            for group in trainer.optimizer.param_groups
        ]
        try:
            trainer.load_state_dict(content["trainer"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} does not fit the optimizer ({error}): resume with the optimizer and the parameter groups that "
                "the run had, or start another run from it by train.init_checkpoint"
            ) from error
        for group, own in zip(trainer.optimizer.param_groups, options, strict=True):
            group.update(own, initial_lr=own["lr"])
        self._restore_loader(content.get("loaders"))
        self.saved, self.path = content["iteration"], path

    def finish_with_best(self) -> int | None:
        """Load the weights of model_best.pth into the evaluated model, and let model_final.pth be them.

        The last checkpoint keeps its state under its numbered name, from which the run can be continued.

        Returns:
            The iteration of model_best.pth; None if there is no such file, or it is the last checkpoint: then nothing
            was changed.
        """
        path = self.folder / BEST
        if not path.is_file():
            return None
        try:
            content = read_checkpoint(path, mmap=True)
        except UserError as error:
            logger.warning("%s: the run ends with its last weights", error)
            return None
        best = int(content["iteration"])
        if best == self.saved:
            return None
        self.trainer.evaluated.load_state_dict(content["model"])
        if comm.is_main_process():
            self.path = number_last_checkpoint(self.path, self.saved, self.max_to_keep)
            save_result(self.folder, content, self.saved)
        return best

    def _restore_loader(self, states: list[dict[str, Any] | None] | None) -> None:
        loader = self.trainer.data_loader
        if not hasattr(loader, "load_state_dict") or not states or None in states:
            logger.warning("The data loader has no saved position: it starts from its first image")
            return
        if len(states) == comm.get_world_size():
            loader.load_state_dict(states[comm.get_rank()])
            return
        # Another number of processes: continue after the images that all of them have seen.
        first = min(min([state["position"], *state["waiting"]]) for state in states if state)
        loader.load_state_dict({"position": first + comm.get_rank(), "waiting": []})
        logger.warning(
            "The run had %d processes, now %d: it continues at image %d of the stream, a few images are repeated",
            len(states),
            comm.get_world_size(),
            first,
        )
