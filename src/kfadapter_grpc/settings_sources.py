"""Where settings come from: flags, a TOML file, the environment; which one wins, and what in there is no setting."""

from __future__ import annotations

import difflib
import os
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

PREFIX = "KFADAPTER_"
"""Begins the name of every environment variable."""
_OF_CALLERS = (
    "CA",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
    "CLIENT_TOKEN_FILE",
    "DEBUG",
    "INSECURE_TOKEN",
    "SERVER_NAME",
    "TARGET",
    "TLS",
    "TOKEN",
)
_OF_NOTIFIERS = (
    "HEADERS",
    "INSECURE_RECEIVER_TOKEN",
    "KEEP",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "MAX_ATTEMPTS",
    "METRICS_LISTEN",
    "OUTBOX",
    "RECEIVER_CA",
    "RECEIVER_TIMEOUT",
    "RECEIVER_TOKEN_FILE",
    "SINCE",
    "URL",
)
_OF_LEGACY_HTTP = (
    "DRAIN_SECONDS",
    "GRACE_SECONDS",
    "INSECURE_LISTEN",
    "LISTEN",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "MAX_UPLOAD_BYTES",
    "METRICS_LISTEN",
    "TLS_CERTIFICATE",
    "TLS_CLIENT_CA",
    "TLS_KEY",
)
OTHER_VARIABLES = frozenset(
    {"CONFIG", "FAMILY", *_OF_CALLERS}
    | {f"NOTIFY_{name}" for name in _OF_NOTIFIERS}
    | {f"LEGACY_HTTP_{name}" for name in _OF_LEGACY_HTTP}
)
"""The variables, without the prefix, that are not the server's settings: the command line's and the runner's."""

GONE = {
    "legacy_http": "the Flask adapter's routes have a process of their own, beside this one: "
    "kfadapter legacy-http --target HOST:PORT --listen HOST:PORT",
}
"""Settings that there were, and what to do instead."""
_SERVICE_LINK = re.compile(
    r"(\w+_)?(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=\d+|PORT=\w+://.*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*)"
)
"""What Kubernetes puts into the environment of every container for a Service whose name begins with `kfadapter`."""
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A settings file, or none.

    Attributes:
        path: Where it is; None where there is none.
        values: What it says.
        mistakes: Why it says nothing, one line each.
        lines: The line, from 1, on which each name stands first.
    """

    path: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None) -> TomlFile:
        """Reads a file; what is wrong with it becomes a mistake."""
        if path is None:
            return cls()
        if not path.is_file():
            return cls(path, mistakes=(f"{path}: file not found",))
        try:
            text = path.read_bytes().decode()
            values = tomllib.loads(text)
        except OSError as error:
            return cls(path, mistakes=(f"{path}: cannot be read: {error.strerror}",))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            return cls(path, mistakes=(f"{path}, line {line}: not a TOML file: it is not UTF-8",))
        except tomllib.TOMLDecodeError as error:
            return cls(path, mistakes=(_not_toml(path, text, str(error)),))
        return cls(path, values, lines={name: _line_of(name, text) for name in values})

    def place(self, name: str) -> str:
        """Tells where in the file a name stands."""
        return f"{self.path}, line {self.lines[name]}"


@dataclass(frozen=True, slots=True)
class Sources:
    """What all sources say, before anything of it is checked.

    Attributes:
        flags: The flags that were given.
        file: The TOML file.
        variables: The environment variables, with the prefix, by the names of settings.
        old: The variable of the Flask adapter that gives a setting, by the setting's name.
    """

    flags: Mapping[str, object]
    file: TomlFile
    variables: Mapping[str, str]
    old: Mapping[str, str]

    def values(self) -> dict[str, Any]:
        """The values of file and flags; the environment's are pydantic's to find."""
        return {**self.file.values, **self.flags}

    def origin(self, name: str) -> str:
        """Tells who has the last word on a setting."""
        if name in self.flags:
            return f"flag --{name.replace('_', '-')}"
        if name in self.file.values:
            return f"file {self.file.place(name)}"
        if name in self.variables:
            return f"environment {self.variables[name]}"
        return f"environment {self.old[name]}" if name in self.old else "default"

    def where(self, name: str) -> str:
        """Tells where to correct a setting: its place in the file, if the value is from there, or its variable."""
        if name in self.file.values and name not in self.flags:
            return self.file.place(name)
        return PREFIX + name.upper()


def variables_by_setting() -> dict[str, str]:
    """The environment variables with the prefix that are set to something, by the names of settings."""
    named = (variable for variable, value in os.environ.items() if value and variable.upper().startswith(PREFIX))
    return {variable[len(PREFIX) :].lower(): variable for variable in named}


def unknown_variables(variables: Mapping[str, str], settings: Collection[str]) -> Iterator[str]:
    """Yields a line for each environment variable with the prefix that nothing reads; values are never shown."""
    for name, variable in sorted(variables.items()):
        known = name in settings or name.upper() in OTHER_VARIABLES or _is_service_link(name, variable)
        if not known:
            names = {*settings, *(other.lower() for other in OTHER_VARIABLES)}
            yield f"{variable}: unknown variable{what_to_do_instead(name, names, PREFIX)}"


def what_to_do_instead(name: str, names: Collection[str], prefix: str = "") -> str:
    """Returns the end of the sentence that there is no such name: what has replaced it, or the nearest name."""
    if name in GONE:
        return f" any more: {GONE[name]}"
    near = next(iter(difflib.get_close_matches(name, sorted(names), n=1)), "")
    return f"; did you mean {prefix}{near.upper() if prefix else near}?" if near else ""


def _is_service_link(name: str, variable: str) -> bool:
    return _SERVICE_LINK.fullmatch(f"{name.upper()}={os.environ[variable]}") is not None


def _line_of(name: str, text: str) -> int:
    key = re.escape(name)
    found = re.search(rf"""^[ \t]*(?:\[+[ \t]*)?(?:{key}|"{key}"|'{key}')[ \t]*[=.\]]""", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _not_toml(path: Path, text: str, said: str) -> str:
    place = _PLACE.search(said)
    words = said[: place.start()] if place else said
    if place and place[1]:
        line, column = int(place[1]), int(place[2])
    else:
        line, column = text.count("\n") + 1, len(text.rpartition("\n")[2]) + 1
    return f"{path}, line {line}, column {column}: not a TOML file: {words}"
