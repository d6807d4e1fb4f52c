"""`kfadapter login`, `logout` and `whoami`: tokens of an OpenID Connect issuer for a context, and what they grant."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli import contexts
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import CommandError, ExitCode, UsageError
from kfadapter_grpc.cli.invocation import again, other
from kfadapter_grpc.cli.options import ClientOptions, Output
from kfadapter_grpc.contract.identity import Way, WhoAmI

if TYPE_CHECKING:
    from kfadapter_grpc.client.login import Login
    from kfadapter_grpc.client.oauth import Device, OAuthError

_ENDS = {"access_denied": ExitCode.NOT_ALLOWED, "expired_token": ExitCode.TIMED_OUT}


def login(
    options: Annotated[ClientOptions, "context"],
    *,
    issuer: Annotated[str, typer.Option(metavar="URL", help="The issuer; stored in the context.")] = "",
    client_id: Annotated[
        str, typer.Option(metavar="ID", help="Client ID of the public client; stored in the context.")
    ] = "",
    scope: Annotated[
        str, typer.Option(metavar="TEXT", help="Scopes to request [openid offline_access]; stored in the context.")
    ] = "",
) -> None:
    """Log in at the issuer of a context, with a browser on any machine.

    Prints an address and a code to enter there, and waits (OAuth 2.0 device authorization). The tokens are stored
    below the folder of the contexts, readable to you only; the token is refreshed by itself.
    """
    from kfadapter_grpc.client import credentials
    from kfadapter_grpc.client.oauth import OAuthError

    name, known = _context(options), contexts.read()
    old = known.get(name)
    issuer_login = contexts.try_login(old, issuer, client_id, scope)
    if issuer_login is None:
        raise UsageError(
            f"context {name} names no issuer to log in at",
            why="--issuer and --client-id are missing, here and in the context; the adapter's operator has both",
            next_step=other("login", "--issuer", "URL", "--client-id", "ID"),
        )
    try:
        tokens = issuer_login.log_in(_show)
    except OAuthError as error:
        raise _failed(issuer_login, error) from None
    if issuer_login != old.source:
        changed = replace(old, source=issuer_login, token_file=None)
        contexts.Contexts({**known.contexts, name: changed}, known.current).write()
    user = f" as {tokens.user}" if tokens.user else ""
    out.print_line(f"logged in at {issuer_login.issuer}{user}, for context {name}")
    if not tokens.refresh_token and tokens.expires_at is not None:
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(tokens.expires_at))
        out.note(f"until {until}: the issuer gave no refresh token, so log in again then")
    before = [
        variable
        for variable in (credentials.TOKEN_VARIABLE, credentials.TOKEN_FILE_VARIABLE)
        if os.environ.get(variable)
    ]
    if before and not options.context:
        out.note(f"{before[0]} is set and takes precedence over it; unset it, or use --context {name}")


def logout(options: Annotated[ClientOptions, "context"]) -> None:
    """Forget the login of a context.

    Deletes the tokens, and requests their revocation from the issuer.
    """
    from kfadapter_grpc.client.login import Login
    from kfadapter_grpc.client.oauth import OAuthError

    name = _context(options)
    source = contexts.read().get(name).source
    if not isinstance(source, Login):
        raise UsageError(
            f"context {name} has no issuer to log out from",
            why="kfadapter login sets one",
            next_step=other("config", "show", name),
        )
    try:
        was_there = source.log_out()
    except OAuthError as error:
        was_there = True
        out.note(f"the tokens are deleted here, but the issuer may still accept them: {error}")
    out.print_line(f"{'logged out' if was_there else 'was not logged in'} at {source.issuer}")


def _context(options: ClientOptions) -> str:
    name, _ = contexts.in_use(options)
    if not name:
        raise UsageError(
            "logins are stored in a context, and none is in use",
            why="so that a token is only sent to the adapter that it is for",
            next_step="kfadapter config set NAME --target HOST:PORT --issuer URL --client-id ID\n"
            "then kfadapter --context NAME login",
        )
    return name


def _show(device: "Device") -> None:
    out.note(f"open   {device.complete_uri or device.uri}")
    out.note(f"{'check' if device.complete_uri else 'enter'}  {device.user_code}")
    if device.complete_uri:
        out.note(f"or enter the code at {device.uri}")
    out.note(f"waiting, at most {device.seconds / 60:.0f} min; Ctrl-C cancels")


def _failed(login: "Login", error: "OAuthError") -> CommandError:
    if error.transient:
        return CommandError(
            f"cannot connect to the issuer {login.issuer}",
            why=str(error),
            next_step=again(text="in a moment; for a CA of your own, SSL_CERT_FILE names its certificate"),
            exit_code=ExitCode.CANNOT_CONNECT,
        )
    reason = {"access_denied": "the login was denied", "expired_token": "the code was not entered in time"}
    return CommandError(
        reason.get(error.code, f"cannot log in at {login.issuer}"),
        why=str(error),
        next_step=again(text="gets a new code") if error.code in reason else "check --issuer, --client-id and --scope",
        exit_code=_ENDS.get(error.code, ExitCode.REFUSED),
    )


def whoami(options: ClientOptions, *, output: Output = "table") -> None:
    """Show who the adapter takes you for, and your roles."""
    with options.client() as client:
        identity = client.identity.who_am_i()
    out.print_record(identity, output, name=identity.name, table=lambda: out.print_fields(_fields(identity)))


def _fields(identity: WhoAmI) -> list[tuple[str, str]]:
    where = {"*": "all namespaces", "": "what has no namespace"}
    roles = [f"{grant.role.value} in {where.get(grant.namespace, grant.namespace)}" for grant in identity.grants]
    return [
        ("Name", identity.name),
        ("Authentication", "none: everyone may call" if identity.way is Way.NONE else identity.way.value),
        ("Issuer", identity.issuer),
        ("Subject", identity.subject),
        ("Groups", "\n".join(identity.groups)),
        ("Certificate", "\n".join(identity.certificate_names)),
        ("Roles", "\n".join(roles) or "none"),
        ("User of KFP", identity.kfp_user),
        ("Version of KFP", identity.kfp_version),
    ]
