"""Reads a Dockerfile: as much of the format as the one of this project uses."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s+")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        name: Which one, in capitals (`RUN`).
        flags: Its flags (`--from=builder` is `from` and `builder`).
        text: What stands behind the flags, on one line.
    """

    name: str
    flags: Mapping[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """Its words: those of the exec form (`["kfadapter", "serve"]`), or split as a shell does."""
        text = self.text.removeprefix("CMD ")
        return [str(word) for word in json.loads(text)] if text.startswith("[") else shlex.split(text)


@dataclass(frozen=True, slots=True)
class Stage:
    """What one FROM begins.

    Attributes:
        name: The name behind AS; empty without one.
        instructions: What follows the FROM.
    """

    name: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        """All instructions of one name."""
        return [one for one in self.instructions if one.name == name]

    def one(self, name: str) -> Instruction:
        """The only instruction of a name.

        Raises:
            ValueError: There is none, or there are several.
        """
        found = self.all(name)
        if len(found) != 1:
            message = f"the stage '{self.name}' has {len(found)} {name}, not one"
            raise ValueError(message)
        return found[0]

    def arguments(self) -> dict[str, str]:
        """Its ARG instructions, with their defaults."""
        pairs = (instruction.text.partition("=") for instruction in self.all("ARG"))
        return {name: default for name, _, default in pairs}

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """What its ENV instructions make of an environment."""
        made = dict(base)
        for instruction in self.all("ENV"):
            pairs = (word.partition("=") for word in instruction.words)
            made.update({key: Template(value).substitute(made) for key, _, value in pairs})
        return made


def parse(text: str) -> list[Stage]:
    """Splits a Dockerfile into its stages; what stands before the first FROM is left out."""
    stages: list[tuple[str, list[Instruction]]] = []
    for instruction in _instructions(text):
        if instruction.name == "FROM":
            stages.append((instruction.text.partition(" AS ")[2], []))
        elif stages:
            stages[-1][1].append(instruction)
    return [Stage(name, tuple(instructions)) for name, instructions in stages]


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        flags: dict[str, str] = {}
        while found := _FLAG.match(rest):
            flags[found[1]], rest = found[2], rest[found.end() :]
        yield Instruction(name.upper(), flags, rest.strip())
