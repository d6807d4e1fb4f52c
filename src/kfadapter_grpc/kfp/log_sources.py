"""Where the log of a pod may be, and which part of it has not been sent yet.

The sources in order: the file that Argo archived, unchanged (`main-logs:read`, which multi-user servers deny to
everyone); the pod itself, from the Kubernetes API, where the adapter has access; KFP's route for logs, which serves the
pod's log on multi-user servers and, rewritten, the archived one everywhere.
"""

from __future__ import annotations

import binascii
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from itertools import chain, islice
from pathlib import Path

import msgspec

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import KfpRejectedCredentialsError, KfpUnavailableError
from kfadapter_grpc.kfp.connections import TlsFiles
from kfadapter_grpc.kfp.credentials import TokenFile
from kfadapter_grpc.kfp.decoding import decode_or_empty
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.rest import V2, Rest, segment
from kfadapter_grpc.kfp.run_nodes import Pod
from kfadapter_grpc.kfp.transport import Request, StreamedResponse, Transport, TransportSettings

MAIN_LOGS = "main-logs"
"""The artifact under which Argo archives the log of a task's container."""
ARCHIVE, KUBERNETES, KFP = "archive", "kubernetes", "kfp"
MAX_ERROR_BYTES = 64 * 1024
"""More than any error that KFP writes into a log; anything longer is text."""
MAX_UNPACKED_BYTES = 16 * 1024**3
_NOT_SERVED = frozenset({400, 404, 405, 500, 501})
"""The response of a proxy in front of KFP that does not forward the route."""
_MESSAGE = "BadRequestError: Failed to read logs for run "
_CHUNK_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 1024
_HEAD = re.compile(rb'\s*\{\s*"data"\s*:\s*"')
_EMPTY = re.compile(rb"\s*\{\s*\}\s*")
_GZIP = b"\x1f\x8b"
CONTAINER = "main"
"""The container of a pod of Argo's that runs the task."""
_ERROR_CHUNKS = 8
_IDLE_CONNECTIONS = 1
_CONNECT_SECONDS = 2.0
_INCOMPLETE = "the archived log is cut short"


class NoLogError(Exception):
    """A source has no log, or no more of it; never leaves kfp."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class NotServedError(NoLogError):
    """KFP, or a proxy in front of it, does not serve logs at this address."""


class PodLogError(NoLogError):
    """Kubernetes does not return the log; the status is 0 if there was no response."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class SentLog:
    """How much of a log was sent, so that any source with the same log can continue it."""

    def __init__(self) -> None:
        self.count = 0
        self.source = ""
        self._checksum = 0

    def rest_of(self, source: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yields the part of a log that has not been sent yet. Raises NoLogError if the beginning differs."""
        to_skip, checksum = self.count, 0
        for chunk in chunks:
            known, new = chunk[:to_skip], chunk[to_skip:]
            checksum, to_skip = zlib.crc32(known, checksum), to_skip - len(known)
            if known and not to_skip and checksum != self._checksum:
                raise NoLogError("this is not the log that was sent so far")
            if new:
                self.source = source
                self.count += len(new)
                self._checksum = zlib.crc32(new, self._checksum)
                yield new
        if to_skip:
            raise NoLogError("this is shorter than what was sent so far")


class LogSources:
    """Reads logs from all sources. Safe to use from many threads."""

    def __init__(self, rest: Rest, pod_logs: PodLogs | None) -> None:
        self._rest = rest
        self._pod_logs = pod_logs

    def read(
        self, run_id: str, pod: Pod, sent: SentLog, call: Call, *, live: bool = False, tail: int | None = None
    ) -> Generator[bytes, None, Mapping[str, NoLogError]]:
        """Yields what has not been sent yet, from the first source that has the log.

        Where that is possible, a `live` log is read for as long as the container runs, from the source that it came
        from and not from the archive; of a `tail` only so many last lines are read. Returns why each source has no log,
        empty if one had it. Raises NoLogError if a source has no more although the log is not complete.
        """
        refusals: dict[str, NoLogError] = {}
        sources: dict[str, Callable[[], Generator[bytes, None, None]]] = {}
        if MAIN_LOGS in pod.artifacts and not live:
            sources[ARCHIVE] = lambda: self._from_archive(run_id, pod, call)
        if (pods := self._pod_logs) is not None and pod.namespace:
            sources[KUBERNETES] = lambda: pods.read(pod.namespace, pod.name, call, follow=live, tail=tail)
        sources[KFP] = lambda: self.from_kfp(run_id, pod.name, call)
        for name, read in sources.items():
            if live and sent.source not in ("", name):
                continue
            before = sent.count
            try:
                with closing(read()) as chunks:
                    yield from sent.rest_of(name, chunks)
            except NoLogError as error:
                if sent.count > before:
                    raise
                refusals[name] = error
            else:
                return {}
        return refusals

    def _from_archive(self, run_id: str, pod: Pod, call: Call) -> Generator[bytes, None, None]:
        path = f"{V2}/runs/{segment(run_id)}/nodes/{segment(pod.node_id)}/artifacts/{MAIN_LOGS}:read"
        try:
            with self._rest.open_raw(Operation.READ_LOG, Request("GET", path), call) as chunks:
                yield from log_in(chunks)
        except KfpFailureError as error:
            raise NoLogError(_failure_text(error)) from error

    def from_kfp(self, run_id: str, pod: str, call: Call) -> Generator[bytes, None, None]:
        """Yields the log of a pod from KFP's route, where KFP checks no permission. Raises NoLogError."""
        path = f"/apis/v1alpha1/runs/{segment(run_id)}/nodes/{segment(pod)}/log"
        try:
            with self._rest.open_raw(Operation.READ_LOG, Request("GET", path), call) as chunks:
                yield from text_of(run_id, chunks)
        except KfpFailureError as error:
            if not error.failure.page and error.failure.status not in _NOT_SERVED:
                raise
            raise NotServedError(_failure_text(error)) from error


def _failure_text(error: KfpFailureError) -> str:
    if error.failure.page:
        return f"HTTP {error.failure.page.status}: a page, not a response of its API"
    return f"HTTP {error.failure.status}: {error.failure.text}".removesuffix(": ")


# --- pods, from the Kubernetes API ---------------------------------------------------------------------------------
# KFP itself cannot serve them where it serves a single user, as it calls Kubernetes without a namespace.


class _Status(msgspec.Struct):
    """Kubernetes' description of a failure."""

    message: str = ""


def kubernetes_api(environment: Mapping[str, str], service_account: Path) -> TransportSettings | None:
    """Returns how a pod reaches the Kubernetes API; None outside a pod, or without a service-account token.

    The token and the CAs are read again when they change.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    token, authorities = service_account / "token", service_account / "ca.crt"
    if not host or not token.is_file() or not authorities.is_file():
        return None
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return TransportSettings(url, _IDLE_CONNECTIONS, _CONNECT_SECONDS, TokenFile(token), TlsFiles(authorities))


class PodLogs:
    """The logs of pods. Safe to use from many threads; constructing it touches no network."""

    def __init__(self, settings: TransportSettings) -> None:
        self._transport = Transport(settings)

    def close(self) -> None:
        self._transport.close()

    def read(
        self, namespace: str, pod: str, call: Call, *, follow: bool = False, tail: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yields the log of a task's pod; with `follow` until its container ends, with `tail` only that many lines."""
        query = [("container", CONTAINER), *([("follow", "true")] if follow else [])]
        query += [("tailLines", str(tail))] if tail is not None else []
        path = f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}/log"
        with self._open(Request("GET", path, query), call) as response:
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:  # a pod without a node is 204
                body = b"".join(islice(response.chunks, _ERROR_CHUNKS))
                message = decode_or_empty(body, _Status).message[:500]
                raise PodLogError(response.status, message or "a response that is not one of Kubernetes")
            yield from response.chunks

    @contextmanager
    def _open(self, request: Request, call: Call) -> Iterator[StreamedResponse]:
        answered = False
        try:
            with self._transport.open(request, call, "read pod log") as response:
                answered = True
                yield response
        except (KfpUnavailableError, KfpRejectedCredentialsError) as error:
            if not answered:
                raise PodLogError(0, "the Kubernetes API cannot be reached") from error
            text = "the connection to Kubernetes broke before the log was complete; read it again"
            raise KfpUnavailableError(text) from error


# --- KFP's route: errors behind text ------------------------------------------------------------------------------


def text_of(run_id: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the text of a log; raises NoLogError if it ends with an error of KFP's, which is not yielded.

    KFP responds with status 200 before it searches for a log. If that fails, it writes the error as JSON at the end of
    the body, also after lines of the log (`run_log_server.go`). A program may print such JSON, too, so only the exact
    form counts: KFP's two keys, in its order, nothing after them, and the message that it writes for this run. In
    doubt it is text of the log. At most `MAX_ERROR_BYTES` are held back, where an error may have begun.
    """
    marker = f'{{"error_message":"{_MESSAGE}{run_id}'.encode()
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        start = _start(buffer, marker)
        if start:
            yield buffer[:start]
            buffer = buffer[start:]
    message = _message(buffer, run_id) if buffer.startswith(marker) else ""
    if message:
        raise NoLogError(message)
    if buffer:
        yield buffer


def _start(data: bytes, marker: bytes) -> int:
    """Where an error may begin: at its mark, or at the end, which may be the beginning of a mark."""
    start = data.rfind(marker)
    if start >= 0 and len(data) - start <= MAX_ERROR_BYTES:
        return start
    brace = data.rfind(b"{", max(0, len(data) - len(marker) + 1))  # the mark has one, in front
    return brace if brace >= 0 and marker.startswith(data[brace:]) else len(data)


def _message(data: bytes, run_id: str) -> str:
    try:
        pairs = json.loads(data, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return ""
    is_whole = data.endswith(b"}") and [key for key, _ in pairs] == ["error_message", "error_details"]
    if not is_whole or not all(isinstance(value, str) for _, value in pairs):
        return ""
    message = str(pairs[0][1])
    form = rf"{_MESSAGE}{re.escape(run_id)}(: | due to (run|namespace) fetching error: )"
    return message if re.match(form, message) else ""


# --- the archive: base64 in JSON, in that perhaps gzip, in that perhaps tar ---------------------------------------


def log_in(response: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the log in a response of KFP's `main-logs:read`, in chunks, in bounded memory.

    Raises NoLogError if it is none, or incomplete: KFP sends status 200 before it reads the file.
    """
    first, file = _peek(_decode(response), len(_GZIP))
    if not first.startswith(_GZIP):
        yield from file
        return
    first, unpacked = _peek(_unzip(file), tarfile.BLOCKSIZE)
    try:
        info = tarfile.TarInfo.frombuf(first, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        info = None
    yield from _slice(unpacked, tarfile.BLOCKSIZE, info.size) if info and info.isreg() else unpacked


def _decode(response: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the bytes of the field `data` of a JSON object without other fields."""
    chunks, head = iter(response), b""
    while (match := _HEAD.match(head)) is None:
        chunk = next(chunks, b"")
        head += chunk
        if not chunk and _EMPTY.fullmatch(head):
            return
        if not chunk or len(head) > _MAX_HEAD_BYTES + len(chunk):
            raise NoLogError("Kubeflow Pipelines returned no archived log")
    remainder = b""
    for chunk in chain((head[match.end() :],), chunks):
        text, quote, _ = (remainder + chunk).partition(b'"')
        length = len(text) if quote else len(text) // 4 * 4
        remainder = text[length:]
        try:
            yield binascii.a2b_base64(text[:length])
        except binascii.Error:
            raise NoLogError(_INCOMPLETE) from None
        if quote:
            return
    raise NoLogError(_INCOMPLETE)


def _unzip(packed: Iterable[bytes]) -> Iterator[bytes]:
    inflater, size = zlib.decompressobj(zlib.MAX_WBITS | 16), 0
    try:
        for chunk in packed:
            data = inflater.decompress(chunk, _CHUNK_BYTES)
            while data:
                size += len(data)
                if size > MAX_UNPACKED_BYTES:
                    raise NoLogError(f"the archived log is larger than {MAX_UNPACKED_BYTES} bytes")
                yield data
                data = inflater.decompress(inflater.unconsumed_tail, _CHUNK_BYTES)
    except zlib.error:
        raise NoLogError("the archived log is damaged") from None
    if not inflater.eof:
        raise NoLogError(_INCOMPLETE)


def _slice(chunks: Iterable[bytes], start: int, size: int) -> Iterator[bytes]:
    skip, remaining = start, size
    for chunk in chunks:
        data = chunk[skip : skip + remaining]
        skip = max(0, skip - len(chunk))
        remaining -= len(data)
        if data:
            yield data
        if not remaining:
            return
    if remaining:
        raise NoLogError(_INCOMPLETE)


def _peek(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    first = b""
    while len(first) < size and (chunk := next(chunks, None)) is not None:
        first += chunk
    return first[:size], chain((first,) if first else (), chunks)
