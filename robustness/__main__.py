"""The command: proves what was asked for, and says what was found. Run it as scripts/robustness."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from robustness.catalog import SCENARIOS
from robustness.guarded import FOLDER
from robustness.scenario import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robustness.scenario import Finding, Scenario

_INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Runs scenarios; tells the exit code, 1 if something does not hold."""
    options = _parser().parse_args(arguments)
    chosen = [SCENARIOS[name] for name in options.scenarios or SCENARIOS]
    try:
        failed = [one.name for one in chosen if not _holds(one, options)]
    except KeyboardInterrupt:
        return _INTERRUPTED
    _say("", "not covered:", *(f"  {one.name}: {one.not_covered}" for one in chosen))
    if failed:
        short = " --short" if options.short else ""
        _say("", f"FAILED: {', '.join(failed)}; again with the same numbers:")
        _say(f"  ./scripts/robustness{short} --seed {options.seed} {' '.join(failed)}")
    return 1 if failed else 0


def _holds(scenario: Scenario, options: argparse.Namespace) -> bool:
    _say("", f"== {scenario.name} (seed {options.seed})", scenario.proves)
    began, holds = time.monotonic(), True
    with tempfile.TemporaryDirectory(prefix="kfadapter-robustness-", dir=os.environ.get(FOLDER)) as folder:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/robustness", description="Prove what holds under load and faults.")
    parser.add_argument("scenarios", metavar="SCENARIO", nargs="*", choices=[*SCENARIOS, []], help=", ".join(SCENARIOS))
    parser.add_argument("--short", action="store_true", help="a little of each, as CI does")
    parser.add_argument("--renew", action="store_true", help="write the tables of docs/robustness.md anew")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of what is left to chance")
    return parser


def _say(*texts: str) -> None:
    sys.stdout.write("".join(f"{text}\n" for text in texts))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
