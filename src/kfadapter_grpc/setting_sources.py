"""The sources of settings: flags, a TOML file, the environment; their precedence, and their unknown names."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections import ChainMap
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from typer.models import OptionInfo

PREFIX = "KFADAPTER_"
CLIENT_VARIABLES = (
    "ca",
    "client_certificate",
    "client_key",
    "client_token_file",
    "context",
    "debug",
    "insecure_token",
    "page",
    "server_name",
    "target",
    "tls",
    "token",
)
"""The variables of the client and the command line, without the prefix and in lower case."""
OTHER_VARIABLES = ("config", "family", "places", *CLIENT_VARIABLES)
"""Those that are not settings of the server."""
SIBLINGS = ("console_", "legacy_http_", "notify_")
"""The prefixes of variables of other processes."""
REMOVED = {
    "legacy_http": "the Flask adapter's routes have a process of their own, beside this one: "
    "kfadapter legacy-http --target HOST:PORT --listen HOST:PORT",
}
"""Settings of older versions, and what to do instead."""
_SERVICE_LINK = re.compile(
    r"(\w+_)?(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=\d+|PORT=\w+://.*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*)"
)
"""The variables that Kubernetes sets in every container for a Service whose name begins with `kfadapter`."""
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_BOOLEANS = {
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), True),
    **dict.fromkeys(("0", "off", "f", "false", "n", "no"), False),
}
_FILE = "file "
_KINDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text", Path: "a path"}


class SettingsError(Exception):
    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Declared:
    """A setting, declared by a field, whose name is the TOML key; the reference adds `more` to the help."""

    field: Field[Any]
    kind: Any
    option: OptionInfo
    more: str

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def default_text(self) -> str:
        """The default as it would be written; empty if there is none, or it depends on the process."""
        return "" if self.field.default is MISSING else shown(self.field.default)

    def default(self) -> object:
        factory = self.field.default_factory
        return self.field.default if factory is MISSING else factory()

    def convert(self, raw: object) -> object:
        """Converts the text or value of a source. Raises ValueError if it has another type, or is out of range."""
        text = raw.strip().lower() if isinstance(raw, str) else raw
        if choices := get_args(self.kind):
            if text in choices:
                return text
            raise ValueError(f"must be one of {', '.join(choices)}, not '{raw}'")
        if self.kind is bool and str(text).lower() in _BOOLEANS:
            return _BOOLEANS[str(text).lower()]
        if self.kind in (int, float):
            return self._number(raw)
        if isinstance(raw, (str, self.kind)) and self.kind is not bool:
            return self.kind(raw)
        raise ValueError(f"must be {_KINDS[self.kind]}, not '{raw}'")

    def _number(self, raw: object) -> float:
        least, most = self.option.min, self.option.max
        try:
            number: float = self.kind(str(raw))
        except ValueError:
            raise ValueError(f"must be {_KINDS[self.kind]}, not '{raw}'") from None
        if least is not None and not number >= least:  # so that NaN is rejected
            raise ValueError(f"must be at least {least:g}, not '{raw}'")
        if most is not None and number > most:
            raise ValueError(f"must be at most {most:g}, not '{raw}'")
        return number


def declared(settings: type) -> dict[str, Declared]:
    """The settings by their names: the fields of a dataclass, annotated with type, option and perhaps a text."""
    hints = get_type_hints(settings, include_extras=True)
    settings_by_name = {}
    for setting in fields(settings):
        kind, option, *more = get_args(hints[setting.name])
        if NoneType in get_args(kind):
            kind = next(inner for inner in get_args(kind) if inner is not NoneType)
        settings_by_name[setting.name] = Declared(setting, kind, option, *(more or [""]))
    return settings_by_name


def shown(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A settings file, or none.

    Attributes:
        mistakes: Why it has no contents, one line each.
        lines: The line, from 1, on which each name occurs first.
    """

    path: Path | None = None
    values: dict[str, Any] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None) -> TomlFile:
        """Reads a file; errors become mistakes."""
        if path is None:
            return cls()
        if not path.is_file():
            return cls(path, mistakes=(f"{path}: file not found",))
        toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
        try:
            text = path.read_bytes().decode()
            values = toml.loads(text)
        except OSError as error:
            return cls(path, mistakes=(f"{path}: cannot be read: {error.strerror}",))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            return cls(path, mistakes=(f"{path}, line {line}: not a TOML file: it is not UTF-8",))
        except toml.TOMLDecodeError as error:
            return cls(path, mistakes=(_not_toml(path, text, str(error)),))
        return cls(path, values, lines={name: _line_of(name, text) for name in values})

    def position(self, name: str) -> str:
        return f"{self.path}, line {self.lines[name]}"


def chained(
    flags: Mapping[str, object], file: TomlFile, old: Mapping[str, tuple[str, str]]
) -> ChainMap[str, tuple[object, str]]:
    """Returns the values, unchecked, and their sources: flags, then the file, the environment, and `old`.

    `old` has the variables of the Flask adapter, with the settings that they make.
    """
    return ChainMap(
        {name: (value, f"flag --{name.replace('_', '-')}") for name, value in flags.items() if value is not None},
        {name: (value, f"{_FILE}{file.position(name)}") for name, value in file.values.items()},
        {name: (os.environ[variable], f"environment {variable}") for name, variable in set_variables(PREFIX).items()},
        {name: (value, f"environment {variable}") for name, (variable, value) in old.items()},
    )


def where(name: str, source: str) -> str:
    """Returns where to correct a setting: its position in the file, if the value is from there, or its variable."""
    return source.removeprefix(_FILE) if source.startswith(_FILE) else PREFIX + name.upper()


def unknown_names(values: ChainMap[str, tuple[object, str]], settings: Collection[str]) -> Iterator[str]:
    """Yields a line for each flag and each name in the file that is not a setting."""
    flags, file, *_ = values.maps
    for name in {**file, **flags}:
        if name not in settings:
            yield f"{name} ({where(name, values[name][1])}): unknown setting{_instead(name, settings)}"


def set_variables(prefix: str) -> dict[str, str]:
    """The non-empty environment variables with the prefix, by the names of settings."""
    named = (variable for variable, value in os.environ.items() if value and variable.upper().startswith(prefix))
    return {variable[len(prefix) :].lower(): variable for variable in named}


def unknown_variables(prefix: str, names: Collection[str], foreign: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields a line for each unknown environment variable with the prefix; values are never shown.

    `names` may follow the prefix, in lower case; variables that begin with one of `foreign` are others'.
    """
    for name, variable in sorted(set_variables(prefix).items()):
        link = _SERVICE_LINK.fullmatch(f"{variable[len(PREFIX) :].upper()}={os.environ[variable]}")
        if not (name in names or name.startswith(foreign) or link):
            yield f"{variable}: unknown variable{_instead(name, names, prefix)}"


def _instead(name: str, names: Collection[str], prefix: str = "") -> str:
    """Returns the end of the sentence that a name is unknown: its replacement, or the nearest name."""
    if name in REMOVED:
        return f" any more: {REMOVED[name]}"
    near = next(iter(difflib.get_close_matches(name, sorted(names), n=1)), "")
    return f"; did you mean {prefix}{near.upper() if prefix else near}?" if near else ""


def _line_of(name: str, text: str) -> int:
    key = re.escape(name)
    match = re.search(rf"""^[ \t]*(?:\[+[ \t]*)?(?:{key}|"{key}"|'{key}')[ \t]*[=.\]]""", text, re.MULTILINE)
    return text.count("\n", 0, match.start()) + 1 if match else 1


def _not_toml(path: Path, text: str, error: str) -> str:
    position = _POSITION.search(error)
    reason = error[: position.start()] if position else error
    if position and position[1]:
        line, column = int(position[1]), int(position[2])
    else:
        line, column = text.count("\n") + 1, len(text.rpartition("\n")[2]) + 1
    return f"{path}, line {line}, column {column}: not a TOML file: {reason}"
