"""`kfadapter doctor`: diagnoses a setup, one line per check, with the next step."""
# ruff: noqa: PLC0415  imports are deferred to keep the help fast

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import SERVER, ExitCode, require
from kfadapter_grpc.cli.options import ClientOptions

if TYPE_CHECKING:
    from kfadapter_grpc.doctor.verdict import Verdict

_KEYS = ("status", "check", "what", "why", "next")


def doctor(
    options: ClientOptions,
    *,
    server: Annotated[
        bool, typer.Option("--server", help="Check the adapter's own end, where it runs: settings, disk, port, KFP.")
    ] = False,
    write_probes: Annotated[
        bool,
        typer.Option("--write-probes", help="With --server: also make a pipeline and a run in KFP, and delete them."),
    ] = False,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="With --server: settings in TOML.")] = None,
    kfp_url: Annotated[
        str | None, typer.Option(metavar="URL", help="With --server: where Kubeflow Pipelines is.")
    ] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="Output format.")] = "table",
) -> None:
    """Check an installation and say what to do: an adapter, or the server itself.

    The exit code is 0 if nothing failed, otherwise that of the first failure. Only --write-probes changes anything.
    """
    if server:
        require(server=SERVER)
        from kfadapter_grpc.doctor import server as checks
        from kfadapter_grpc.doctor import stopped_as_interrupted

        verdicts = checks.examine(config, write=write_probes, kfp_url=kfp_url, namespace=options.namespace or None)
        with stopped_as_interrupted(), closing(verdicts):
            collected = list(verdicts)
        _print(collected, output)
    elif write_probes or config or kfp_url:
        raise typer.BadParameter("--write-probes, --config and --kfp-url check the server's end: add --server")
    else:
        from kfadapter_grpc.cli import contexts
        from kfadapter_grpc.doctor import caller
        from kfadapter_grpc.doctor.verdict import ok

        with options.client() as client:
            name, _ = contexts.in_use(options)
            context = [ok("context", f"{name}, of {contexts.path()}")] if name else []
            _print([*context, *caller.examine(client), *caller.container_engine(client)], output)


def _print(verdicts: "list[Verdict]", style: str) -> None:
    from kfadapter_grpc.doctor.verdict import worst

    rows = [_row(verdict) for verdict in verdicts]
    if style == "json":
        out.print_document([dict(zip(_KEYS, row, strict=True)) for row in rows], "json")
    else:
        steps = (out.Shrink("NEXT", 20), out.Shrink("WHY", 16), out.Shrink("WHAT", 20))
        out.print_table([key.upper() for key in _KEYS], rows, steps=steps)
    code = worst(verdicts)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _row(verdict: "Verdict") -> tuple[str, ...]:
    return verdict.status.value, verdict.check, verdict.what, verdict.why, ": ".join(verdict.advice().splitlines())
