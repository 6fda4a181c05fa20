"""What every command line has in common: exit statuses, and errors in one line."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from ..errors import Diverged, UserError

# What torch says of detectron2's code in every run; a user can do nothing about it.
for message in ("`torch.jit", "`broadcast_buffers` is deprecated"):
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)
for message in ("Creating a tensor from a list of numpy.ndarrays", "torch.meshgrid"):
    warnings.filterwarnings("ignore", message=message, category=UserWarning)
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)


SKIPPED_SOME = 3


class Parser(argparse.ArgumentParser):
    """A command's parser: the epilog keeps its lines, `~` in paths is the home folder, an error is one line.

    Args:
        prog: what the command is called by; `%(prog)s` in the epilog. None: by its file's name.
    """

    def __init__(self, description: str | None, epilog: str, prog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument(
            "--debug", action="store_true", help="show the traceback of an error in the input"
        )

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def, override]
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([expand_home(word) for word in words], namespace)

    def error(self, message: str) -> NoReturn:
        message = " ".join(message.split())
        flag = next((word for word in message.split() if word.startswith("--")), "").rstrip(":")
        name, equals, _ = flag.partition("=")
        known = list(self._option_string_actions)
        if "." in name and equals:
            message += f": an override has no dashes, write {flag.lstrip('-')}"
        elif flag and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            message += f": did you mean {close[0]}?" if close else ""
        self.exit(2, f"error: {message}; --help tells what there is\n")


def expand_home(word: str) -> str:
    """A word of a command line with `~/` as the home folder where a shell leaves it: --output=~/run, '~/run', @~/list.

    `~key` stays, which deletes a key of the config.
    """
    head, path = re.fullmatch(r"(--[\w-]+=@?|@?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    return head + os.path.expanduser(path) if path.startswith("~/") or path == "~" else word


def run_command(
    parser: Parser, argv: Sequence[str] | None, work: Callable[[argparse.Namespace], int | None]
) -> int:
    """Parse `argv`, the process's own if None, do the work with what it says, and return the exit status."""
    args = parser.parse_intermixed_args(argv)
    return run_tool(lambda: work(args), args.debug)


def run_tool(work: Callable[[], int | None], debug: bool = False) -> int:
    """Run `work` and return the exit status: 0 done, 1 the training diverged, 2 the user's input is wrong, 130 or 143
    stopped by a signal.

    `work` may return another one: SKIPPED_SOME where it finished, but left out some of its inputs.
    A UserError becomes `error: ...` on standard error, its further lines `also: ...`; with `debug` it is raised.
    Anything else passes through, with its traceback.
    """
    try:
        return work() or 0
    except UserError as error:
        if debug:
            raise
        first, *others = str(error).splitlines()
        print(f"error: {first}", *(f"  also: {line}" for line in others), sep="\n", file=sys.stderr)
        return 2
    except Diverged as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted", file=sys.stderr)
        return 128 + getattr(stopped, "signum", 2)
