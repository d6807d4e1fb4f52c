"""The command: runs scenarios and prints their findings. Run it as scripts/robustness.

Scenarios run in a child process. Processes that it leaves behind when it is killed become children of this process
(Linux' child subreaper), which kills them.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import math
import os
import secrets
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system import bad_input, connections, disk, faults, histories, lines, overload, restarts
from tests.system.scenario import Stage

if TYPE_CHECKING:
    from tests.system.scenario import Finding, Scenario

END_SECONDS = 15
"""How long the scenarios may take to end by themselves once they are interrupted."""
SCENARIOS = {
    one.name: one
    for one in (
        overload.overload, overload.stream_overload, overload.fairness, overload.hostile_callers,
        connections.connections, restarts.drain, lines.broken_lines, faults.faults, bad_input.bad_input,
        bad_input.cancels, restarts.kills, restarts.replicas, histories.histories, disk.disk, lines.soak,
    )
}  # fmt: skip
"""The scenarios by name, in the order in which they are run."""
_SET_CHILD_SUBREAPER = 36  # prctl(2)
_NOW = os.WEXITED | os.WNOHANG
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


def guard(options: argparse.Namespace) -> int:
    """Runs the scenarios; returns their exit code, or 128 plus the number of the signal that ended them."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no child subreaper")
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    with tempfile.TemporaryDirectory(prefix="kfadapter-robustness-", ignore_cleanup_errors=True) as folder:
        worker = os.fork()
        if worker == 0:
            _work(options, folder)
        try:
            return _exit_code(worker)
        finally:
            _kill_all()


def _work(options: argparse.Namespace, folder: str) -> None:
    """Runs the scenarios in the child, and never returns: cleanup is the guard's."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with SIGINT ignored
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    code = 1
    try:
        code = _run(options, folder)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except Exception:  # noqa: BLE001 - it is printed
        traceback.print_exc()
    finally:
        os._exit(code)


def _exit_code(worker: int) -> int:
    """Waits for the end of the child; interrupts it when this process gets a signal."""
    code, deadline = 0, math.inf
    while os.waitid(os.P_PID, worker, _NOW | os.WNOWAIT) is None and time.monotonic() < deadline:
        caught = signal.sigtimedwait(_SIGNALS, 1)
        if caught is not None and caught.si_signo != signal.SIGCHLD:
            code, deadline = 128 + caught.si_signo, min(deadline, time.monotonic() + END_SECONDS)
            os.kill(worker, signal.SIGINT)
    if code:
        return code
    ended = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    return ended if ended >= 0 else 128 - ended


def _kill_all() -> None:
    """Kills all children, including those that become ours through that, until none is left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for task in Path("/proc/self/task").glob("*/children"):
                for pid in task.read_text("ascii").split():
                    os.kill(int(pid), signal.SIGKILL)
            os.waitpid(-1, 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/robustness", description="Show what holds under load and faults.")
    parser.add_argument("scenarios", metavar="SCENARIO", nargs="*", choices=[*SCENARIOS, []], help=", ".join(SCENARIOS))
    parser.add_argument("--short", action="store_true", help="a little of each, as CI does")
    parser.add_argument("--renew", action="store_true", help="write the tables of docs/robustness.md anew")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of what is left to chance")
    return parser.parse_args()


def _run(options: argparse.Namespace, folder: str) -> int:
    """Runs scenarios; returns the exit code, 1 if a finding does not hold."""
    chosen = [SCENARIOS[name] for name in options.scenarios or SCENARIOS]
    failed = [one.name for one in chosen if not _holds(one, options, folder)]
    _say("", "not covered:", *(f"  {one.name}: {one.not_covered}" for one in chosen))
    if failed:
        short = " --short" if options.short else ""
        _say("", f"FAILED: {', '.join(failed)}; again with the same numbers:")
        _say(f"  ./scripts/robustness{short} --seed {options.seed} {' '.join(failed)}")
    return 1 if failed else 0


def _holds(scenario: Scenario, options: argparse.Namespace, parent: str) -> bool:
    _say("", f"== {scenario.name} (seed {options.seed})", scenario.proves)
    began, holds = time.monotonic(), True
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        stage = Stage(Path(folder), options.short, options.seed, options.renew)
        try:
            with stage.stack:
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
    sys.exit(guard(_options()))
