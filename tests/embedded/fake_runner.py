"""A runner that prints the real one's lines and runs nothing: the parameters of the run are its script."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Plays what the parameter `play` lists, step by step; each step is a name and a value."""
    order = json.loads(sys.stdin.buffer.readline())
    for step, value in order["parameters"]["play"]:
        if step == "say strictness":
            _say({"name": f"strict {order['strict']}", "state": "SUCCEEDED"})
        else:
            _STEPS[step](value)


def _say(message: object) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201  # this is the channel


def _wait_for_file(path: str) -> None:
    pause = threading.Event()
    while not Path(path).exists():
        pause.wait(0.01)


def _say_at_sigterm(message: object) -> None:
    def end(_number: int, _frame: object) -> None:
        _say(message)
        sys.exit()

    signal.signal(signal.SIGTERM, end)


_STEPS: dict[str, Callable[[Any], object]] = {
    "say": _say,
    "raw": lambda text: print(text, flush=True),  # noqa: T201
    "complain": lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201
    "touch": lambda path: Path(path).touch(),
    "wait for": _wait_for_file,
    "at SIGTERM say": _say_at_sigterm,
    "ignore SIGTERM": lambda _: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "forever": lambda _: signal.pause(),
    "exit": sys.exit,
    "die": lambda number: os.kill(os.getpid(), number),
    "large line": lambda size: print(json.dumps({"name": "x" * size}), flush=True),  # noqa: T201
}

if __name__ == "__main__":
    main()
