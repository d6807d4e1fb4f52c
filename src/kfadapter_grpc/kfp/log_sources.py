"""Where the log of a pod may be, and how a log is continued from one of them behind what was sent already.

In this order: the file that Argo archived, as it is (`main-logs:read`, which multi-user servers refuse to
everyone); the pod itself, from the Kubernetes API, where the adapter may ask that; KFP's route for logs, which serves
the pod's log on multi-user servers and, rewritten, the archived one everywhere.
"""

from __future__ import annotations

import zlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.api import KfpFailureError, NotAnApiError
from kfadapter_grpc.kfp.log_errors import NoLogError, text_of
from kfadapter_grpc.kfp.packed_log import log_in

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.api import RunApi
    from kfadapter_grpc.kfp.pod_logs import PodLogs
    from kfadapter_grpc.kfp.run_nodes import Pod

MAIN_LOGS = "main-logs"
"""The artifact under which Argo archives the log of a task's container."""
ARCHIVE, KUBERNETES, KFP = "archive", "kubernetes", "kfp"
_NOT_SERVED = frozenset({400, 404, 405, 500, 501})
"""What stands before KFP answers where it does not pass this route on."""


@dataclass(frozen=True, slots=True)
class PodOfRun:
    """A pod, of which run, and in which namespace; that is empty where it is not known."""

    run_id: str
    pod: Pod
    namespace: str = ""


class Sent:
    """What was sent of a log, so that it can be continued from wherever the same log is."""

    def __init__(self) -> None:
        self.count = 0
        self.source = ""
        self._checksum = 0

    def rest_of(self, source: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yields what of a log was not sent yet.

        Raises:
            NoLogError: It does not begin with what was sent.
        """
        ahead, seen = self.count, 0
        for piece in pieces:
            known, new = piece[:ahead], piece[ahead:]
            seen, ahead = zlib.crc32(known, seen), ahead - len(known)
            if known and not ahead and seen != self._checksum:
                raise NoLogError("this is not the log that was sent so far")
            if new:
                self.source = source
                self.count += len(new)
                self._checksum = zlib.crc32(new, self._checksum)
                yield new
        if ahead:
            raise NoLogError("this is shorter than what was sent so far")


class LogSources:
    """Reads logs from all sources. Safe to use from many threads."""

    def __init__(self, api: RunApi, pod_logs: PodLogs | None) -> None:
        self._api = api
        self._pod_logs = pod_logs

    def read(
        self, of: PodOfRun, sent: Sent, call: Call, *, live: bool = False, tail: int | None = None
    ) -> Generator[bytes, None, Mapping[str, NoLogError]]:
        """Yields what was not sent yet, from the first source that has the log.

        Args:
            of: The pod.
            sent: What was sent; a live log stays with the source that it came from.
            call: For which call.
            live: Read for as long as the container runs, where that is possible, and not from the archive.
            tail: Only this many last lines, where that is possible.

        Returns:
            What each source said that had none; empty if one had it.

        Raises:
            NoLogError: The source has no more although the log is not complete.
        """
        refusals: dict[str, NoLogError] = {}
        for name, read in self._sources(of, call, live=live, tail=tail).items():
            if live and sent.source not in ("", name):
                continue
            before = sent.count
            try:
                with closing(read()) as pieces:
                    yield from sent.rest_of(name, pieces)
            except NoLogError as error:
                if sent.count > before:
                    raise
                refusals[name] = error
            else:
                return {}
        return refusals

    def _sources(
        self, of: PodOfRun, call: Call, *, live: bool, tail: int | None
    ) -> Mapping[str, Callable[[], Generator[bytes, None, None]]]:
        sources: dict[str, Callable[[], Generator[bytes, None, None]]] = {}
        if MAIN_LOGS in of.pod.artifacts and not live:
            sources[ARCHIVE] = lambda: self._from_archive(of, call)
        if self._pod_logs is not None and of.namespace:
            reader = self._pod_logs
            sources[KUBERNETES] = lambda: reader.read(of.namespace, of.pod.name, call, follow=live, tail=tail)
        return sources | {KFP: lambda: self._from_kfp(of, call)}

    def _from_archive(self, of: PodOfRun, call: Call) -> Generator[bytes, None, None]:
        try:
            with self._api.read_artifact(of.run_id, of.pod.node_id, MAIN_LOGS, call) as pieces:
                yield from log_in(pieces)
        except (KfpFailureError, NotAnApiError) as error:
            raise NoLogError(_said(error)) from error

    def _from_kfp(self, of: PodOfRun, call: Call) -> Generator[bytes, None, None]:
        try:
            with self._api.read_log(of.run_id, of.pod.name, call) as pieces:
                yield from text_of(of.run_id, pieces)
        except NotAnApiError as error:
            raise NoLogError(_said(error)) from error
        except KfpFailureError as error:
            if error.failure.status not in _NOT_SERVED:
                raise
            raise NoLogError(_said(error)) from error


def _said(error: KfpFailureError | NotAnApiError) -> str:
    if isinstance(error, KfpFailureError):
        return f"HTTP {error.failure.status}: {error.failure.text}"
    return f"HTTP {error.answer.status}: a page, not an answer of its API"
