"""Generates docs/reference/cli/ from the help of the command line: one page per command, and one that lists them."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from typer.core import TyperGroup
from typer.main import get_command

from kfadapter_grpc.cli.app import app
from kfadapter_grpc.cli.errors import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typer._click.core import Command, Context

    Row = tuple[str, str]

_FOOT = "\nThis page is made by `scripts/document.py` from the command's own help.\n"
_TYPES = {"int": "N", "float": "N", "int range": "N", "float range": "N", "str": "TEXT", "Path": "FILE"}
"""How the types that the help names are written here."""
_EVERYWHERE = ("-h, --help", "--install-completion", "--show-completion")

INDEX_MIDDLE = """
stdout holds the requested data, everything else goes to stderr. An error has three parts: what is wrong, why (the
reason and the request id), and what to type next. `kfadapter --install-completion` teaches the shell to complete
commands and options; `-h` or `--help` behind any command shows what is on its page here.

| Command | |
|---|---|
"""
INDEX_COMMON = """
## Common options

They may precede or follow the command.

"""
INDEX_EXIT = """
## Exit codes

| Code | |
|---|---|
"""


def pages() -> dict[str, str]:
    """The pages by name.

    Raises:
        TypeError: The command line is not a group of commands.
    """
    group = get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError(group)
    context = group.make_context("kfadapter", ["list"], resilient_parsing=True)
    made = {"README.md": _index(group, context)}
    for name, command in group.commands.items():
        inner = type(context)(command, info_name=name, parent=context)
        made |= _pages(name, command, inner)
    return made


def _pages(name: str, command: Command, context: Context) -> dict[str, str]:
    """The page of a command, and of its subcommands if it is a group."""
    if not isinstance(command, TyperGroup):
        return {f"{name}.md": _page(command, context)}
    made = {f"{name}.md": _group_page(name, command, context)}
    for one, inside in command.commands.items():
        inner = type(context)(inside, info_name=one, parent=context)
        made |= _pages(f"{name}-{one}", inside, inner)
    return made


def _index(group: TyperGroup, context: Context) -> str:
    rows = (f"| [`{name}`]({name}.md) | {_paragraphs(one)[0]} |\n" for name, one in group.commands.items())
    codes = (f"| {code.value} | {_cell(meaning)} |\n" for code, meaning in MEANINGS.items())
    _, options = _records(group, context)
    head = f"# Command line\n\n{_paragraphs(group)[0]}\n{INDEX_MIDDLE}"
    return head + "".join(rows) + INDEX_COMMON + _table("Option", options) + INDEX_EXIT + "".join(codes) + _FOOT


def _group_page(name: str, group: TyperGroup, context: Context) -> str:
    rows = (f"| [`{one}`]({name}-{one}.md) | {_paragraphs(inside)[0]} |\n" for one, inside in group.commands.items())
    alone = " NAME|ID" if getattr(group, "lists_of", False) else ""
    about = f"`{context.command_path}{alone}` alone is [`{context.command_path} list{alone}`]({name}-list.md)."
    head = f"# {context.command_path}\n\n{_paragraphs(group)[0]} {about}\n\n| Command | |\n|---|---|\n"
    return head + "".join(rows) + _FOOT


def _page(command: Command, context: Context) -> str:
    arguments, options = _records(command, context)
    usage = re.sub(r"[{}]", "", " ".join(command.get_usage(context).split())).removeprefix("Usage: ")
    parts = [f"# {context.command_path}\n\n", "\n\n".join(_paragraphs(command)), f"\n\n```text\n{usage}\n```\n"]
    parts += ["\n", _table("Argument", arguments)] if arguments else []
    parts += ["\n", _table("Option", options)] if options else []
    return "".join(parts) + f"\nHow it ends is in the table of [exit codes](README.md#exit-codes).\n{_FOOT}"


def _records(command: Command, context: Context) -> tuple[list[Row], list[Row]]:
    """The help of its arguments and options, without those that every program has."""
    found: dict[str, list[Row]] = {"argument": [], "option": []}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and not record[0].startswith(_EVERYWHERE):
            kind = parameter.param_type_name
            name = re.sub(r" <[^>]*>", "", record[0]) if kind == "argument" else re.sub(r"<([^>]*)>", _type, record[0])
            found[kind].append((name, record[1]))
    return found["argument"], found["option"]


def _type(found: re.Match[str]) -> str:
    return _TYPES.get(found[1], found[1])


def _paragraphs(command: Command) -> list[str]:
    return [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]


def _table(title: str, records: Iterable[Row]) -> str:
    rows = (f"| `{_cell(name)}` | {_cell(about)} |\n" for name, about in records)
    return f"| {title} | |\n|---|---|\n" + "".join(rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
