"""Options of this package's commands: each can also be set by an environment variable."""

from typing import Any

import typer

from kfadapter_grpc.cli.streams import native_path


def setting(variable: str, about: str, metavar: str | None = None, flag: str = "", **bounds: Any) -> Any:  # noqa: ANN401  as `typer.Option`
    """Declares an option.

    Args:
        variable: The environment variable.
        about: The help.
        metavar: The kind of value; `FILE` makes it a path.
        flag: The spelling of an option without a value.
        bounds: `min` and `max` of a number.
    """
    parser = native_path if metavar == "FILE" else None
    return typer.Option(*filter(None, [flag]), envvar=variable, help=about, metavar=metavar, parser=parser, **bounds)
