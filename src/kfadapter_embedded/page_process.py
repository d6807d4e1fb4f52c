"""The page of `kfadapter dev`: a child process that serves it on a socket which this process has bound.

So its address is known, and connections are queued, before the page is loaded; `dev` does not wait for it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec

from kfadapter_grpc.child_output import piped
from kfadapter_grpc.folders import page_note

HOST = "127.0.0.1"
PORT = 8080
"""The page's port unless another is named, or this one is in use."""
STOP_SECONDS = 3.0
_MODULE = "kfadapter_console"
_NEEDS = (_MODULE, "jinja2", "markdown_it")  # the rest is in the extra `embedded`, too


def is_installed() -> bool:
    return all(find_spec(name) for name in _NEEDS)


def listen(port: int | None) -> socket.socket:
    """Listens on a port, or raises OSError; without one on the usual one, or on a free one if that is in use."""
    with suppress(OSError):
        return socket.create_server((HOST, PORT if port is None else port))
    return socket.create_server((HOST, port or 0))


@contextmanager
def served(listener: socket.socket, target: str, max_upload_bytes: int) -> Iterator[None]:
    """Serves the page in front of the adapter at `target` while entered, and closes the listener.

    What the page reports goes to this process' own standard error.
    """
    with listener:
        number, port = listener.fileno(), listener.getsockname()[1]
        child = subprocess.Popen(  # noqa: S603  # this interpreter and this package
            [sys.executable, "-m", f"{_MODULE}.app", str(number), target, str(max_upload_bytes)],
            stdin=subprocess.PIPE,
            pass_fds=[number],
            start_new_session=True,  # Ctrl-C in a terminal goes to this process only
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
    with suppress(OSError, RuntimeError):  # without a home, `kfadapter runs open` needs --page
        note = page_note(target)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"http://{HOST}:{port}")
    try:
        yield
    finally:
        with suppress(OSError, RuntimeError):
            page_note(target).unlink(missing_ok=True)
        piped(child.stdin).close()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
