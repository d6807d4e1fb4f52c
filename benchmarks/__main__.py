"""The command: runs benchmarks and prints the results. Run it as scripts/benchmark."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.catalog import BENCHMARKS
from benchmarks.machine import facts
from benchmarks.report import write_document
from benchmarks.results import Results
from benchmarks.stage import FULL, QUICK, Stage
from benchmarks.table import lines

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Runs the requested benchmarks; returns the exit code, 1 if a benchmark failed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.quick and options.markdown:
        parser.error("--markdown keeps the figures of a whole run; --quick measures smaller loads")
    if options.from_json is not None:
        write_document(Results.read(options.from_json))
        return 0
    try:
        results = _run(options)
    except KeyboardInterrupt:
        return _INTERRUPTED
    if options.json is not None:
        results.write(options.json)
    if options.markdown:
        write_document(results)
    return 1 if results.failures else 0


def _run(options: argparse.Namespace) -> Results:
    started = time.monotonic()
    results = Results({**facts(), "KFP": options.kfp_url or "embedded", "Command": _command(options)})
    _say(*(f"{key}: {value}" for key, value in results.facts.items()))
    with Stage(options.kfp_url, QUICK if options.quick else FULL, keep=options.keep) as stage:
        for name in options.only or BENCHMARKS:
            _run_one(name, stage, results)
    _say("", f"{time.monotonic() - started:.0f} s")
    return results


def _command(options: argparse.Namespace) -> str:
    """The command that reproduces the figures."""
    words = ["./scripts/benchmark"]
    words += ["--kfp-url", options.kfp_url] if options.kfp_url else []
    words += ["--only", *options.only] if options.only else []
    return shlex.join([*words, "--quick"] if options.quick else words)


def _run_one(name: str, stage: Stage, results: Results) -> None:
    _say("", f"== {name}")
    try:
        for row in BENCHMARKS[name](stage):
            results.rows.append(row)
            _say(*lines(row))
    except Exception as error:  # noqa: BLE001 - the figures of the others must not be lost for it
        results.failures[name] = str(error)
        _say(f"  failed: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/benchmark",
        description="Measures the adapter beside kfp.Client and plain HTTP, interleaved, in one run on this machine.",
    )
    parser.add_argument("--kfp-url", metavar="URL", default="", help="a KFP of your own; otherwise an embedded one")
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=BENCHMARKS, help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="a minute of everything, to see that it works")
    parser.add_argument("--keep", action="store_true", help="leave the pipelines in KFP, for the next run to reuse")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there, too")
    parser.add_argument("--markdown", action="store_true", help="write them into docs/benchmarks.md, with the chart")
    parser.add_argument("--from-json", metavar="FILE", type=Path, help="measure nothing: --markdown from such a file")
    return parser


def _say(*texts: str) -> None:
    sys.stdout.write("".join(f"{text}\n" for text in texts))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
