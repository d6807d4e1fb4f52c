"""What a command line says about an upload, besides the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.invocation import again
from kfadapter_grpc.cli.pipeline_file import STDIN, default_name
from kfadapter_grpc.cli.streams import utf8
from kfadapter_grpc.contract.pipelines import IfExists, UploadPipelineMetadata

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def parse_tags(pairs: Sequence[str], what: str = "tag") -> dict[str, str]:
    """Reads `KEY=VALUE` pairs; `what` is what they are called.

    Raises:
        BadParameter: One has no `=`, or a key comes twice.
    """
    tags: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            message = f"'{pair}' is not of the form KEY=VALUE"
            raise typer.BadParameter(message)
        if key in tags:
            message = f"the {what} '{key}' is given twice"
            raise typer.BadParameter(message)
        tags[key] = value
    return tags


def upload_request(
    path: Path,
    *,
    name: str | None,
    version_name: str,
    description: str,
    display_name: str,
    namespace: str,
    tags: Sequence[str],
    code_source_url: str,
    if_exists: str,
    request_id: str,
) -> UploadPipelineMetadata:
    """Puts together how a file is to be stored."""
    return UploadPipelineMetadata(
        name=_chosen_name(path, name),
        version_name=version_name,
        description=description,
        display_name=display_name,
        namespace=namespace,
        tags=parse_tags(tags),
        code_source_url=code_source_url,
        if_exists=IfExists(if_exists),
        request_id=request_id,
    )


def _chosen_name(path: Path, name: str | None) -> str:
    """Tells the pipeline's name: the one that was given, or the file's.

    Raises:
        CommandError: The standard input has no name, and none was given.
    """
    if name is not None:
        return name
    if path == STDIN:
        raise CommandError(
            "the pipeline has no name",
            why="the standard input has none of its own, as a file has",
            next_step=again("--name", "NAME", words="with a name of your choice"),
            exit_code=ExitCode.USAGE,
        )
    return utf8(default_name(path))
