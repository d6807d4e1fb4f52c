"""What notify does: sends notices until a signal ends it, or lists them, or takes a decision on parked ones."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import typer

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.column_widths import Step
from kfadapter_grpc.cli.durations import duration, shown_duration
from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.extras import require
from kfadapter_grpc.cli.filters import optional_moment
from kfadapter_grpc.cli.invocation import do, manual, other
from kfadapter_grpc.cli.pipeline_view import shown_time
from kfadapter_grpc.cli.records import shown_moment
from kfadapter_grpc.cli.streams import state_folder
from kfadapter_oran.notices.database import Database, OutboxError
from kfadapter_oran.notices.ledger import Ledger
from kfadapter_oran.notices.lock import OutboxBusyError
from kfadapter_oran.notices.models import NoticeStatus
from kfadapter_oran.notices.settings import (
    NotifierSettings,
    NotifierSettingsError,
    listen_address,
    receiver_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.cli.records import Record
    from kfadapter_oran.notices.models import Notice
    from kfadapter_oran.notices.receiver import ReceiverOptions

HEADERS_VARIABLE = "KFADAPTER_NOTIFY_HEADERS"
"""The environment variable that holds headers, one on each line."""


def outbox_file(given: Path | None) -> Path:
    """Tells where notices are kept, unless that is said."""
    return state_folder() / "notices.db" if given is None else given


def receiver(
    url: str,
    *,
    headers: Sequence[str] | None,
    token_file: Path | None,
    insecure_token: bool,
    ca: Path | None,
    seconds: float,
) -> ReceiverOptions:
    """Reads how to reach the receiver; headers that are given count before those of the environment.

    Raises:
        CommandError: Something is missing or wrong.
    """
    lines = (line for line in os.environ.get(HEADERS_VARIABLE, "").splitlines() if line.strip())
    with _usage_errors():
        return receiver_options(
            url,
            headers=[*lines, *(headers or [])],
            token_file=token_file,
            insecure_token=insecure_token,
            ca=ca,
            seconds=seconds,
            environment=os.environ,
        )


def run(
    options: ClientOptions,
    outbox: Path,
    receiver: ReceiverOptions,
    *,
    since: str,
    max_attempts: int,
    keep: str,
    metrics_listen: str,
    log_format: str,
    log_level: str,
) -> None:
    """Sends notices until SIGTERM or Ctrl-C.

    Raises:
        CommandError: The outbox or an address cannot be used, or packages are missing.
    """
    require(notify=("prometheus_client", "structlog"))
    from kfadapter_grpc.daemon.listening import ServerStartError  # noqa: PLC0415  of the extra `notify`
    from kfadapter_oran.notices import process  # noqa: PLC0415

    with _usage_errors():
        settings = NotifierSettings(
            outbox=outbox,
            receiver=receiver,
            namespace=options.namespace,
            since=optional_moment(since),
            max_attempts=max_attempts,
            keep=duration(keep),
            metrics_listen=listen_address(metrics_listen),
            log_format=log_format,
            log_level=log_level,
        )
    with _outbox_errors():
        try:
            code = process.run(settings, options.client())
        except ServerStartError as error:
            raise CommandError(
                error.why,
                why=f"metrics and health were to be told at {error.listen}",
                next_step=f"the same command with another {error.option} HOST:PORT, or off",
            ) from None
    if code:
        raise typer.Exit(code)


def list_notices(file: Path, style: Format) -> None:
    """Lists the notices that wait or are parked, and those that were settled last.

    Raises:
        CommandError: There is no outbox, or it cannot be read.
    """
    with _ledger(file) as ledger:
        notices = ledger.notices()
    if style is Format.NAME:
        output.print_names(str(one.id) for one in notices)
    elif style is not Format.TABLE:
        output.print_document([_record(one) for one in notices], style)
    elif notices:
        _print(notices)
    else:
        output.note("no notices")


def decide(file: Path, ids: Sequence[int], style: Format, *, every: bool, again: bool) -> None:
    """Has parked notices sent again, or never.

    Raises:
        CommandError: There is no outbox, one of the notices is not there, or is not parked.
    """
    if bool(ids) == every:
        message = "say which notices: their ids, or --all"
        raise typer.BadParameter(message)
    with _ledger(file) as ledger:
        wanted = list(dict.fromkeys(ledger.parked() if every else ids))
        _check(wanted, ledger)
        done = (ledger.retry if again else ledger.discard)(wanted)
        changed = [*ledger.find(done).values()]
    if style is Format.NAME:
        output.print_names(map(str, done))
    elif style is not Format.TABLE:
        output.print_document([_record(one) for one in changed], style)
    elif done:
        names = ", ".join(map(str, done))
        output.print_line(f"to be sent again: {names}" if again else f"never to be sent: {names}")
    else:
        output.note("no notice is parked")


def _check(ids: Sequence[int], ledger: Ledger) -> None:
    found = ledger.find(ids)
    missing = [number for number in ids if number not in found]
    if missing:
        raise CommandError(
            f"there is no notice {', '.join(map(str, missing))}",
            why="NOT_FOUND: delivered ones are forgotten after a while",
            next_step=other("notify", "--list", words="shows the notices there are"),
            exit_code=ExitCode.NOT_FOUND,
        )
    for number in ids:
        status = found[number].status
        if status is not NoticeStatus.PARKED:
            raise CommandError(
                f"notice {number} is not parked: it is {status.value}",
                why=_WHY_NOT[status],
                next_step=other("notify", "--list", words="shows which are parked"),
            )


_WHY_NOT = {
    NoticeStatus.PENDING: "it is sent again by itself",
    NoticeStatus.DELIVERED: "the receiver repeats what it does whenever it is told",
    NoticeStatus.SUPERSEDED: "a later end of the same run was delivered; the receiver would believe the older one",
    NoticeStatus.DISCARDED: "somebody said that it need not be sent",
}


def _print(notices: Sequence[Notice]) -> None:
    now = datetime.now(timezone.utc)
    rows = [
        (
            str(one.id),
            one.job,
            one.run_id,
            one.state,
            one.status.value,
            str(one.attempts),
            shown_time(one.written_at),
            f"in {shown_duration(one.next_at - now)}" if one.status is NoticeStatus.PENDING else "",
            one.answer,
        )
        for one in notices
    ]
    head = ("ID", "JOB", "RUN", "STATE", "STATUS", "TRIED", "WRITTEN", "NEXT", "ANSWER")
    steps = (Step("ANSWER", 24), Step("WRITTEN", 0), Step("NEXT", 0), Step("ANSWER", 0), Step("RUN", 13))
    output.print_table(head, rows, steps=steps, cut=("ANSWER", "RUN"))


def _record(one: Notice) -> Record:
    pending = one.status is NoticeStatus.PENDING
    return {
        "id": one.id,
        "trainingjob_id": one.job,
        "run_id": one.run_id,
        "run_status": one.state,
        "status": one.status.value,
        "written_at": shown_moment(one.written_at),
        "attempts": one.attempts,
        "refusals": one.refusals,
        "next_at": shown_moment(one.next_at) if pending else None,
        "settled_at": shown_moment(one.settled_at),
        "answer": one.answer,
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
            why="two would tell everything twice",
            next_step=do("stop the other one; kfadapter notify --list looks beside it"),
        ) from None
    except OutboxError as error:
        missing = str(error).startswith("there is no outbox")
        raise CommandError(
            str(error),
            why="notices are kept in the file of --outbox, or of KFADAPTER_NOTIFY_OUTBOX",
            next_step=do("the same command with another --outbox FILE"),
            exit_code=ExitCode.NOT_FOUND if missing else ExitCode.REFUSED,
        ) from None
    except sqlite3.Error as error:
        raise CommandError(
            f"the outbox cannot be used: {error}",
            why="SQLite says so",
            next_step=do("see to the disk and the file's permissions, then the same command again"),
        ) from None


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except NotifierSettingsError as error:
        raise CommandError(
            str(error),
            why="settings come from options and the environment (KFADAPTER_NOTIFY_...)",
            next_step=manual("tells all of them"),
            exit_code=ExitCode.USAGE,
        ) from None
