"""Named contexts: adapters by name, in one file, which holds paths of token files but no tokens.

A context named by --context precedes the environment, as options do; KFADAPTER_CONTEXT and the current context follow
it, and apply only where neither --target nor KFADAPTER_TARGET names an address: what is meant for one adapter, a
token above all, is never sent to another one.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfadapter_grpc.cli.errors import CommandError, ExitCode
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTEXT_VARIABLE = "KFADAPTER_CONTEXT"
"""The environment variable that names a context."""
KEPT = (
    *("target", "namespace", "tls", "ca", "server_name"),
    *("client_certificate", "client_key", "token_file", "insecure_token"),
)
"""The options that a context keeps."""
_PATHS = ("ca", "client_certificate", "client_key", "token_file")
_FLAGS = ("tls", "insecure_token")
_NAME = re.compile(r"\w[\w.@-]{0,62}")


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts by their names; `current` is empty if none is."""

    contexts: Mapping[str, ClientOptions]
    current: str = ""

    def get(self, name: str) -> ClientOptions:
        """Returns a context.

        Raises:
            CommandError: It does not exist.
        """
        if name not in self.contexts:
            raise CommandError(
                f"not found: context '{name}'.{did_you_mean(name, self.contexts)}",
                why=f"{path()} has {', '.join(sorted(self.contexts)) or 'none'}",
                next_step=f"kfadapter config set {name if is_name(name) else 'NAME'} --target HOST:PORT",
                exit_code=ExitCode.USAGE,
            )
        return self.contexts[name]

    def write(self) -> None:
        """Replaces the file, which only its owner can read."""
        from kfadapter_grpc.client.download import replaced  # noqa: PLC0415  loads gRPC, which `--help` does not need

        document = {"current": self.current, "contexts": {name: to_json(one) for name, one in self.contexts.items()}}
        path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replaced(path()) as file:
            file.write(json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
        path().chmod(0o600)


def path() -> Path:
    """Returns where the file is.

    Raises:
        CommandError: The user has no home directory, as in some containers.
    """
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        return Path(folder).expanduser() / "kfadapter" / "contexts.json"
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
    """Reads the file; without one, or without a home directory, there are no contexts.

    Raises:
        CommandError: It is not such a file.
    """
    try:
        file = path()
    except CommandError:
        return Contexts({})
    try:
        document = json.loads(file.read_bytes())
        contexts = {name: _from_json(name, one) for name, one in document["contexts"].items()}
        current = document.get("current", "")
        if current not in {"", *contexts}:
            raise ValueError(f"the current context '{current}' is none of them")
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # as another user's home is
        return Contexts({})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CommandError(
            f"{file} does not hold contexts",
            why=why,
            next_step="correct the file, or delete it and set its contexts again: kfadapter config set NAME ...",
            exit_code=ExitCode.USAGE,
        ) from None
    return Contexts(contexts, current)


def in_use(options: ClientOptions) -> tuple[str, ClientOptions]:
    """Returns the name of the context to use, if any, and the options together with those of the context.

    Raises:
        CommandError: The context does not exist, or the file is invalid.
    """
    from kfadapter_grpc.client.client import TARGET_VARIABLE  # noqa: PLC0415  loads gRPC

    environment = os.environ
    if not options.context and (options.target or environment.get(TARGET_VARIABLE)):
        return "", options
    known = read()
    name = options.context or environment.get(CONTEXT_VARIABLE, "") or known.current
    if not name:
        return "", options
    found = known.get(name) if options.context else _behind(environment, known.get(name))
    return name, found.override({one.name: getattr(options, one.name) for one in fields(options)})


def name_in_use(options: ClientOptions) -> str:
    """Returns the name of the context to use; empty if there is none, or if the file is invalid."""
    with suppress(CommandError):
        return in_use(options)[0]
    return ""


def usual_target() -> str:
    """Returns the adapter that a command without options calls."""
    from kfadapter_grpc.client.client import DEFAULT_TARGET, TARGET_VARIABLE  # noqa: PLC0415  loads gRPC

    with suppress(CommandError):
        return in_use(ClientOptions())[1].target or os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET
    return ""


def _behind(environment: Mapping[str, str], found: ClientOptions) -> ClientOptions:
    """A context without what the environment sets."""
    from kfadapter_grpc.client import credentials  # noqa: PLC0415  loads gRPC

    variables = {
        "tls": (credentials.TLS_VARIABLE,),
        "ca": (credentials.CA_VARIABLE,),
        "server_name": (credentials.SERVER_NAME_VARIABLE,),
        "client_certificate": (credentials.CERTIFICATE_VARIABLE,),
        "client_key": (credentials.KEY_VARIABLE,),
        "token_file": (credentials.TOKEN_VARIABLE, credentials.TOKEN_FILE_VARIABLE),
        "insecure_token": (credentials.INSECURE_TOKEN_VARIABLE,),
    }
    unset = ClientOptions()
    is_set = {name: getattr(unset, name) for name, names in variables.items() if any(map(environment.get, names))}
    return replace(found, **is_set)


def to_json(context: ClientOptions) -> dict[str, str | bool]:
    """Returns what a context sets."""
    set_ = {name: getattr(context, name) for name in KEPT if getattr(context, name)}
    return {name: str(value) if name in _PATHS else value for name, value in set_.items()}


def _from_json(name: str, given: Any) -> ClientOptions:  # noqa: ANN401  whatever the file holds
    for field, value in given.items():
        if field not in KEPT:
            raise ValueError(f"context '{name}' has '{field}', which is none of {', '.join(KEPT)}")
        if type(value) is not (bool if field in _FLAGS else str):
            raise ValueError(f"'{field}' of context '{name}' is {'a text' if field in _FLAGS else 'no text'}")
    return ClientOptions().override({one: Path(value) if one in _PATHS else value for one, value in given.items()})
