"""Reads object stores with obstore: S3 and compatible ones, and Google's.

obstore signs, retries and renews credentials. Its calls run on a dedicated event loop, whose thread is started by the
first of them, so that each wait has a deadline and ends at once when its client cancels.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as StillWaiting
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import GCSStore, S3Store

from kfadapter_grpc.auth.reloaded_files import Reloaded, read_small
from kfadapter_grpc.contract import errors
from kfadapter_grpc.kfp.artifact_files import PIECE_BYTES, ArtifactFile, check_file_count
from kfadapter_grpc.kfp.artifact_stores import choose, read_store_entries
from kfadapter_grpc.telemetry.spans import sent_span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from concurrent.futures import Future

    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.artifact_stores import Location, StoreEntries, StoreEntry

T = TypeVar("T")

CHUNK_SECONDS = 20.0
"""The time limit for the next chunk from a store, including obstore's own retries."""
_READ_SECONDS = 8.0
_CONNECT_SECONDS = 3.0
_REQUEST_HOURS = 24
_RESUMES = 3
"""How many times in a row an interrupted body is requested again."""
_PAGE = 1000
_S3_KEYS = ("access_key_id", "secret_access_key")
_RETRIES: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=CHUNK_SECONDS / 2),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}
_STATUS = re.compile(r"status code: (\d{3})")
_IDENTITY = re.compile(r"Error performing (PUT|POST|\w+ https?://(169\.254\.|metadata\.google\.internal))")
"""Requests for credentials: to a token service, or to the machine's metadata service."""
_REJECTED = range(300, 500)
_TRANSIENT = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class ObjectStores:
    """The stores that a file describes. Safe to use from many threads; constructing it touches no network."""

    def __init__(self, path: Path) -> None:
        self._entries: Reloaded[StoreEntries] = Reloaded("the stores of artifacts", [path], read_store_entries)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._clients: dict[StoreEntry, tuple[tuple[bytes, ...], S3Store | GCSStore]] = {}

    def close(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def open(self, location: Location, session: str, call: Call) -> ObjectSource:
        self._entries.refresh()
        return ObjectSource(self, choose(self._entries.value, location, session), location.key, call)

    def client(self, entry: StoreEntry) -> S3Store | GCSStore:
        """Makes the client of a bucket and prefix, or keeps the last one while its credentials' files are unchanged."""
        files = _files(entry)
        try:
            contents = tuple(map(read_small, files))
        except OSError as error:
            text = f"its store's credentials cannot be read: {error.filename}: {error.strerror}"
            raise errors.ArtifactNotReadableError(text) from None
        with self._lock:
            cached = self._clients.get(entry)
            if cached is not None and cached[0] == contents:
                return cached[1]
            client = _client(entry, contents)
            self._clients = {other: kept for other, kept in self._clients.items() if other in self._entries.value}
            self._clients[entry] = contents, client
            return client

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="object-stores", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)


class ObjectSource:
    """An object, or the objects under `key/`, for one call."""

    def __init__(self, stores: ObjectStores, entry: StoreEntry, key: str, call: Call) -> None:
        self._stores = stores
        self._entry = entry
        self._key = key
        self.name = key.rpartition("/")[2]
        self._call = call

    def __str__(self) -> str:
        at = f" of {self._entry.store.endpoint}" if self._entry.store.endpoint else ""
        return f"at '{self._key}' in bucket '{self._entry.bucket}'{at}"

    def file(self, path: str) -> ArtifactFile | None:
        try:
            result = self._wait("HeadObject", _get(self._client(), self._name(path), {"head": True}))
        except FileNotFoundError:
            return None
        media_type = str(result.attributes.get("Content-Type") or "")
        return ArtifactFile(
            path, result.meta["size"], result.meta["e_tag"] or "", media_type, result.meta["last_modified"]
        )

    def files(self) -> list[ArtifactFile]:
        prefix, files = f"{self._key}/", list[ArtifactFile]()
        pages = obstore.list(self._client(), self._key, chunk_size=_PAGE)
        try:
            while page := self._wait("ListObjects", _next(pages)):
                files += [
                    ArtifactFile(
                        item["path"][len(prefix) :], item["size"], item["e_tag"] or "", "", item["last_modified"]
                    )
                    for item in page
                    if item["path"].startswith(prefix)
                ]
                check_file_count(len(files))
        except FileNotFoundError:
            text = f"its store has no bucket '{self._entry.bucket}'; its operator should check artifact_stores"
            raise errors.ArtifactNotReadableError(text) from None
        folders = {item.path[:at] for item in files for at, sign in enumerate(item.path) if sign == "/"}
        return sorted((item for item in files if item.size or item.path not in folders), key=lambda item: item.path)

    def chunks(self, file: ArtifactFile, start: int, end: int) -> Iterator[bytes]:
        """Yields the bytes of a file; resumes an interrupted body."""
        failures, arrived = 0, time.monotonic()
        while start < end:
            try:
                for chunk in self._body(file, start, end):
                    start, failures = start + len(chunk), 0
                    yield chunk
                    arrived = time.monotonic()
                if start < end:
                    raise errors.ArtifactStoreUnavailableError("the store ended the object too early; try again")
            except FileNotFoundError:
                raise errors.ArtifactChangedError("it was deleted while it was read") from None
            except errors.ArtifactStoreUnavailableError:
                failures += 1
                if failures > _RESUMES or time.monotonic() - arrived >= CHUNK_SECONDS:
                    raise

    def _body(self, file: ArtifactFile, start: int, end: int) -> Iterator[bytes]:
        """One request; the next chunk is received while one is used."""
        options: GetOptions = {"range": (start, end)}
        if file.stamp and not file.stamp.startswith("W/"):
            options["if_match"] = file.stamp
        result = self._wait("GetObject", _get(self._client(), self._name(file.path), options))
        if (result.meta["e_tag"] or "", result.meta["size"]) != (file.stamp, file.size):
            raise _changed()
        stream = result.stream(PIECE_BYTES)
        following = self._stores.start(_next(stream))
        try:
            while chunk := self._result(following):
                following = self._stores.start(_next(stream))
                yield chunk
        finally:
            following.cancel()

    def _name(self, path: str) -> str:
        return f"{self._key}/{path}" if path else self._key

    def _client(self) -> S3Store | GCSStore:
        return self._stores.client(self._entry)

    def _wait(self, operation: str, work: Coroutine[Any, Any, T]) -> T:
        """Waits for the response to a request, whose span ends when it begins; obstore can send no `traceparent`."""
        entry = {"kfadapter.bucket": f"{self._entry.scheme}://{self._entry.bucket}", "kfadapter.key": self._key}
        span = sent_span(self._call, operation, entry)
        try:
            return self._result(self._stores.start(work))
        except Exception as error:
            if span is not None:
                span.failed(error.reason if isinstance(error, errors.AdapterError) else type(error).__name__)
            raise
        finally:
            if span is not None:
                span.end()

    def _result(self, future: Future[T]) -> T:
        """Waits until the chunk's deadline, or the call's, or until the client cancels."""
        seconds = self._call.remaining()
        forget = self._call.on_cancel(future.cancel)
        try:
            return future.result(max(0.0, min(CHUNK_SECONDS, seconds)))
        except CancelledError:
            raise errors.CallCancelledError("the client cancelled the call") from None
        except (BaseError, ValueError) as error:
            raise _converted(error) from None
        except StillWaiting:
            if seconds <= CHUNK_SECONDS:
                text = "the deadline passed before the artifact was read; allow more time"
                raise errors.KfpTimeoutError(text) from None
            text = f"the store of the artifact did not respond for {CHUNK_SECONDS:.0f} s; try again"
            raise errors.ArtifactStoreUnavailableError(text) from None
        finally:
            forget()
            future.cancel()


async def _get(client: S3Store | GCSStore, name: str, options: GetOptions) -> GetResult:
    return await obstore.get_async(client, name, options=options)


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)


def _files(entry: StoreEntry) -> list[Path]:
    store, ref = entry.store, entry.store.credentials.secret_ref if entry.store.credentials else None
    names = [Path(store.ca_file)] if store.ca_file else []
    if ref is None:
        return names
    keys = (ref.token_key,) if entry.scheme == "gs" else (ref.access_key_key, ref.secret_key_key)
    return [*names, *(Path(entry.secrets, ref.secret_name, key) for key in keys)]


def _client(entry: StoreEntry, contents: tuple[bytes, ...]) -> S3Store | GCSStore:
    store, url = entry.store, entry.store.url
    options: ClientConfig = {
        "allow_http": url.startswith("http://"),
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=_READ_SECONDS),
        "timeout": timedelta(hours=_REQUEST_HOURS),
    }
    if store.ca_file:
        options["root_certificate"], *secrets = contents
    else:
        secrets = list(contents)
    config: dict[str, object] = {}
    if url:
        config["base_url" if entry.scheme == "gs" else "endpoint"] = url
    try:
        if entry.scheme == "gs":
            if secrets:
                config["service_account_key"] = secrets[0].decode()
            of_google = cast("GCSConfig", config)
            return GCSStore(entry.bucket, config=of_google, client_options=options, retry_config=_RETRIES)
        if store.region:
            config["region"] = store.region
        if store.force_path_style is False:
            config["virtual_hosted_style_request"] = True
            config["endpoint"] = url.replace("://", f"://{entry.bucket}.", 1)
        if secrets:
            config |= zip(_S3_KEYS, (secret.decode().strip() for secret in secrets), strict=True)
        return S3Store(entry.bucket, config=cast("S3Config", config), client_options=options, retry_config=_RETRIES)
    except (BaseError, ValueError):  # the text may quote a key
        text = "its store cannot be used as artifact_stores describes it: the endpoint or the credentials are malformed"
        raise errors.ArtifactNotReadableError(text) from None


def _converted(error: Exception) -> errors.AdapterError | FileNotFoundError:
    """Converts an error of obstore; its text is evaluated and never shown: it may quote the store or a key."""
    kind, text = type(error).__name__, str(error)
    status = int(match[1]) if (match := _STATUS.search(text)) else 0
    if status == HTTPStatus.NOT_FOUND:
        return FileNotFoundError()
    if kind == "PreconditionError" or status == HTTPStatus.PRECONDITION_FAILED:
        return _changed()
    status_text = f" (HTTP {status})" if status else ""
    causes = (
        (
            _IDENTITY.search(text),
            "the adapter has no credentials for its store; set some in artifact_stores, or give its pod an identity",
        ),
        (
            kind in ("PermissionDeniedError", "UnauthenticatedError") or status in _DENIED,
            "its store denied access to the adapter; its credentials need the right to read and list",
        ),
        (
            kind in ("InvalidPathError", "ValueError"),
            "its name, or that of one of its files, has parts that are empty or dots, or control characters",
        ),
        (
            "without LOCATION" in text or (status in _REJECTED and status not in _TRANSIENT),
            f"its store refused{status_text}: its region or credentials may be wrong",
        ),
    )
    for applies, reason in causes:
        if applies:
            return errors.ArtifactNotReadableError(reason)
    return errors.ArtifactStoreUnavailableError(
        f"the store of the artifact is unreachable or failed{status_text}; try again"
    )


def _changed() -> errors.ArtifactChangedError:
    return errors.ArtifactChangedError("the artifact was changed while it was read; read it again from the start")
