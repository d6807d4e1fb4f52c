"""The command: carries out scenarios, and prints what was found. Run it as scripts/robustness.

They run in a process of their own. What that has started goes on when it is killed; it is handed to this process then
(Linux' child subreaper), which waits for nothing and ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system import bad_input, cancels, disk, drain, faults, hostile, kills, lines, overload
from tests.system.scenario import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.system.scenario import Finding, Scenario

FOLDER = "ROBUSTNESS_FOLDER"
"""The variable that says where the files of scenarios go, which are removed with all else; set in their process."""
END_SECONDS = 15
"""How long the scenarios may take to end by themselves when they are told to."""
SCENARIOS = {
    one.name: one
    for one in (
        *overload.SCENARIOS, hostile.SCENARIO, drain.SCENARIO, lines.BROKEN_LINES, faults.SCENARIO, bad_input.SCENARIO,
        cancels.SCENARIO, kills.SCENARIO, disk.SCENARIO, lines.SOAK,
    )
}  # fmt: skip
"""The scenarios by name, in the order in which they are run."""
_SET_CHILD_SUBREAPER = 36  # prctl(2)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _ToldToEndError(Exception):
    """A signal came that asks for the end."""


def guard(arguments: Sequence[str]) -> int:
    """Runs the scenarios; returns their exit code, or 128 and more if a signal ended them."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no child subreaper")
    for number in _SIGNALS:
        signal.signal(number, _told_to_end)
    with tempfile.TemporaryDirectory(prefix="kfadapter-robustness-", ignore_cleanup_errors=True) as folder:
        try:
            return _run([sys.executable, "-m", "tests.system", *arguments], folder)
        finally:
            _end_all()


def _run(command: Sequence[str], folder: str) -> int:
    worker = subprocess.Popen(command, env={**os.environ, FOLDER: folder})
    try:
        code = worker.wait()
    except _ToldToEndError as told:
        with contextlib.suppress(_ToldToEndError, subprocess.TimeoutExpired):
            worker.send_signal(signal.SIGINT)
            worker.wait(END_SECONDS)
        code = -int(told.args[0])
    return code if code >= 0 else 128 - code


def _told_to_end(number: int, _: object) -> None:
    raise _ToldToEndError(number)


def _end_all() -> None:
    """Kills all children, those that come to us through that, too, until there are none."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(ChildProcessError):
        while True:
            for task in Path("/proc/self/task").glob("*/children"):
                for pid in task.read_text("ascii").split():
                    os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)


def main(arguments: Sequence[str], folder: str) -> int:
    """Carries out scenarios; returns the exit code, 1 if something does not hold."""
    parser = argparse.ArgumentParser(prog="scripts/robustness", description="Show what holds under load and faults.")
    parser.add_argument("scenarios", metavar="SCENARIO", nargs="*", choices=[*SCENARIOS, []], help=", ".join(SCENARIOS))
    parser.add_argument("--short", action="store_true", help="a little of each, as CI does")
    parser.add_argument("--renew", action="store_true", help="write the tables of docs/robustness.md anew")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of what is left to chance")
    options = parser.parse_args(arguments)
    chosen = [SCENARIOS[name] for name in options.scenarios or SCENARIOS]
    try:
        failed = [one.name for one in chosen if not _holds(one, options, folder)]
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    _say("", "not covered:", *(f"  {one.name}: {one.not_covered}" for one in chosen))
    if failed:
        short = " --short" if options.short else ""
        _say("", f"FAILED: {', '.join(failed)}; again with the same numbers:")
        _say(f"  ./scripts/robustness{short} --seed {options.seed} {' '.join(failed)}")
    return 1 if failed else 0


def _holds(scenario: Scenario, options: argparse.Namespace, parent: str) -> bool:
    _say("", f"== {scenario.name} (seed {options.seed})", scenario.proves)
    began, holds = time.monotonic(), True
    with tempfile.TemporaryDirectory(prefix="kfadapter-robustness-", dir=parent) as folder:
        stage = Stage(Path(folder), options.short, options.seed, options.renew)
        stage.home.mkdir()
        try:
            for finding in scenario.run(stage):
                holds &= finding.holds
                _say(_line(finding))
        except Exception as error:  # noqa: BLE001 - the others are to be run all the same
            holds = False
            _say(f"  FAILED: {type(error).__name__}: {error}")
    _say(f"  {time.monotonic() - began:.0f} s")
    return holds


def _line(finding: Finding) -> str:
    verdict = f"{finding.bound}: {'ok' if finding.holds else 'FAILED'}" if finding.bound else ""
    return f"  {finding.what:<58} {finding.found:>14}   {verdict}".rstrip()


def _say(*texts: str) -> None:
    sys.stdout.write("".join(f"{text}\n" for text in texts))
    sys.stdout.flush()


if __name__ == "__main__":
    folder = os.environ.get(FOLDER)
    sys.exit(main(sys.argv[1:], folder) if folder else guard(sys.argv[1:]))
