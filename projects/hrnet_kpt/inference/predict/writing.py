"""What was found, into files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...visualization.video import VideoWriter
from .coco import CocoIds, check_finished, read_back, write_results
from .images import Pictures, writing
from .progress import Progress
from .records import Records, fingerprint
from .stream import Entry, Sample


class JsonFile:
    """The file of --json, with its records: the file itself or, of a .json, a file beside it until it is complete.

    ids: what a .json's numbers stand for; None for a .jsonl. settings: what decides on its content.

    Raises UserError where a file is there that must not be gone on with.
    """

    def __init__(self, path: Path, ids: CocoIds | None, restart: bool, *settings: object) -> None:
        self.path, self.ids = path, ids
        if ids is None:
            self.records = Records(path, fingerprint(*settings), restart)
            return
        mark = fingerprint(
            *settings, dict(ids.categories), {k: [*v] for k, v in ids.keypoints.items()}
        )
        beside = path.with_name(f"{path.name}.unfinished")
        finished, unfinished = path.exists(), beside.exists()
        if finished:
            check_finished(path, "" if restart or unfinished else mark)
        self.records = Records(beside, mark, restart)
        if finished and not unfinished and not restart:
            read_back(path, ids, self.records)
            self.records.close()
            self.records = Records(beside, mark)

    def finish(self) -> None:
        """Make the .json of its records."""
        self.close()
        if self.ids is not None:
            write_results(self.records.path, self.ids, self.path)
            self.records.path.unlink()

    def close(self) -> None:
        self.records.close()


def write_entries(
    entries: Iterable[Entry],
    pictures: Pictures | None,
    records: Records | None,
    threshold: float,
    progress: Progress,
) -> list[str]:
    """Draw and record what was found, as it comes; return a message for each input that was skipped, or a part of it.

    threshold: the least score of what goes into the records.
    """
    problems = []
    video: VideoWriter | None = None
    try:
        for entry in entries:
            problem = entry.problem
            if not isinstance(entry, Sample):
                if video is not None:
                    with writing(video.path):
                        video.close()
                    video = None
            elif entry.objects is not None:
                entry.objects = [each for each in entry.objects if each["score"] >= threshold]
                if records is not None and not entry.stored:
                    records.append(entry.record())
                if pictures is not None and entry.task.draw and entry.frame is None:
                    pictures.save(entry.task.item, entry.image, entry.objects)
                elif pictures is not None and entry.task.draw:
                    assert entry.frame is not None and entry.info is not None
                    drawn = pictures.draw(entry.image, entry.objects)
                    video = video or pictures.open_video(entry.task.item, drawn, entry.info)
                    with writing(video.path):
                        video.write(drawn, entry.frame.time, entry.frame.duration)
            if problem:
                problems.append(problem)
                progress.say(f"skipped: {problem}")
            if isinstance(entry, Sample) or problem:
                progress.advance()
    finally:
        if video is not None:
            video.discard()
    return problems
