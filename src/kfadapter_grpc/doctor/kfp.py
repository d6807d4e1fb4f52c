"""The Kubeflow Pipelines behind an adapter: how far a request gets, and which facts the adapter can rely on."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.invocation import again
from kfadapter_grpc.doctor.verdict import Verdict, certificate, clock, failed, ok, skipped, warning
from kfadapter_grpc.kfp.probes import NO_SAMPLE, PROBES, STAGES, Outcome, Stage, measure, reach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.kfp.probes import Finding, Reach
    from kfadapter_grpc.kfp.transport import TransportSettings

WRITE_FLAG = "--write-probes"
_EXIT_CODES = {
    Stage.NAME: ExitCode.CANNOT_CONNECT,
    Stage.CONNECTION: ExitCode.CANNOT_CONNECT,
    Stage.TLS: ExitCode.CANNOT_CONNECT,
    Stage.HTTP: ExitCode.CANNOT_CONNECT,
    Stage.CREDENTIALS: ExitCode.NOT_ALLOWED,
    Stage.NAMESPACE: ExitCode.NOT_ALLOWED,
}


def examine(settings: TransportSettings, namespace: str, *, write: bool) -> Iterator[Verdict]:
    """Yields the result of each check; close it when stopping early, so that resources of probes are deleted.

    `namespace` is the adapter's default; probes that create resources run only if `write` is set.
    """
    reached = reach(settings, namespace)
    if settings.as_callers:
        yield from _stages_without_credentials(reached, settings.url, namespace)
        return
    yield from _stages(reached, settings.url, namespace)
    if reached.stopped_at is not None:
        yield skipped("KFP facts", f"the check 'KFP {reached.stopped_at.value}' failed")
        return
    yield _clock(reached)
    unproven: list[str] = []
    multi_user = reached.multi_user
    findings = measure(settings, namespace, multi_user=multi_user, write=write, left_behind=unproven.append)
    try:
        with closing(findings):
            yield from map(_fact, findings)
    except (KeyboardInterrupt, GeneratorExit):
        for what in unproven:  # verdicts are no longer read
            sys.stderr.write(f"could not be deleted, delete it manually: {what}\n")
        raise
    for what in unproven:
        yield failed(
            "KFP cleanup",
            f"could not be deleted: {what}",
            why="Kubeflow Pipelines did not respond, or refused",
            next_step="delete it manually: kfadapter delete NAME --force, kfadapter runs delete ID",
        )
    if not write:
        names = ", ".join(probe.name for probe in PROBES if probe.writes)
        step = again(WRITE_FLAG, text="creates one pipeline and one run, and deletes them")
        yield skipped("KFP facts that need writing", names, step)


def _stages_without_credentials(reached: Reach, url: str, namespace: str) -> Iterator[Verdict]:
    """Yields the stages that need no credentials, if the adapter itself has none."""
    if reached.stopped_at is Stage.CREDENTIALS:
        reached = replace(reached, stopped_at=None)
    way = list(_stages(reached, url, namespace))
    yield from way[: STAGES.index(Stage.CREDENTIALS)]
    step = "on a client: kfadapter doctor, with the caller's own credentials, shows whether it has access"
    yield skipped("KFP credentials and facts", "Kubeflow Pipelines is called as each caller", step)


def _stages(reached: Reach, url: str, namespace: str) -> Iterator[Verdict]:
    stopped = False
    for stage in STAGES:
        name = f"KFP {stage.value}"
        if stopped:
            yield skipped(name, f"the check 'KFP {reached.stopped_at.value}' failed" if reached.stopped_at else "")
        elif stage is reached.stopped_at:
            stopped = True
            yield failed(
                name,
                reached.found,
                why=f"{url} is the configured address of Kubeflow Pipelines",
                next_step=reached.advice,
                exit_code=_EXIT_CODES.get(stage, ExitCode.REFUSED),
            )
        elif stage is Stage.NAMESPACE:
            yield _namespace(reached, namespace)
        elif stage is Stage.TLS and reached.certificate_ends is not None:
            yield certificate(name, "its certificate is accepted, and", reached.certificate_ends)
        else:
            yield ok(name, _passed(stage, reached, url))


def _passed(stage: Stage, reached: Reach, url: str) -> str:
    parts = urlsplit(url)
    return {
        Stage.NAME: f"{parts.hostname} is {', '.join(reached.addresses)}",
        Stage.CONNECTION: f"{parts.netloc} accepts connections",
        Stage.TLS: "not used: the URL begins with http:",
        Stage.HTTP: "it responds",
        Stage.API: f"version {reached.version}; its health check took {1000 * reached.seconds:.0f} ms",
        Stage.CREDENTIALS: "a list succeeds: the adapter is authorized",
    }[stage]


def _namespace(reached: Reach, namespace: str) -> Verdict:
    if reached.multi_user and not namespace:
        return warning(
            "KFP namespace",
            "this Kubeflow Pipelines serves several users, and no namespace is set",
            why="calls that name none see shared pipelines only, and cannot list runs or experiments",
            next_step="set KFADAPTER_NAMESPACE, or have callers name a namespace",
        )
    if reached.multi_user:
        return ok("KFP namespace", f"'{namespace}' can be listed")
    if namespace:
        return ok("KFP namespace", f"'{namespace}' is ignored: this Kubeflow Pipelines serves a single user")
    return ok("KFP namespace", "none is needed: this Kubeflow Pipelines serves a single user")


def _clock(reached: Reach) -> Verdict:
    if reached.skew_seconds is None:
        return skipped("KFP clock", "its responses have no date")
    return clock("KFP clock", "its", reached.skew_seconds)


def _fact(finding: Finding) -> Verdict:
    probe, name = finding.probe, f"KFP {finding.probe.name}"
    if finding.outcome is Outcome.HOLDS:
        return ok(name, f"{probe.sentence}: {finding.found}")
    if finding.outcome is Outcome.UNKNOWN:
        return skipped(name, finding.found, again(WRITE_FLAG, text="creates one") if finding.found == NO_SAMPLE else "")
    sentence = f"it does not hold that {probe.sentence}: {finding.found}"
    step = probe.advice or "use Kubeflow Pipelines 2.17.0 or newer if that matters; see docs/reference/kfp-versions.md"
    return (failed if probe.needed else warning)(name, sentence, why=probe.without, next_step=step)
