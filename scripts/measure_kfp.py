"""Prints what a Kubeflow Pipelines does, fact by fact, beside what 2.17.0 and 2.5.0 do, and what it costs.

The facts are those that the adapter leans on; `kfadapter doctor --server` judges by the same ones.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from kfadapter_grpc.doctor.interruption import stopped_as_interrupted
from kfadapter_grpc.kfp import TransportSettings
from kfadapter_grpc.kfp.probes import Outcome, measure, measure_costs, reach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.kfp.probes import Finding, Reach

_UNREACHABLE, _DIFFERS, _INTERRUPTED = 3, 1, 130
_FACTS = ("fact", "2.17.0", "2.5.0", "here", "found", "ms")
_COSTS = ("call, median of 20", "elsewhere, ms", "here, ms")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints two tables; 0 when all facts hold that hold in 2.17.0, 1 when not, 3 without a KFP."""
    given = _parser().parse_args(arguments)
    settings = TransportSettings(given.kfp_url.rstrip("/"))
    reached = reach(settings, given.namespace)
    if reached.stopped_at is not None:
        sys.stderr.write(
            f"measure-kfp: {given.kfp_url}: {reached.stopped_at.value}: {reached.found}; {reached.advice}\n"
        )
        return _UNREACHABLE
    try:
        with stopped_as_interrupted():
            return _report(settings, given, reached)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _report(settings: TransportSettings, given: argparse.Namespace, reached: Reach) -> int:
    table = _print_markdown if given.markdown else _print_plain
    several = "several users" if reached.multi_user else "a single user"
    sys.stdout.write(f"{given.kfp_url}: {reached.version}, for {several}\n\n")
    left: list[str] = []
    found = measure(
        settings, given.namespace, multi_user=reached.multi_user, write=given.write_probes, left_behind=left.append
    )
    with closing(found):
        findings = list(found)
    table(_FACTS, [_fact(finding) for finding in findings])
    sys.stdout.write("\n")
    costs = measure_costs(
        settings, given.namespace, multi_user=reached.multi_user, write=given.write_probes, left_behind=left.append
    )
    with closing(costs):
        rows = [(cost.sentence, f"{cost.newer_ms:g}", "-" if ms is None else f"{ms:.1f}") for cost, ms in costs]
    table(_COSTS, rows)
    for what in left:
        sys.stderr.write(f"measure-kfp: could not be deleted, delete it by hand: {what}\n")
    differs = [one for one in findings if one.outcome is Outcome.DIFFERS and not one.probe.newer.startswith("no")]
    return _DIFFERS if differs or left else 0


def _fact(finding: Finding) -> tuple[str, ...]:
    probe = finding.probe
    here = {Outcome.HOLDS: "yes", Outcome.DIFFERS: "no", Outcome.UNKNOWN: "?"}[finding.outcome]
    return probe.sentence, probe.newer, probe.older, here, finding.found, f"{1000 * finding.seconds:.1f}"


def _print_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for cells in (head, ["---"] * len(head), *rows):
        sys.stdout.write("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")


def _print_plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for cells in (head, *rows):
        sys.stdout.write("  ".join(map(str.ljust, cells, widths)).rstrip() + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/measure-kfp", description=__doc__)
    parser.add_argument("--kfp-url", metavar="URL", required=True, help="the base URL, any path prefix included")
    parser.add_argument("--namespace", metavar="NAME", default="", help="where to look, in a KFP for several users")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument(
        "--write-probes", action="store_true", help="also make a pipeline of a unique name and a run, and delete them"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
