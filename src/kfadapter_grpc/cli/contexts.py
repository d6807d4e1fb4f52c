"""Named contexts: adapters by name, in one file, which has the sources of tokens but no tokens.

A context named by --context precedes the environment, as options do; KFADAPTER_CONTEXT and the current context follow
it, and apply only where neither --target nor KFADAPTER_TARGET names an address: what is meant for one adapter, a
token above all, is never sent to another one.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from kfadapter_grpc.cli.errors import CommandError, UsageError
from kfadapter_grpc.cli.options import SECURITY, ClientOptions, variable
from kfadapter_grpc.cli.text import did_you_mean
from kfadapter_grpc.folders import config_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.client.exec_plugin import ExecPlugin
    from kfadapter_grpc.client.login import Login

TokenSource: TypeAlias = Union["Login", "ExecPlugin"]
CONTEXT_VARIABLE = "KFADAPTER_CONTEXT"
STORED_OPTIONS = ("target", "namespace", *SECURITY, "token_file", "insecure_token")
_PATHS = ("ca", "client_certificate", "client_key", "token_file")
_FLAGS = ("tls", "insecure_token")
_LOGIN = ("issuer", "client_id", "scope")
_NAME = re.compile(r"\w[\w.@-]{0,62}")


@dataclass(frozen=True, slots=True)
class Context(ClientOptions):
    """Named options, and the source of the token if it is not in a file."""

    source: TokenSource | None = None


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts by their names; `current` is empty if none is."""

    contexts: Mapping[str, Context]
    current: str = ""

    def get(self, name: str) -> Context:
        if name not in self.contexts:
            meant = did_you_mean(name, self.contexts)
            command = f"kfadapter config set {name if is_name(name) else 'NAME'} --target HOST:PORT"
            raise UsageError(
                f"not found: context '{name}'{'.' if meant else ''}{meant}",
                why=f"{path()} has {', '.join(sorted(self.contexts)) or 'none'}",
                next_step="kfadapter config list" if self.contexts else command,
            )
        return self.contexts[name]

    def write(self) -> None:
        """Replaces the file, which only its owner can read."""
        from kfadapter_grpc.client.download import atomic_write  # noqa: PLC0415  loads gRPC, which `--help` does not need

        document = {
            "current": self.current,
            "contexts": {name: to_json(context) for name, context in self.contexts.items()},
        }
        path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with atomic_write(path()) as file:
            file.write(json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
        path().chmod(0o600)


def path() -> Path:
    """Returns the path of the file. Raises CommandError without a home directory, as in some containers."""
    try:
        return config_folder() / "contexts.json"
    except RuntimeError:
        raise CommandError(
            "contexts cannot be stored",
            why="they are in ~/.config, and this user has no home directory",
            next_step="set XDG_CONFIG_HOME to a folder, or name the adapter: --target HOST:PORT",
        ) from None


def is_name(text: str) -> bool:
    """Returns whether a text can name a context: letters and digits of any script, and `_`, `.`, `@`, `-`."""
    return _NAME.fullmatch(text) is not None


def read() -> Contexts:
    """Reads the file; without one, or without a home directory, there are no contexts."""
    try:
        file = path()
    except CommandError:
        return Contexts({})
    try:
        document = json.loads(file.read_bytes())
        contexts = {name: _from_json(name, context) for name, context in document["contexts"].items()}
        current = document.get("current", "")
        if current not in {"", *contexts}:
            raise ValueError(f"the current context '{current}' is none of them")
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # as another user's home is
        return Contexts({})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(
            f"{file} does not hold contexts",
            why=why,
            next_step="correct the file, or delete it and set its contexts again: kfadapter config set NAME ...",
        ) from None
    return Contexts(contexts, current)


def in_use(options: ClientOptions) -> tuple[str, Context]:
    """Returns the name of the context to use, if any, and the options together with those of the context."""
    from kfadapter_grpc.client.client import TARGET_VARIABLE  # noqa: PLC0415  loads gRPC

    environment = os.environ
    overrides = {field.name: getattr(options, field.name) for field in fields(options)}
    if not options.context and (options.target or environment.get(TARGET_VARIABLE)):
        return "", Context().override(overrides)
    stored = read()
    name = options.context or environment.get(CONTEXT_VARIABLE, "") or stored.current
    if not name:
        return "", Context().override(overrides)
    context = stored.get(name) if options.context else _without_overridden(environment, stored.get(name))
    if options.token_file:
        context = replace(context, source=None)
    return name, context.override(overrides)


def name_in_use(options: ClientOptions) -> str:
    """Returns the name of the context to use; empty if there is none, or if the file is invalid."""
    with suppress(CommandError):
        return in_use(options)[0]
    return ""


def default_target() -> str:
    """Returns the adapter that a command without options calls."""
    from kfadapter_grpc.client.client import DEFAULT_TARGET, TARGET_VARIABLE  # noqa: PLC0415  loads gRPC

    with suppress(CommandError):
        return in_use(ClientOptions())[1].target or os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET
    return ""


def _without_overridden(environment: Mapping[str, str], context: Context) -> Context:
    """Returns a context without the options that environment variables override."""
    from kfadapter_grpc.client.credentials import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE  # noqa: PLC0415  loads gRPC

    named = {option for option in (*SECURITY, "insecure_token") if environment.get(variable(option))}
    if environment.get(TOKEN_VARIABLE) or environment.get(TOKEN_FILE_VARIABLE):
        named |= {"token_file", "source"}
    unset = Context()
    return replace(context, **{name: getattr(unset, name) for name in named})


def try_login(old: Context, issuer: str, client_id: str, scope: str) -> Login | None:
    """Returns the login of a context with these options; None if it has no issuer or no client ID."""
    from kfadapter_grpc.client.login import Login  # noqa: PLC0415  loads gRPC

    values = asdict(old.source) if isinstance(old.source, Login) else {}
    values |= {name: value for name, value in zip(_LOGIN, (issuer, client_id, scope), strict=True) if value}
    return Login(**values) if {"issuer", "client_id"} <= values.keys() else None


def token_source(context: Context) -> str:
    """Describes the source of a context's token; empty if it has none."""
    source = context.source
    if source is None:
        return str(context.token_file or "")
    return f"login: {source.issuer}" if hasattr(source, "issuer") else f"exec: {source.command}"


def to_json(context: Context) -> dict[str, Any]:
    set_ = {name: getattr(context, name) for name in STORED_OPTIONS if getattr(context, name)}
    document = {name: str(value) if name in _PATHS else value for name, value in set_.items()}
    source = context.source
    if source is None:
        return document
    if hasattr(source, "issuer"):
        return document | {name: getattr(source, name) for name in _LOGIN}
    exec_ = {"command": source.command, "args": list(source.args), "env": dict(source.env)}
    return document | {"exec": {name: value for name, value in exec_.items() if value}}


def _from_json(name: str, document: Any) -> Context:  # noqa: ANN401  whatever the file holds
    try:
        source = _source(document)
    except (ValueError, TypeError) as error:
        raise ValueError(f"context '{name}': {error}") from None
    document = {field: value for field, value in document.items() if field not in {*_LOGIN, "exec"}}
    for field, value in document.items():
        if field not in STORED_OPTIONS:
            raise ValueError(f"context '{name}' has '{field}', which is not one of {', '.join(STORED_OPTIONS)}")
        if type(value) is not (bool if field in _FLAGS else str):
            raise ValueError(f"'{field}' of context '{name}' is {'a text' if field in _FLAGS else 'no text'}")
    options = {option: Path(value) if option in _PATHS else value for option, value in document.items()}
    return Context(source=source).override(options)


def _source(document: Mapping[str, Any]) -> TokenSource | None:
    login = {name: document[name] for name in _LOGIN if name in document}
    exec_ = document.get("exec", {})
    if sum(map(bool, (login, exec_, document.get("token_file")))) > 1:
        raise ValueError("one of 'issuer', 'exec' and 'token_file' can give the token")
    if not (login or exec_):
        return None
    from kfadapter_grpc.client.exec_plugin import ExecPlugin  # noqa: PLC0415  loads gRPC
    from kfadapter_grpc.client.login import Login  # noqa: PLC0415

    if login:
        if not all(isinstance(value, str) for value in login.values()) or not {"issuer", "client_id"} <= login.keys():
            raise ValueError("'issuer' and 'client_id' are texts, and go together")
        return Login(**login)
    try:
        texts = [exec_.get("command"), *exec_.get("args", []), *exec_.get("env", {}).values()]
    except (AttributeError, TypeError):
        texts = [None]
    if not all(isinstance(text, str) for text in texts) or exec_.keys() - {"command", "args", "env"}:
        raise ValueError("'exec' has a text 'command', a list 'args' and an object 'env' of texts")
    return ExecPlugin(exec_["command"], tuple(exec_.get("args", ())), exec_.get("env", {}))
