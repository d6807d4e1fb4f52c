"""Every suggested next step can be typed: the commands and options that it names exist."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from tests.cli.test_failures import understand
from typer.core import TyperGroup
from typer.main import get_command

import kfadapter_grpc
from kfadapter_grpc.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer._click.core import Command

SOURCE = Path(kfadapter_grpc.__file__).parents[1]
PACKAGES = ("kfadapter_grpc", "kfadapter_embedded", "kfadapter_oran")
NO_COMMAND = {"itself", "embedded", "server"}
"""Words behind the program's name that begin no command, but tell of the program."""
_PROSE = re.compile(r"\bkfadapter ((?:-?-?[\w-]+[ =]?)+)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_Call: TypeAlias = tuple[str, str, tuple[str, ...], str]


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for name in PACKAGES for path in (SOURCE / name).rglob("*.py")}


def _place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix().removeprefix("kfadapter_grpc/")


def _steps() -> Iterator[_Call]:
    """Yields every step in the source: its place, the function, its words, and the option it leaves out."""
    for path, tree in _trees().items():
        if "invocation" not in path.read_text("utf-8") or path.name == "invocation.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"other", "again"}:
                words = tuple(_value(path, word) for word in node.args)
                without = [_value(path, one.value) for one in node.keywords if one.arg == "without"]
                yield f"{_place(path)}:{node.lineno}", node.func.id, words, "".join(without)


def _value(path: Path, node: ast.expr) -> str:
    """Returns a word of a step; a placeholder if it is known only at run time."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        return str(getattr(importlib.import_module(name), node.id, "--port" if node.id == "flag" else "WORD"))
    return "WORD"


def _texts() -> Iterator[tuple[str, str]]:
    """Yields every string of the program that is not a docstring, and its place."""
    for path, tree in _trees().items():
        described = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
                yield f"{_place(path)}:{node.lineno}", node.value


def _options(command: Command) -> set[str]:
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


@cache
def _all_options() -> set[str]:
    root = get_command(app)
    waiting: list[Command] = [root]
    found: set[str] = {"--help"}
    while waiting:
        command = waiting.pop()
        found |= _options(command)
        if isinstance(command, TyperGroup):
            waiting += command.commands.values()
    return found


STEPS = list(_steps())
PROSE = [(where, found[1]) for where, text in _texts() for found in _PROSE.finditer(text)]


def test_steps_are_found() -> None:
    """Steps, and commands within strings, are found in the source."""
    places = {where.partition(":")[0] for where, *_ in STEPS}
    assert {"cli/failures.py", "cli/watch.py", "doctor/caller.py", "kfadapter_embedded/dev.py"} <= places
    assert any(words.startswith("runs delete ID") for _, words in PROSE)
    assert any(words.startswith("--token-file") for _, words in PROSE)


@pytest.mark.parametrize("step", STEPS, ids=[f"{where}-{kind}" for where, kind, *_ in STEPS])
def test_steps_can_be_typed(step: _Call) -> None:
    """A step with another command parses in full; options that a step adds or leaves out exist."""
    _, kind, words, without = step
    if kind == "other":
        understand(["--target", "h:1", *words])
    options = {word for word in (*words, without) if word.startswith("--")}
    assert options <= _all_options()


@pytest.mark.parametrize(("where", "words"), PROSE, ids=[f"{where}-{words.strip()}" for where, words in PROSE])
def test_commands_in_texts_exist(where: str, words: str) -> None:
    """A command within a string exists, and has the options that follow it."""
    first, *rest = words.split()
    if first in NO_COMMAND:
        return
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    command: Command | None = root
    known = _options(root) | {"--help"}
    for word in (first, *rest):
        if word.isupper():  # a placeholder for the user's value
            continue
        if word.startswith("--"):
            assert word in known, f"{where}: {words}"
        elif isinstance(command, TyperGroup):
            command = command.commands.get(word)
            assert command is not None, f"{where}: no command {word} in: {words}"
            known |= _options(command)


@pytest.mark.parametrize("where", ["cli", "doctor", "kfp/probes", "kfadapter_embedded/dev"])
def test_options_in_texts_exist(where: str) -> None:
    """An option that a string names exists."""
    named = {option for place, text in _texts() if place.startswith(where) for option in _OPTION.findall(text)}
    assert named - _all_options() == set()
