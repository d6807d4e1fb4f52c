"""The command that tells how the runs of training jobs end."""
# ruff: noqa: PLC0415  a command loads what it needs when it runs

from pathlib import Path
from typing import Annotated

import typer

from kfadapter_grpc.cli.choices import Format, LogFormat, LogLevel
from kfadapter_grpc.cli.option_types import Output
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.streams import native_path


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
    outbox: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=native_path,
            envvar="KFADAPTER_NOTIFY_OUTBOX",
            help="Where notices are kept [$XDG_STATE_HOME/kfadapter/notices.db].",
        ),
    ] = None,
    url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="KFADAPTER_NOTIFY_URL",
            help="Who is told; by default the training manager at TRAININGMGR_HOST and TRAININGMGR_PORT.",
        ),
    ] = "",
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME: VALUE",
            help="A header to send along; may be repeated [env KFADAPTER_NOTIFY_HEADERS, one on each line].",
        ),
    ] = None,
    receiver_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=native_path,
            envvar="KFADAPTER_NOTIFY_RECEIVER_TOKEN_FILE",
            help="Holds a bearer token for the receiver, read before each notice.",
        ),
    ] = None,
    insecure_receiver_token: Annotated[
        bool,
        typer.Option(
            "--insecure-receiver-token",
            envvar="KFADAPTER_NOTIFY_INSECURE_RECEIVER_TOKEN",
            help="Send that token without TLS, readable for others on its way.",
        ),
    ] = False,
    receiver_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=native_path,
            envvar="KFADAPTER_NOTIFY_RECEIVER_CA",
            help="Authorities of the receiver's certificate.",
        ),
    ] = None,
    receiver_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            max=3600,
            envvar="KFADAPTER_NOTIFY_RECEIVER_TIMEOUT",
            help="How long the receiver has to answer.",
        ),
    ] = 30.0,
    max_attempts: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            envvar="KFADAPTER_NOTIFY_MAX_ATTEMPTS",
            help="How often a receiver that is away is tried before a notice is parked; 400 is about a day.",
        ),
    ] = 400,
    keep: Annotated[
        str,
        typer.Option(
            metavar="TIME", envvar="KFADAPTER_NOTIFY_KEEP", help="How long delivered notices are kept: 12h, 30d."
        ),
    ] = "7d",
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            envvar="KFADAPTER_NOTIFY_SINCE",
            help="At the very first start, also tell of runs that ended since then; later starts pass over it.",
        ),
    ] = "",
    metrics_listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            envvar="KFADAPTER_NOTIFY_METRICS_LISTEN",
            help="Where metrics and health are told, or 'off'.",
        ),
    ] = "127.0.0.1:9091",
    log_format: Annotated[
        LogFormat, typer.Option(envvar="KFADAPTER_NOTIFY_LOG_FORMAT", help="How the log looks.")
    ] = LogFormat.CONSOLE,
    log_level: Annotated[
        LogLevel, typer.Option(envvar="KFADAPTER_NOTIFY_LOG_LEVEL", help="How much is logged.")
    ] = LogLevel.INFO,
    output: Output = Format.TABLE,
) -> None:
    """Post how the runs of training jobs end to the training manager, until told to stop.

    Runs are those with the label trainingjob_id. Every end is told at least once, through restarts and outages.
    """
    from kfadapter_grpc.cli.commands import notify as command

    what = [name for name, wanted in (("--list", list_), ("--retry", retry), ("--discard", discard)) if wanted]
    if len(what) > 1:
        raise typer.BadParameter(f"{' and '.join(what)} do not go together")
    if (notice or every) and what not in (["--retry"], ["--discard"]):
        raise typer.BadParameter("ids and --all belong to --retry or --discard")
    file = command.outbox_file(outbox)
    if list_:
        command.list_notices(file, output)
    elif what:
        command.decide(file, notice or [], output, every=every, again=retry)
    else:
        receiver = command.receiver(
            url,
            headers=header,
            token_file=receiver_token_file,
            insecure_token=insecure_receiver_token,
            ca=receiver_ca,
            seconds=receiver_timeout,
        )
        command.run(
            options,
            file,
            receiver,
            since=since,
            max_attempts=max_attempts,
            keep=keep,
            metrics_listen=metrics_listen,
            log_format=log_format.value,
            log_level=log_level.value,
        )
