"""What a notifier is told: by flags, or by the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from kfadapter_grpc.addresses import split_address
from kfadapter_grpc.client.credentials import CredentialsError, Token, is_this_machine
from kfadapter_oran.notices.post import Url, UrlError
from kfadapter_oran.notices.receiver import ReceiverOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

NOTIFICATION_PATH = "/trainingjob/pipelineNotification"
"""Where the training manager takes notices."""
HOST_VARIABLE, PORT_VARIABLE = "TRAININGMGR_HOST", "TRAININGMGR_PORT"
"""The environment variables by which people already tell where the training manager is."""
DEFAULT_METRICS_LISTEN = "127.0.0.1:9091"
"""Where metrics and health are told unless something else is said."""
DEFAULT_ATTEMPTS = 400
"""How often a notice is posted while the receiver is away: for about a day."""
DEFAULT_KEEP = timedelta(days=7)
"""How long delivered notices are kept."""
DEFAULT_SECONDS = 30.0
"""How long one attempt may take."""
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*[\x21-\x7e])[ \t]*")
_OWN_HEADERS = frozenset({"connection", "content-length", "content-type", "host", "transfer-encoding"})


class NotifierSettingsError(Exception):
    """What a notifier was told is wrong; the message says what."""


@dataclass(frozen=True, slots=True)
class NotifierSettings:
    """What a notifier was told.

    Attributes:
        outbox: The file that notices are kept in.
        receiver: Who is told.
        namespace: Whose runs are followed; empty for the adapter's own.
        since: At the first start, ends after this moment are told; None: those after the start.
        max_attempts: How often a notice is posted before it is parked.
        keep: How long delivered notices are kept.
        metrics_listen: Where metrics and health are told, HOST:PORT; empty for nowhere.
        log_format: `console` or `json`.
        log_level: The least important lines that are logged.
    """

    outbox: Path
    receiver: ReceiverOptions
    namespace: str = ""
    since: datetime | None = None
    max_attempts: int = DEFAULT_ATTEMPTS
    keep: timedelta = DEFAULT_KEEP
    metrics_listen: str = DEFAULT_METRICS_LISTEN
    log_format: str = "console"
    log_level: str = "info"


def receiver_options(
    url: str,
    *,
    headers: Iterable[str],
    token_file: Path | None,
    insecure_token: bool,
    ca: Path | None,
    seconds: float,
    environment: Mapping[str, str],
) -> ReceiverOptions:
    """Reads how to reach the receiver.

    Args:
        url: Where; empty for the training manager that the environment names.
        headers: `Name: value`, each.
        token_file: A file that holds a bearer token.
        insecure_token: Whether the token may go to another machine without TLS.
        ca: The authorities of its certificate.
        seconds: How long one attempt may take.
        environment: The environment.

    Raises:
        NotifierSettingsError: Something is missing or wrong.
    """
    where = _url(url or _training_manager(environment))
    try:
        token = Token(file=token_file)
    except CredentialsError as error:
        raise NotifierSettingsError(f"--receiver-token-file: {error}") from None
    if token and where.scheme == "http" and not insecure_token and not is_this_machine(f"{where.host}:{where.port}"):
        raise NotifierSettingsError(
            f"the token would go to {where} without TLS, where others can read it on its way; use https, or accept the"
            " risk with --insecure-receiver-token"
        )
    if ca is not None and where.scheme != "https":
        raise NotifierSettingsError(f"--receiver-ca needs an https URL, not {where}")
    if ca is not None and not ca.is_file():
        raise NotifierSettingsError(f"--receiver-ca: there is no file {ca}")
    return ReceiverOptions(where, dict(map(_header, headers)), token, ca, seconds)


def listen_address(text: str) -> str:
    """Reads where to tell metrics and health: HOST:PORT; empty for `off`.

    Raises:
        NotifierSettingsError: It is neither.
    """
    if text == "off":
        return ""
    try:
        split_address(text)
    except ValueError as error:
        raise NotifierSettingsError(f"--metrics-listen {error}, or off") from None
    return text


def _training_manager(environment: Mapping[str, str]) -> str:
    host, port = environment.get(HOST_VARIABLE, ""), environment.get(PORT_VARIABLE, "")
    if not host or not port:
        raise NotifierSettingsError(
            f"nobody to tell: set {HOST_VARIABLE} and {PORT_VARIABLE}, the training manager's, or give another --url"
        )
    return f"http://{host}:{port}{NOTIFICATION_PATH}"


def _url(text: str) -> Url:
    try:
        return Url.parse(text)
    except UrlError as error:
        raise NotifierSettingsError(str(error)) from None


def _header(text: str) -> tuple[str, str]:
    found = _HEADER.fullmatch(text)
    name = text.partition(":")[0]
    if found is None:
        raise NotifierSettingsError(f"the header '{name[:40]}' is not of the form 'Name: value', in ASCII")
    if found[1].lower() in _OWN_HEADERS:
        raise NotifierSettingsError(f"the header '{found[1]}' is the notifier's own")
    return found[1], found[2]
