"""The argument parser and the exit statuses that all commands share."""

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

# torch's warnings about detectron2's code, in every run: users cannot change it.
for message in ("`torch.jit", "`broadcast_buffers` is deprecated"):
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)
for message in ("Creating a tensor from a list of numpy.ndarrays", "torch.meshgrid"):
    warnings.filterwarnings("ignore", message=message, category=UserWarning)
# An overflow in float16 skips the first step of most runs.
warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler", category=UserWarning)
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

SKIPPED_SOME = 3  # the exit status if some inputs were skipped
# The extra of setup.cfg that brings a package.
EXTRAS = {"onnx": "export", "onnxruntime": "export", "onnxscript": "export", "openvino": "openvino",
          "av": "video", "trackers": "track", "h5py": "formats", "sleap_io": "formats"}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps the lines of the epilog, expands `~` in paths, and prints errors in one line."""

    def __init__(self, description: str | None, epilog: str, prog: str | None = None) -> None:
        texts = {"prog": prog, "description": description, "epilog": epilog}
        super().__init__(**texts, formatter_class=argparse.RawDescriptionHelpFormatter)  # type: ignore[arg-type]
        self.add_argument("--debug", action="store_true", help="show the traceback of input errors")

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
        self.exit(2, f"error: {message}; see --help\n")


def expand_home(word: str) -> str:
    """Expand `~/` in an argument that the shell did not: --output=~/run, '~/run', @~/list.

    `~key` is not changed: it deletes a key of the config.
    """
    head, path = re.fullmatch(r"(--[\w-]+=@?|@?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    return (
        head + os.path.expanduser(path) if path.startswith(("~/", "~\\")) or path == "~" else word
    )


def run_command(
    parser: Parser, argv: Sequence[str] | None, work: Callable[[argparse.Namespace], int | None]
) -> int:
    """Parse `argv`, by default `sys.argv[1:]`, call `work` with the arguments, and return the exit status."""
    args = parser.parse_intermixed_args(argv)
    return run_tool(lambda: work(args), args.debug)


def run_tool(work: Callable[[], int | None], debug: bool = False) -> int:
    """Call `work` and return the exit status.

    Args:
        work: Returns a status, or None for 0.
        debug: Raise errors instead of printing them.

    Returns:
        The status of `work`; 1 if the training diverged, 2 after a UserError or without a package; 130 or 143 after a
        signal. A UserError is printed on stderr as `error: ...`, its further lines as `also: ...`. Other exceptions
        are raised.
    """
    try:
        from .. import installed_detectron2  # noqa: F401

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
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if debug or package not in ("detectron2", *EXTRAS):
            raise
        if package in EXTRAS:
            remedy = f'pip install "hrnet_kpt[{EXTRAS[package]}]"'
            print(f"error: this needs {package}, which is not installed: {remedy}", file=sys.stderr)
        else:
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted", file=sys.stderr)
        return 128 + getattr(stopped, "signum", 2)
