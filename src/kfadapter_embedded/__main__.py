"""`python -m kfadapter_embedded`: starts the embedded KFP."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from .execution import Steps
from .server import AddressError, FolderError, Limits, bind, locked, serve
from .store import StoreError


def main() -> int:
    """Runs the embedded KFP until a signal ends it; returns the exit code."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        with locked(arguments.data), bind(arguments.host, arguments.port) as listener:
            limits = Limits(
                arguments.runs_at_once,
                arguments.run_files_gib << 30,
                strict=arguments.strict,
                steps=Steps(arguments.steps),
            )
            serve(listener, arguments.data, exit_with_parent=arguments.exit_with_parent, limits=limits)
    except (AddressError, FolderError, StoreError) as error:
        sys.stderr.write(f"kfadapter embedded KFP: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kfadapter_embedded",
        description="A Kubeflow Pipelines API server for one machine: it keeps pipelines, and runs them.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data folder")
    parser.add_argument("--port", type=int, default=8888, metavar="N", help="0 for any free one; 8888 by default")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address; 127.0.0.1 by default")
    usual = Limits()
    help_text = f"how many runs are executed at a time; {usual.runs_at_once} by default"
    parser.add_argument("--runs-at-once", type=_count, default=usual.runs_at_once, metavar="N", help=help_text)
    help_text = f"how much the files of runs may take before new runs are refused; {usual.file_bytes >> 30} by default"
    parser.add_argument("--run-files-gib", type=_count, default=usual.file_bytes >> 30, metavar="N", help=help_text)
    help_text = "run all steps as processes or in containers, or Python components as processes only (auto, by default)"
    parser.add_argument("--steps", choices=[one.value for one in Steps], default=usual.steps.value, help=help_text)
    parser.add_argument("--strict", action="store_true", help="fail a task where it would be warned of")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin is closed")
    return parser


def _count(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return count


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread still reading a large upload would keep the interpreter alive for seconds, and there is nothing to lose:
    # acknowledged data is on disk, the rest is rolled back.
    os._exit(code)
