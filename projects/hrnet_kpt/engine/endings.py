"""How processes ended, and which of them tells why all did."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc import locate
from typing import Any

from ..errors import Stopped, UserError, one_line
from ..io import replace_text
from .process_group import lost_connection

# The parent sees a process killed at once, the others notice it later: by this much, seconds, it may be late.
LATE = 0.5
# Their messages are for the user, and all that they are made from.
TOLD = (UserError, FloatingPointError)


@dataclass(frozen=True)
class Ending:
    """How a process failed.

    place: "process 1 of 2".
    kind: "told" for an exception with a message for the user, of the class `exception`; "stopped" and "interrupted" for
        signals; "lost" for a connection to another process that broke; "error" for any other exception; "killed" where
        it could not say anything.
    moment: of the machine's monotonic clock, seconds.
    """

    place: str
    exitcode: int
    kind: str = "killed"
    moment: float = 0.0
    message: str = ""
    traceback: str = ""
    signum: int = 0
    exception: str = ""


def write_ending(path: Path, error: BaseException) -> None:
    """Leave a file that says what this process ends by."""
    signum = getattr(error, "signum", 0)
    if isinstance(error, TOLD):
        kind, message = "told", str(error)
    elif isinstance(error, KeyboardInterrupt):
        kind, message = "stopped" if signum else "interrupted", str(error)
    else:
        kind, message = "lost" if lost_connection(error) else "error", one_line(error)
    content = {
        "kind": kind,
        "moment": time.monotonic(),
        "message": message,
        "traceback": "".join(traceback.format_exception(error)),
        "signum": signum,
        "exception": f"{type(error).__module__}.{type(error).__qualname__}",
    }
    replace_text(path, json.dumps(content))


def read_ending(path: Path, place: str, exitcode: int) -> Ending:
    """How a process ended, just now, of which `path` may say more."""
    if path.exists():
        return Ending(place, exitcode, **json.loads(path.read_text()))
    return Ending(place, exitcode, moment=time.monotonic() - LATE)


def raise_first(endings: Sequence[Ending], signum: int = 0) -> None:
    """Raise what ended the run first: an error, else a stop, else the loss of a process of another machine.

    signum: the signal that the whole command has got, 0 if none.

    Raises UserError or FloatingPointError (or a subclass), as the process did, Stopped, or SystemExit with the text to
    print and status 1.
    """
    by_time = sorted(endings, key=lambda ending: ending.moment)
    own = [ending for ending in by_time if ending.kind in ("told", "error", "killed")]
    stopped = [
        ending for kind in ("stopped", "interrupted") for ending in by_time if ending.kind == kind
    ]
    if own:
        first = own[0]
        if first.kind == "told":
            exception: Any = locate(first.exception)
            raise exception(first.message) from RuntimeError(f"{first.place}:\n{first.traceback}")
        if first.kind == "error":
            raise SystemExit(f"{first.place}:\n{first.traceback.rstrip()}")
        raise SystemExit(killed_line(first))
    if stopped:
        raise Stopped(signum or stopped[0].signum or signal.SIGINT, stopped[0].message)
    if signum:
        raise Stopped(signum, "interrupted")
    if by_time:
        raise SystemExit(
            f"{by_time[0].place} lost the connection to another, whose messages say why: {by_time[0].message}"
        )


def killed_line(ending: Ending) -> str:
    """What to say of a process that ended without a word."""
    if ending.exitcode > 0:
        return f"{ending.place} ended with status {ending.exitcode} and said nothing"
    try:
        name = signal.Signals(-ending.exitcode).name
    except ValueError:
        name = "unknown"
    guess = "maybe out of memory; " if name == "SIGKILL" else ""
    return f"{ending.place} was killed (signal {-ending.exitcode}, {name}): {guess}--resume goes on"
