"""Commands, options and exit codes that scripts use remain compatible.

They are listed in tests/data/cli.json. Additions are welcome there; a removed one needs a line in EXCEPT.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from kfadapter_grpc.cli.app import app
from kfadapter_grpc.cli.command import ListingGroup
from kfadapter_grpc.cli.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = json.loads((Path(__file__).parents[1] / "data" / "cli.json").read_text("utf-8"))
EXCEPT: set[tuple[str, str]] = set()
"""Options that have gone, each refused with what to do: the command and the option."""
MAY_BECOME = {"value required": {"value required", "value", "many required", "many"}, "value": {"value", "many"}}
"""What an argument may become: whatever was accepted is accepted still."""


def commands(command: Any, path: str = "kfadapter") -> Iterator[tuple[str, Any]]:  # noqa: ANN401  Click's, whose name Typer hides
    """Yields every command and group with its path."""
    yield path, command
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from commands(inner, f"{path} {name}")


def parameters(command: Any) -> dict[str, str]:  # noqa: ANN401
    """The kind of value of each option, by each of its spellings, and of each argument, by position.

    A command that became a group has those of its `list`.
    """
    taken = {}
    arguments = 0
    if isinstance(command, ListingGroup) and command.lists_of:
        command = command.commands["list"]
    for one in command.params:
        kind = "flag" if getattr(one, "is_flag", False) else "many" if one.multiple or one.nargs != 1 else "value"
        kind += " required" if one.required else ""
        if one.param_type_name == "argument":
            taken[f"argument {arguments}"] = kind
            arguments += 1
        else:
            taken |= dict.fromkeys([*one.opts, *one.secondary_opts], kind)
    return taken


def tree() -> dict[str, dict[str, str]]:
    """Returns all commands with their options and arguments."""
    return {path: parameters(command) for path, command in commands(typer.main.get_command(app))}


@pytest.mark.parametrize("path", sorted(KEPT["commands"]))
def test_commands_and_options(path: str) -> None:
    """Every promised command exists, with all its options unchanged."""
    now = tree().get(path)
    assert now is not None, path
    for name, kind in KEPT["commands"][path].items():
        fits = MAY_BECOME.get(kind, {kind}) if name.startswith("argument") else {kind}
        assert (path, name) in EXCEPT or now.get(name) in fits, (path, name)
    for name in set(now) - set(KEPT["commands"][path]):
        assert "required" not in now[name], (path, name)


def test_exit_codes() -> None:
    """The exit codes are unchanged."""
    assert {one.name: one.value for one in ExitCode} == KEPT["exit_codes"]
