"""tools/app.py: checks of its options, and the server of the page."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from ...errors import Stopped, UserError
from .model import SharedModel

MAX_FILE_SIZE = "300mb"
SESSIONS = 64  # whose uploads are remembered
LOCAL = ("127.0.0.1", "localhost", "::1")
# Nothing is sent anywhere, and files are in a folder of the page's own.
NO_TELEMETRY = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
FOLDER = "GRADIO_TEMP_DIR"


def serve(options: Namespace) -> None:
    """Show the page until a signal ends it.

    Raises:
        UserError: If gradio is missing, the run cannot be used, or the address or the port is not free.
        Stopped: After a signal.
    """
    if find_spec("gradio") is None:
        raise UserError('the page needs gradio: pip install "hrnet_kpt[app]"')
    _refuse_address(options.host, options.port)
    with _ended_by_signals():
        model = SharedModel(options.run, options.overrides)
        with running_page(model, options.host, options.port) as url:
            print(f"The page is at {url} until Ctrl-C.", flush=True)
            if options.host not in LOCAL:
                print(
                    f"warning: --host {options.host}: everybody who reaches this machine can use the page",
                    file=sys.stderr,
                )
            threading.Event().wait()


@contextmanager
def running_page(
    model: SharedModel, host: str = LOCAL[0], port: int | None = None
) -> Iterator[str]:
    """The URL of a page that is served in a thread while the block runs; its files are deleted at the end.

    Args:
        model: The model.
        host: Address to listen on.
        port: By default, the first free one from 7860 on.

    Raises:
        UserError: If no port is free.
    """
    with (
        tempfile.TemporaryDirectory(prefix="hrnet_kpt_page_", ignore_cleanup_errors=True) as folder,
        _environment({**NO_TELEMETRY, FOLDER: folder}),
    ):
        from .layout import CSS, theme
        from .page import build_page

        page = build_page(model, folder)
        options: dict[str, Any] = {"prevent_thread_lock": True, "quiet": True, "share": False}
        try:
            _, url, _ = page.launch(
                **options,
                server_name=host,
                server_port=port,
                css=CSS,
                theme=theme(),
                max_file_size=MAX_FILE_SIZE,
                state_session_capacity=SESSIONS,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
            )
        except OSError as error:
            raise UserError(f"--host {host}: no port is free, give one by --port") from error
        try:
            yield url
        finally:
            page.close(verbose=False)


def _refuse_address(host: str, port: int | None) -> None:
    """Raise UserError if a server cannot listen there."""
    where = f"--host {host}" + (f" --port {port}" if port else "")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port is not None and not 1 <= port <= 65535:
        raise UserError(f"--port {port}: give a number from 1 to 65535")
    try:
        socket.create_server((host, port or 0), family=family).close()
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while")[0]
        raise UserError(
            f"{where}: the page cannot listen there ({reason}), give another one"
        ) from error


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise Stopped on SIGINT (Ctrl-C) and SIGTERM, so that the files of the page are deleted."""

    def stop(signum: int, frame: Any) -> None:
        raise Stopped(signum, "stopped; the files of the page are deleted")

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
