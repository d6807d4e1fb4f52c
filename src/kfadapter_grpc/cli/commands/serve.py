"""What serve does: settings from the options, then the server until a signal ends it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import typer

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.column_widths import Step
from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.extras import SERVER, require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from kfadapter_grpc.settings import EffectiveSetting, Settings, SettingsError


def check(config: Path | None, **flags: object) -> None:
    """Prints the settings that a server would have, each with where it comes from, and serves nothing.

    Raises:
        CommandError: They are wrong, or the server's packages are missing.
    """
    require(server=SERVER)
    _, effective = _loaded(config, flags)
    rows = [(one.name, one.value, one.origin) for one in effective]
    output.print_table(("SETTING", "VALUE", "FROM"), rows, steps=(Step("FROM", 20), Step("VALUE", 20)))
    output.note("settings are fine")


def serve(config: Path | None, **flags: object) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        CommandError: The settings are wrong, the address is taken, or the server's packages are missing.
    """
    require(server=SERVER)
    serve_until_stopped(load_settings(config, **flags))


def load_server() -> None:
    """Loads the server's modules, which takes a while, before they are needed."""
    importlib.import_module("kfadapter_grpc.server")


def load_settings(config: Path | None, **flags: object) -> Settings:
    """Collects the settings; options that were not given are None.

    Raises:
        CommandError: They are wrong.
    """
    return _loaded(config, flags)[0]


def _loaded(config: Path | None, flags: Mapping[str, object]) -> tuple[Settings, Sequence[EffectiveSetting]]:
    from kfadapter_grpc.settings import Settings, SettingsError  # noqa: PLC0415  of the extra `server`

    try:
        return Settings.load_traced(config=config, **flags)
    except SettingsError as error:
        raise _wrong_settings(error) from None


def serve_until_stopped(settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """Runs the server; `on_ready` is told its address.

    Raises:
        CommandError: The address cannot be listened on, or a file is wrong by now.
    """
    from kfadapter_grpc.server import ServerStartError, run  # noqa: PLC0415  of the extra `server`
    from kfadapter_grpc.settings import SettingsError  # noqa: PLC0415

    try:
        code = run(settings, on_ready=on_ready)
    except SettingsError as error:
        raise _wrong_settings(error) from None
    except ServerStartError as error:
        raise CommandError(
            error.why,
            why=f"the adapter was told to listen on {error.listen}",
            next_step=f"the same command with another {error.option}",
        ) from None
    if code:
        raise typer.Exit(code)


def _wrong_settings(error: SettingsError) -> CommandError:
    return CommandError(
        "\n".join(error.lines),
        why="settings come from options, the file of --config and the environment (KFADAPTER_...), in this order",
        next_step="kfadapter serve --help",
        exit_code=ExitCode.USAGE,
    )
