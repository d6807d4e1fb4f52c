"""Options as fields of a dataclass, and the options of every command that calls an adapter."""

import copy
import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args, get_type_hints

import typer

from kfadapter_grpc.cli.streams import utf8
from kfadapter_grpc.setting_sources import shown

if TYPE_CHECKING:
    from typing_extensions import Self

    from kfadapter_grpc.client import Client

Flags: TypeAlias = Mapping[str, Any]
"""Options by their names; None if one was not given."""
SHARED = ("target", "timeout", "namespace")
"""What the help of a command shows of them; the others are in the program's own help."""
_ADDRESS = re.compile(r"(?:dns:(?:///)?|ipv4:|ipv6:)?(?:[^\s/\[\]:]+|\[[0-9A-Fa-f:.%]+\]):\d{1,5}|unix:\S+")
"""HOST:PORT with the schemes that gRPC resolves."""


def field_parameters(kind: type) -> list[inspect.Parameter]:
    """Declares the fields of a dataclass for Typer; each annotation has an option.

    In a class with `VARIABLES`, the environment variable of a field is that prefix and the field's name.
    """
    hints, prefix = get_type_hints(kind, include_extras=True), getattr(kind, "VARIABLES", "")
    made = []
    for field in fields(kind):
        type_, option = hints[field.name].__origin__, copy.copy(hints[field.name].__metadata__[0])
        if prefix:
            option.envvar = prefix + field.name.upper()
        parameter = inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[type_, option])
        made.append(parameter if field.default is MISSING else parameter.replace(default=field.default))
    return made


def flag_parameters(settings: type) -> list[inspect.Parameter]:
    """Declares the fields of a dataclass whose values may also come from elsewhere: None if unset, without bounds."""
    made = []
    for one in field_parameters(settings):
        type_, option = get_args(one.annotation)
        default = "" if one.default in (None, one.empty) or one.default is False else shown(one.default)
        option.help = f"{option.help}  [env var: {option.envvar}{default and f'; default: {default}'}]"
        option.envvar = option.min = option.max = None
        made.append(one.replace(default=None, annotation=Annotated[type_ | None, option]))
    return made


def context_names(incomplete: str) -> list[str]:
    """Offers the names of contexts, for shell completion."""
    from kfadapter_grpc.cli.contexts import read  # noqa: PLC0415  no other command reads the file for its help
    from kfadapter_grpc.cli.errors import CommandError  # noqa: PLC0415

    try:
        return [name for name in sorted(read().contexts) if name.startswith(utf8(incomplete))]
    except (CommandError, OSError):
        return []


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The adapter to call, and how to call it. Unset options default to the environment, then to a context.

    A command has these options if it has a parameter of this type (`kfadapter_grpc.cli.command`).
    """

    target: Annotated[
        str | None,
        typer.Option(
            "--target", "-t", metavar="HOST:PORT", help="The adapter [env KFADAPTER_TARGET; 127.0.0.1:50051]."
        ),
    ] = None
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Deadline of each call.")
    ] = None
    namespace: Annotated[
        str,
        typer.Option("--namespace", "-n", metavar="NAME", help="Namespace; defaults to the adapter's."),
    ] = ""
    context: Annotated[
        str,
        typer.Option(
            "--context",
            metavar="NAME",
            help="Named context with these options [env KFADAPTER_CONTEXT; see kfadapter config].",
            autocompletion=context_names,
        ),
    ] = ""
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS [env KFADAPTER_TLS].")] = False
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The CA of the adapter's certificate; means TLS [env KFADAPTER_CA].",
        ),
    ] = None
    server_name: Annotated[
        str,
        typer.Option(metavar="NAME", help="Name in that certificate, if not HOST [env KFADAPTER_SERVER_NAME]."),
    ] = ""
    client_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Client certificate, if required [env KFADAPTER_CLIENT_CERTIFICATE].",
        ),
    ] = None
    client_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key [env KFADAPTER_CLIENT_KEY].")] = None
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Holds your token [env KFADAPTER_CLIENT_TOKEN_FILE, or KFADAPTER_TOKEN with the token itself].",
        ),
    ] = None
    insecure_token: Annotated[
        bool, typer.Option("--insecure-token", help="Send the token without TLS, where others can read it.")
    ] = False

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all of them."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def parameters(cls, visible: Iterable[str]) -> list[inspect.Parameter]:
        """Declares them for Typer; those not in `visible` are hidden, or omitted if there is no target."""
        kept = [*visible, *(name for name in cls.names() if name not in SHARED and "target" in visible)]
        made = [one for one in field_parameters(cls) if one.name in kept]
        for one in made:
            one.annotation.__metadata__[0].hidden = one.name not in visible
        return made

    def override(self, given: Mapping[str, object]) -> "Self":
        """Replaces those in `given`, by name; ignores other names."""
        return replace(self, **{name: given[name] for name in self.names() if given.get(name)})  # type: ignore[arg-type]

    def words(self) -> Iterator[str]:
        """Returns the options about security as typed."""
        for name in self.names():
            value = getattr(self, name)
            if value and name not in SHARED:
                yield f"--{name.replace('_', '-')}"
                if value is not True:
                    yield str(value)

    def check_target(self) -> None:
        """Checks the target.

        Raises:
            BadParameter: It is not an address.
        """
        if self.target and not _ADDRESS.fullmatch(self.target):
            raise typer.BadParameter(
                f"'{self.target}' is no address of an adapter; write HOST:PORT, as 127.0.0.1:50051"
            )

    def client(self) -> "Client":
        """Creates the client.

        Raises:
            BadParameter: The target is not an address.
            CommandError: The context does not exist.
            CredentialsError: The token is invalid, or would be sent to another machine without TLS.
        """
        from kfadapter_grpc.cli.contexts import in_use  # noqa: PLC0415
        from kfadapter_grpc.client import Client, credentials  # noqa: PLC0415  loads gRPC, which `--help` does not need

        self.check_target()
        _, used = in_use(self)
        given = {
            credentials.TLS_VARIABLE: "1" if used.tls else "",
            credentials.CA_VARIABLE: str(used.ca or ""),
            credentials.SERVER_NAME_VARIABLE: used.server_name,
            credentials.CERTIFICATE_VARIABLE: str(used.client_certificate or ""),
            credentials.KEY_VARIABLE: str(used.client_key or ""),
        }
        return Client(
            used.target,
            timeout=used.timeout,
            namespace=used.namespace,
            tls=credentials.Tls.try_from_environment({**os.environ, **{k: v for k, v in given.items() if v}}),
            token=used.source,
            token_file=used.token_file,
            insecure_token=used.insecure_token or None,
        )
