"""`kfadapter config`: named contexts, the adapters that you work with."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from kfadapter_grpc.cli import contexts
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.completion import context_names
from kfadapter_grpc.cli.errors import NotFoundError
from kfadapter_grpc.cli.options import ClientOptions, Output, argument

Name: TypeAlias = Annotated[str, argument("Context.", context_names, "NAME")]


def set_(
    options: Annotated[ClientOptions, contexts.STORED_OPTIONS],
    name: Name,
    *,
    issuer: Annotated[
        str, typer.Option(metavar="URL", help="OpenID Connect issuer of your token; see kfadapter login.")
    ] = "",
    client_id: Annotated[str, typer.Option(metavar="ID", help="Client ID of the public client at the issuer.")] = "",
    scope: Annotated[str, typer.Option(metavar="TEXT", help="Scopes to request [openid offline_access].")] = "",
    exec_: Annotated[
        str,
        typer.Option(
            "--exec",
            metavar="COMMAND",
            help="A command with its arguments, quoted, that prints your token as exec plugins of kubectl do.",
        ),
    ] = "",
    exec_env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable for that command; may be repeated.")
    ] = None,
) -> None:
    """Create a context, or change options of one.

    Paths are stored, not what the files hold. A token comes from --token-file, from a login at --issuer, or from
    --exec; the one set last applies.
    """
    if not contexts.is_name(name):
        raise typer.BadParameter(f"{name!r} cannot name a context: letters, digits, '_', '.', '@' and '-', up to 63")
    options.check_target()
    stored = contexts.read()
    old = stored.contexts.get(name, contexts.Context())
    source = _source(old, (issuer, client_id, scope), exec_, exec_env or [])
    if source and options.token_file:
        raise typer.BadParameter("one of --token-file, --issuer and --exec gives the token")
    values = {option: getattr(options, option) for option in contexts.STORED_OPTIONS}
    absolute = {option: value.expanduser().absolute() for option, value in values.items() if isinstance(value, Path)}
    context = old.override(values | absolute)
    if source:
        context = replace(context, source=source, token_file=None)
    elif options.token_file:
        context = replace(context, source=None)
    if not context.target:
        raise typer.BadParameter("a new context needs --target HOST:PORT")
    contexts.Contexts({**stored.contexts, name: context}, stored.current).write()
    out.print_line(f"context {name} is set: {context.target}")
    if name != stored.current:
        out.note(f"kfadapter config use {name} makes it the current one; --context {name} uses it once")
    if issuer:
        out.note(f"log in: {shlex.join(['kfadapter', '--context', name, 'login'])}")


def use(name: Annotated[str, argument("Context; none if omitted.", context_names, "[NAME]")] = "") -> None:
    """Make a context the current one."""
    from kfadapter_grpc.client.client import DEFAULT_TARGET

    stored = contexts.read()
    target = stored.get(name).target if name else DEFAULT_TARGET
    contexts.Contexts(stored.contexts, name).write()
    out.print_line(f"{f'context {name}' if name else 'no context'} is the current one: {target}")


def list_(*, output: Output = "table") -> None:
    """List contexts."""
    stored = contexts.read()
    names = sorted(stored.contexts)
    if output == "name":
        out.print_names(names)
    elif output != "table":
        out.print_document([_context_row(stored, name) for name in names], output)
    elif not names:
        out.note("no contexts; kfadapter config set NAME --target HOST:PORT creates one")
    else:
        named = [(name, stored.contexts[name]) for name in names]
        rows = [
            (
                "*" if name == stored.current else "",
                name,
                context.target or "",
                context.namespace,
                "yes" if context.tls or context.ca or context.client_certificate or context.server_name else "",
                contexts.token_source(context),
            )
            for name, context in named
        ]
        steps = (out.Shrink("TOKEN", 12), out.Shrink("TOKEN", 0))
        out.print_table(("", "NAME", "TARGET", "NAMESPACE", "TLS", "TOKEN"), rows, steps=steps)


def show(
    options: Annotated[ClientOptions, "context"],
    name: Annotated[str, argument("Context; defaults to that in use.", context_names, "[NAME]")] = "",
    *,
    output: Output = "table",
) -> None:
    """Show a context."""
    name, stored = name or _used(options), contexts.read()
    stored.get(name)
    row = _context_row(stored, name)
    if exec_ := row.pop("exec", None) if output == "table" else None:
        row["exec"] = shlex.join([exec_["command"], *exec_.get("args", [])])
    texts = {key: "yes" if value is True else str(value or "") for key, value in row.items()}
    fields = [(key.replace("_", " ").capitalize(), text) for key, text in texts.items()]
    out.print_record(row, output, name=name, table=lambda: out.print_fields(fields))


def current(options: Annotated[ClientOptions, "context"]) -> None:
    """Print the name of the context in use."""
    out.print_names([_used(options)])


def delete(name: Name) -> None:
    """Delete a context; the files that it names stay."""
    stored = contexts.read()
    stored.get(name)
    rest = {key: value for key, value in stored.contexts.items() if key != name}
    contexts.Contexts(rest, "" if name == stored.current else stored.current).write()
    out.print_line(f"deleted context {name}")


config = group("List, show, set, use and delete named contexts: adapters.", set_, use, list_, show, current, delete)


def _used(options: ClientOptions) -> str:
    from kfadapter_grpc.client.client import TARGET_VARIABLE

    name, _ = contexts.in_use(options)
    if not name:
        raise NotFoundError(
            "no context is in use",
            why=f"none is current, or --target or {TARGET_VARIABLE} names an adapter without one",
            next_step="kfadapter config list\nthen kfadapter config use NAME",
        )
    return name


def _context_row(stored: contexts.Contexts, name: str) -> dict[str, Any]:
    row = {"name": name, "current": name == stored.current, **contexts.to_json(stored.contexts[name])}
    if env := row.get("exec", {}).get("env"):
        row["exec"] = {**row["exec"], "env": dict.fromkeys(env, "...")}  # a value may be a secret
    return row


def _source(
    old: contexts.Context, login: tuple[str, str, str], command: str, env: list[str]
) -> contexts.TokenSource | None:
    """Returns the source of the token, if it is set: a login, a new command, or the previous one with variables."""
    from kfadapter_grpc.client.exec_plugin import ExecPlugin

    if any(login):
        if command or env:
            raise typer.BadParameter("one of --issuer and --exec gives the token")
        if login_source := contexts.try_login(old, *login):
            return login_source
        raise typer.BadParameter("--issuer URL and --client-id ID go together")
    if not (command or env):
        return None
    pairs = [text.partition("=") for text in env]
    if not all(name and equals for name, equals, _ in pairs):
        raise typer.BadParameter("--exec-env is NAME=VALUE")
    before = old.source if isinstance(old.source, ExecPlugin) and not command else None
    try:
        arguments = [before.command, *before.args] if before else shlex.split(command)
    except ValueError as error:
        raise typer.BadParameter(f"--exec cannot be split into words: {error}") from None
    if not arguments:
        raise typer.BadParameter("--exec is a command with its arguments")
    if "/" in arguments[0]:
        arguments[0] = str(Path(arguments[0]).expanduser().absolute())
    variables = before.env if before else {}
    return ExecPlugin(arguments[0], tuple(arguments[1:]), {**variables, **{name: value for name, _, value in pairs}})
