"""`kfadapter notify`: sends notices until stopped by a signal, lists them, or resends or discards parked ones."""

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from kfadapter_grpc.addresses import OFF, split_address
from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.contexts import in_use
from kfadapter_grpc.cli.errors import CommandError, ExitCode, NotFoundError, require
from kfadapter_grpc.cli.invocation import other
from kfadapter_grpc.cli.options import ClientOptions, Format, Output, file_option
from kfadapter_grpc.cli.output import Shrink
from kfadapter_grpc.cli.values import duration, parse_optional_time
from kfadapter_grpc.client.credentials import CredentialsError, Token, is_this_machine
from kfadapter_grpc.codec import json_moment
from kfadapter_grpc.daemon import LogFormat, LogLevel
from kfadapter_grpc.folders import state_folder
from kfadapter_grpc.setting_sources import SettingsError, unknown_variables
from kfadapter_grpc.times import shown_duration, shown_time
from kfadapter_oran.notices.database import Database, Notice, NoticeStatus, OutboxBusyError, OutboxError
from kfadapter_oran.notices.deliveries import Ledger
from kfadapter_oran.notices.receiver import ReceiverOptions, Url

if TYPE_CHECKING:
    from kfadapter_grpc.contract.spec import Json

HEADERS_VARIABLE = "KFADAPTER_NOTIFY_HEADERS"
"""The environment variable that holds headers, one on each line."""
NOTIFICATION_PATH = "/trainingjob/pipelineNotification"
HOST_VARIABLE, PORT_VARIABLE = "TRAININGMGR_HOST", "TRAININGMGR_PORT"
"""The environment variables that name the training manager in deployments that exist."""
SINK_VARIABLE = "K_SINK"
"""The environment variable in which Knative's SinkBinding puts the URL of a receiver of CloudEvents."""
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*[\x21-\x7e])[ \t]*")
_OWN_HEADERS = frozenset({"connection", "content-length", "content-type", "host", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class NotifyOptions:
    VARIABLES: ClassVar[str] = "KFADAPTER_NOTIFY_"

    outbox: Annotated[Path | None, file_option(help="The outbox [$XDG_STATE_HOME/kfadapter/notices.db].")] = None
    url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="The receiver; defaults to the training manager at TRAININGMGR_HOST and TRAININGMGR_PORT, or for "
            "CloudEvents to K_SINK, as Knative sets it.",
        ),
    ] = ""
    format: Annotated[
        Literal["training-manager", "cloudevents"],
        typer.Option(help="What is posted: the training manager's JSON, or CloudEvents 1.0 of every run."),
    ] = "training-manager"
    source: Annotated[
        str, typer.Option(metavar="URI", help="The source of CloudEvents: which adapter or cluster it is.")
    ] = "/kfadapter"
    receiver_token_file: Annotated[
        Path | None, file_option(help="Holds a bearer token for the receiver, read before each notice.")
    ] = None
    insecure_receiver_token: Annotated[
        bool,
        typer.Option("--insecure-receiver-token", help="Send that token without TLS, readable for others on its way."),
    ] = False
    receiver_ca: Annotated[Path | None, file_option(help="CAs of the receiver's certificate.")] = None
    receiver_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=3600, help="Deadline of the receiver's response.")
    ] = 30.0
    max_attempts: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Attempts at an unreachable receiver before a notice is parked; 400 is about a day.",
        ),
    ] = 400
    keep: Annotated[str, typer.Option(metavar="TIME", help="Retention of delivered notices: 12h, 30d.")] = "7d"
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="At the very first start, also report runs that ended since then; ignored by later starts.",
        ),
    ] = ""
    metrics_listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address of metrics and health, or 'off'.")
    ] = "127.0.0.1:9091"
    log_format: Annotated[LogFormat, typer.Option(help="Log format.")] = "console"
    log_level: Annotated[LogLevel, typer.Option(help="Log level.")] = "info"

    def receiver(self, headers: Sequence[str]) -> ReceiverOptions:
        """Returns the configuration of the receiver, with these headers and those of the environment.

        Raises SettingsError if it, the address of the metrics or the name of a variable is invalid.
        """
        names = {"headers", *(field.name for field in fields(self))}
        if unknown := [*unknown_variables(self.VARIABLES, names)]:
            raise SettingsError(*unknown)
        events = self.format == "cloudevents"
        if not self.source or not self.source.isascii() or not self.source.isprintable() or " " in self.source:
            raise SettingsError(f"--source '{self.source}' is not a URI, such as https://kfp.example.com")
        try:
            options = ReceiverOptions(
                Url.parse(self.url or (_sink() if events else _training_manager())),
                _headers(headers),
                _token(self.receiver_token_file),
                self.receiver_ca,
                self.receiver_timeout,
                self.source if events else "",
            )
            self._check(options)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        return options

    def _check(self, receiver: ReceiverOptions) -> None:
        url, ca = receiver.url, receiver.ca
        plain = url.scheme == "http"
        insecure = receiver.token and plain and not is_this_machine(f"{url.host}:{url.port}")
        if insecure and not self.insecure_receiver_token:
            raise ValueError(
                f"the token would go to {url} without TLS, where others can read it on its way; use https, or accept"
                " the risk with --insecure-receiver-token"
            )
        if ca is not None and plain:
            raise ValueError(f"--receiver-ca needs an https URL, not {url}")
        if ca is not None and not ca.is_file():
            raise ValueError(f"--receiver-ca: not found: file {ca}")
        try:
            if self.metrics_listen != OFF:
                split_address(self.metrics_listen)
        except ValueError as error:
            raise ValueError(f"--metrics-listen {error}, or off") from None


def notify(
    options: ClientOptions,
    notice: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID]...", show_default=False, help="With --retry or --discard: which notices."),
    ] = None,
    *,
    list_: Annotated[
        bool, typer.Option("--list", help="Only list the notices: waiting, parked, and lately done.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Only have parked notices sent again.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Only have parked notices never sent.")] = False,
    every: Annotated[bool, typer.Option("--all", help="With --retry or --discard: all that are parked.")] = False,
    how: NotifyOptions,
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME: VALUE",
            help="A header to send along; may be repeated [env KFADAPTER_NOTIFY_HEADERS, one on each line].",
        ),
    ] = None,
    style: Output = "table",
) -> None:
    """Post the final states of training jobs' runs to the training manager.

    Runs are those with the label trainingjob_id, or every run with --format cloudevents. Every final state is reported
    at least once, through restarts and outages.
    """
    modes = [name for name, is_set in (("--list", list_), ("--retry", retry), ("--discard", discard)) if is_set]
    if len(modes) > 1:
        raise typer.BadParameter(f"{' and '.join(modes)} do not go together")
    if (notice or every) and modes not in (["--retry"], ["--discard"]):
        raise typer.BadParameter("ids and --all belong to --retry or --discard")
    file = how.outbox or state_folder() / "notices.db"
    if list_:
        _list(file, style)
    elif modes:
        _settle_parked(file, notice or [], style, every=every, is_retry=retry)
    else:
        receiver, since, keep = how.receiver(header or []), parse_optional_time(how.since), duration(how.keep)
        require(notify=("prometheus_client", "structlog"))
        from kfadapter_oran.notices import process  # noqa: PLC0415  of the extra `notify`

        with _outbox_errors():
            _, used = in_use(options)
            process.run(options.client(), file, receiver, how, namespace=used.namespace, since=since, keep=keep)


def _training_manager() -> str:
    host, port = os.environ.get(HOST_VARIABLE, ""), os.environ.get(PORT_VARIABLE, "")
    if not host or not port:
        raise ValueError(
            f"no receiver: set {HOST_VARIABLE} and {PORT_VARIABLE}, the training manager's, or give another --url"
        )
    return f"http://{host}:{port}{NOTIFICATION_PATH}"


def _sink() -> str:
    if not (sink := os.environ.get(SINK_VARIABLE, "")):
        raise ValueError(f"no receiver: give --url, or set {SINK_VARIABLE} as Knative's SinkBinding does")
    return sink


def _headers(arguments: Sequence[str]) -> Mapping[str, str]:
    """Parses headers; the arguments come before those of the environment."""
    lines = (line for line in os.environ.get(HEADERS_VARIABLE, "").splitlines() if line.strip())
    headers = {}
    for text in (*lines, *arguments):
        header = _HEADER.fullmatch(text)
        if header is None:
            raise ValueError(f"the header '{text.partition(':')[0][:40]}' is not of the form 'Name: value', in ASCII")
        if header[1].lower() in _OWN_HEADERS:
            raise ValueError(f"the header '{header[1]}' is the notifier's own")
        headers[header[1]] = header[2]
    return headers


def _token(file: Path | None) -> Token:
    try:
        return Token(file=file)
    except CredentialsError as error:
        raise ValueError(f"--receiver-token-file: {error}") from None


def _list(file: Path, style: Format) -> None:
    with _ledger(file) as ledger:
        notices = ledger.notices()
    if style == "name":
        output.print_names(str(notice.id) for notice in notices)
    elif style != "table":
        output.print_document([_record(notice) for notice in notices], style)
    elif notices:
        _print(notices)
    else:
        output.note("no notices")


def _settle_parked(file: Path, ids: Sequence[int], style: Format, *, every: bool, is_retry: bool) -> None:
    if bool(ids) == every:
        raise typer.BadParameter("say which notices: their ids, or --all")
    with _ledger(file) as ledger:
        selected = list(dict.fromkeys(ledger.parked() if every else ids))
        _check_parked(selected, ledger)
        done = (ledger.retry if is_retry else ledger.discard)(selected)
        changed = [*ledger.find(done).values()]
    if style == "name":
        output.print_names(map(str, done))
    elif style != "table":
        output.print_document([_record(notice) for notice in changed], style)
    elif done:
        names = ", ".join(map(str, done))
        output.print_line(f"to be sent again: {names}" if is_retry else f"never to be sent: {names}")
    else:
        output.note("no notice is parked")


def _check_parked(ids: Sequence[int], ledger: Ledger) -> None:
    notices = ledger.find(ids)
    missing = [number for number in ids if number not in notices]
    if missing:
        raise NotFoundError(
            f"not found: notice {', '.join(map(str, missing))}",
            why="NOT_FOUND: delivered ones are forgotten after a while",
            next_step=other("notify", "--list", text="shows the notices there are"),
        )
    for number in ids:
        status = notices[number].status
        if status is not NoticeStatus.PARKED:
            raise CommandError(
                f"notice {number} is not parked: it is {status.value}",
                why=_NOT_PARKED[status],
                next_step=other("notify", "--list", text="shows which are parked"),
            )


_NOT_PARKED = {
    NoticeStatus.PENDING: "it is sent again by itself",
    NoticeStatus.DELIVERED: "the receiver repeats its work at each notice",
    NoticeStatus.SUPERSEDED: "a later end of the same run was delivered; the receiver would believe the older one",
    NoticeStatus.DISCARDED: "discarded by an operator",
}


def _print(notices: Sequence[Notice]) -> None:
    now = datetime.now(timezone.utc)
    rows = [
        (
            str(notice.id),
            notice.job,
            notice.run_id,
            notice.state,
            notice.status.value,
            str(notice.attempts),
            shown_time(notice.written_at),
            f"in {shown_duration(notice.next_at - now)}" if notice.status is NoticeStatus.PENDING else "",
            notice.answer,
        )
        for notice in notices
    ]
    head = ("ID", "JOB", "RUN", "STATE", "STATUS", "TRIED", "WRITTEN", "NEXT", "ANSWER")
    steps = (Shrink("ANSWER", 24), Shrink("WRITTEN", 0), Shrink("NEXT", 0), Shrink("ANSWER", 0), Shrink("RUN", 13))
    output.print_table(head, rows, steps=steps, cut=("ANSWER", "RUN"))


def _record(notice: Notice) -> "dict[str, Json]":
    pending = notice.status is NoticeStatus.PENDING
    return {
        "id": notice.id,
        "trainingjob_id": notice.job,
        "run_id": notice.run_id,
        "run_status": notice.state,
        "status": notice.status.value,
        "written_at": json_moment(notice.written_at),
        "attempts": notice.attempts,
        "refusals": notice.refusals,
        "next_at": json_moment(notice.next_at) if pending else None,
        "settled_at": json_moment(notice.settled_at),
        "answer": notice.answer,
    }


@contextmanager
def _ledger(file: Path) -> Iterator[Ledger]:
    with _outbox_errors(), closing(Database(file, create=False)) as database:
        yield Ledger(database)


@contextmanager
def _outbox_errors() -> Iterator[None]:
    try:
        yield
    except OutboxBusyError as error:
        raise CommandError(
            str(error),
            why="two would send every notice twice",
            next_step="stop the other one; kfadapter notify --list works beside it",
        ) from None
    except OutboxError as error:
        missing = str(error).startswith("not found: outbox")
        raise CommandError(
            str(error),
            why="notices are stored in the file of --outbox, or of KFADAPTER_NOTIFY_OUTBOX",
            next_step="the same command with another --outbox FILE",
            exit_code=ExitCode.NOT_FOUND if missing else ExitCode.REFUSED,
        ) from None
    except sqlite3.Error as error:
        raise CommandError(
            f"the outbox cannot be used: {error}",
            why="SQLite reports it",
            next_step="see to the disk and the file's permissions, then the same command again",
        ) from None
