"""Measures a KFP: whether it can be reached, and which of the facts that the adapter relies on hold there.

Everything that probes create is deleted, however they end.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

from kfadapter_grpc.kfp.error_table import explain_page
from kfadapter_grpc.kfp.failures import KfpFailureError
from kfadapter_grpc.kfp.probes.facts import INCONCLUSIVE, PROBES
from kfadapter_grpc.kfp.probes.reachability import STAGES, Reach, Stage, reach
from kfadapter_grpc.kfp.probes.session import FAULTS, NO_SAMPLE, DiffersError, InconclusiveError, Probe, ProbeSession
from kfadapter_grpc.kfp.transport import Transport, TransportSettings

__all__ = ["NO_SAMPLE", "PROBES", "STAGES", "Finding", "Outcome", "Probe", "Reach", "Stage", "measure", "reach"]


class Outcome(enum.Enum):
    """The outcome of a probe."""

    HOLDS = "holds"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a probe."""

    probe: Probe
    outcome: Outcome
    found: str
    seconds: float


def measure(
    settings: TransportSettings,
    namespace: str = "",
    *,
    multi_user: bool = False,
    write: bool = False,
    left_behind: Callable[[str], None] = lambda _: None,
) -> Generator[Finding, None, None]:
    """Yields the result of each probe. Close it when leaving early, so that everything created is deleted.

    With `write`, probes also create a pipeline of a unique name, and a run, and delete them; `left_behind` receives a
    description of what could not be deleted. A single-user KFP needs no namespace to read from.
    """
    with closing(Transport(settings)) as transport:
        session = ProbeSession(transport, namespace, multi_user=multi_user)
        with session.cleanup(left_behind):
            for probe in PROBES:
                if write or not probe.writes:
                    start = time.perf_counter()
                    outcome, found = _outcome(probe, session)
                    yield Finding(probe, outcome, found, time.perf_counter() - start)


def _outcome(probe: Probe, session: ProbeSession) -> tuple[Outcome, str]:
    try:
        return Outcome.HOLDS, probe.look(session)
    except DiffersError as error:
        return Outcome.DIFFERS, str(error)
    except InconclusiveError as error:
        return Outcome.UNKNOWN, str(error)
    except KfpFailureError as error:
        failure = error.failure
        if failure.page:
            return Outcome.UNKNOWN, explain_page(failure.page).message
        unknown = failure.status in INCONCLUSIVE
        return (Outcome.UNKNOWN if unknown else Outcome.DIFFERS), f"HTTP {failure.status} {failure.text}".strip()
    except FAULTS as error:
        return Outcome.UNKNOWN, str(error)
