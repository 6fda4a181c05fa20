"""Says how to install detectron2 if it is missing. Folders that need it import this module first.

It is not a requirement of the wheel, as no package index has it under its own name. The package named here holds
detectron2 at commit a59f0563, and is tagged for Python 3.10 alone. Its Python code runs on later versions, and its
compiled part, which they cannot load, is not needed.
"""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
from importlib.util import find_spec
from subprocess import list2cmdline

PACKAGE = "sal-detectron2==0.7.2"


def install_command() -> str:
    """The command that installs detectron2 into this environment, without a compiler."""
    words = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:"]
    words += ["--python-version", "3.10", "--target", sysconfig.get_path("purelib"), PACKAGE]
    return list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


def leave_out_broken_opencv() -> None:
    """Let detectron2 do without OpenCV if that is installed and cannot be loaded, as in containers without X11.

    Here only tracking needs it. detectron2 would end with the ImportError.
    """
    try:
        import cv2  # noqa: F401
    except ModuleNotFoundError:
        pass
    except ImportError:
        os.environ["DETECTRON2_DISABLE_CV2"] = "1"


if find_spec("detectron2") is None:
    raise ModuleNotFoundError(
        f"hrnet_kpt needs detectron2, which is not installed in this environment: run {install_command()}",
        name="detectron2",
    )
leave_out_broken_opencv()
