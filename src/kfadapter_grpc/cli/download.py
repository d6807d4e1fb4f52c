"""`kfadapter download`: writes a pipeline's file, as YAML or as the received bytes."""
# ruff: noqa: PLC0415  imports are deferred to keep the help fast

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, cast

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.option_types import ById, PipelineName, Version
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.references import pipeline_reference, version_reference
from kfadapter_grpc.cli.streams import STDIN

_MEMORY_BYTES = 1024 * 1024


def download(
    options: ClientOptions,
    pipeline: PipelineName,
    *,
    version: Version = "",
    by_id: ById = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Write to a file, not to stdout.")] = None,
    output: Annotated[
        Literal["yaml", "json"],
        typer.Option(
            "--output", "-o", help="Output format; json is KFP's content, byte by byte; yaml takes a second per MB."
        ),
    ] = "yaml",
) -> None:
    """Download the file of a version, by default the latest."""
    from kfadapter_grpc.client.download import replaced
    from kfadapter_grpc.pipeline_yaml import write_yaml

    to = None if to == STDIN else to
    with stdout() if to is None else replaced(to) as target, tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as spooled:
        file = target if output == "json" else cast("BinaryIO", spooled)
        with options.client() as client:
            ref = pipeline_reference(client, pipeline, by_id=by_id)
            which = version_reference(client, ref, version or None)
            receipt = client.pipelines.download(
                ref.name,
                pipeline_id=ref.pipeline_id,
                version_name=which.name,
                pipeline_version_id=which.pipeline_version_id,
                to=file,
            )
        written = f"{receipt.size} bytes, SHA-256 {receipt.sha256}"
        if output == "yaml":
            file.seek(0)
            write_yaml(file, target)
            written = "YAML"
    if to is not None:
        out.note(f"wrote {to} ({written})")


@contextmanager
def stdout() -> Iterator[BinaryIO]:
    """Stdout, for bytes; on a terminal a final newline puts the next prompt on its own line."""
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()
    if sys.stdout.isatty():
        sys.stdout.write("\n")
