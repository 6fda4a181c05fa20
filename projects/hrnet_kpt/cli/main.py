"""The console command `hrnet-kpt`, with all commands of this package."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from types import ModuleType

from .. import __version__

NAMES = (
    "train", "evaluate", "predict", "app", "inspect", "check-data", "export", "convert-weights", "from-yacs",
    "import-data", "new-config", "visualize-data", "analyze-errors", "benchmark", "replay",
)  # fmt: skip
COMMANDS = {name: import_module(f"{__package__}.{name.replace('-', '_')}") for name in NAMES}


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv[0]` names, and return its exit status."""
    name, *words = (sys.argv[1:] if argv is None else argv) or [""]
    if name in COMMANDS:
        return int(COMMANDS[name].main(words, f"hrnet-kpt {name}"))
    if name in ("-h", "--help"):
        print(help_text())
        return 0
    if name == "--version":
        print(f"hrnet-kpt {__version__}")
        return 0
    print(unknown(name) if name else help_text(), file=sys.stderr)
    return 2


def help_text() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: hrnet-kpt COMMAND ...",
            "",
            "HRNet Keypoint R-CNN for detectron2, configured in Python.",
            "",
            *(f"  {name:{width}}  {summary(module)}" for name, module in COMMANDS.items()),
            "",
            "hrnet-kpt COMMAND --help shows the options of a command, hrnet-kpt --version the version.",
        ]
    )


def summary(module: ModuleType) -> str:
    return str(module.__doc__).rstrip(".").partition(":")[0]


def unknown(name: str) -> str:
    is_option = name.startswith("-")
    close = difflib.get_close_matches(name, ["--help", "--version"] if is_option else COMMANDS, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"the commands are {', '.join(COMMANDS)}"
    kind = "option" if is_option else "command"
    return f"error: unknown {kind} {name}: {remedy}; see hrnet-kpt --help"


if __name__ == "__main__":
    sys.exit(main())
