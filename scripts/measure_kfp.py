"""Prints what a Kubeflow Pipelines does, fact by fact, beside what 2.17.0 and 2.5.0 do, and what it costs.

The facts are those that the adapter leans on; `kfadapter doctor --server` judges by the same ones.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.doctor import stopped_as_interrupted
from kfadapter_grpc.kfp.pipelines import PipelineJson
from kfadapter_grpc.kfp.probes import Outcome, measure, reach
from kfadapter_grpc.kfp.probes.facts import run_filter
from kfadapter_grpc.kfp.probes.session import FAULTS, DiffersError, InconclusiveError, ProbeSession
from kfadapter_grpc.kfp.rest import V2, ListQuery, segment
from kfadapter_grpc.kfp.transport import Request, Transport, TransportSettings
from kfadapter_grpc.kfp.versions import cheap_list_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kfadapter_grpc.kfp.probes import Finding, Reach

_UNREACHABLE, _DIFFERS, _INTERRUPTED = 3, 1, 130
_FACTS = ("fact", "2.17.0", "2.5.0", "here", "found", "ms")
_COST_COLUMNS = ("call, median of 20", "elsewhere, ms", "here, ms")
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """A call whose time is measured; `newer_ms` is the time of a KFP of 2026 (master) on two cores, in milliseconds."""

    sentence: str
    newer_ms: float
    ask: Callable[[ProbeSession, PipelineJson], object]

    def median(self, session: ProbeSession, sample: PipelineJson | None) -> str:
        """The time of a call, in milliseconds; `-` if it cannot be made."""
        if sample is None:
            return "-"
        took: list[float] = []
        try:
            for _ in range(_ROUNDS):
                start = time.perf_counter()
                self.ask(session, sample)
                took.append(1000 * (time.perf_counter() - start))
        except (*FAULTS, InconclusiveError, DiffersError):
            return "-"
        return f"{statistics.median(took):.1f}"


def _get(session: ProbeSession, path: str) -> object:
    query = (("namespace", session.namespace),) if session.namespace else ()
    return session.ask(Request("GET", f"{V2}/pipelines/{path}", query), PipelineJson)


COSTS = (
    Cost("GET a pipeline by id", 3.7, lambda session, sample: _get(session, segment(sample.pipeline_id))),
    Cost(
        "GET a pipeline by name", 3.6, lambda session, sample: _get(session, f"names/{segment(sample.record().name)}")
    ),
    Cost(
        "the cheap list of versions, one page of 200",
        60,
        lambda session, sample: session.ask(cheap_list_request(sample.pipeline_id, ListQuery(200)), object),
    ),
    Cost("runs by id IN and state NOT_EQUALS, none found", 12, lambda session, _: run_filter(session)),
)
"""The calls that the adapter makes most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints two tables; 0 if all facts of 2.17.0 hold, 1 if one does not, 3 if KFP is unreachable."""
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
    with closing(Transport(settings)) as transport:
        session = ProbeSession(transport, given.namespace, multi_user=reached.multi_user)
        with session.cleanup(left.append):
            sample = _sample(session, create=given.write_probes)
            rows = [(cost.sentence, f"{cost.newer_ms:g}", cost.median(session, sample)) for cost in COSTS]
    table(_COST_COLUMNS, rows)
    for what in left:
        sys.stderr.write(f"measure-kfp: could not be deleted, delete it by hand: {what}\n")
    differs = [one for one in findings if one.outcome is Outcome.DIFFERS and not one.probe.newer.startswith("no")]
    return _DIFFERS if differs or left else 0


def _sample(session: ProbeSession, *, create: bool) -> PipelineJson | None:
    """A pipeline to request: one created for this, or any; None if there is none."""
    try:
        if create:
            session.make_pipeline()
            session.make_version("First")
        return session.sample
    except (*FAULTS, InconclusiveError):
        return None


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
    parser.add_argument("--namespace", metavar="NAME", default="", help="namespace, in a KFP for several users")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument(
        "--write-probes", action="store_true", help="also make a pipeline of a unique name and a run, and delete them"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
