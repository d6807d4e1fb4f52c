"""`kfadapter whoami`."""
# ruff: noqa: PLC0415  imports are deferred to keep the help fast

from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.option_types import Output
from kfadapter_grpc.cli.options import ClientOptions

if TYPE_CHECKING:
    from kfadapter_grpc.contract.identity import WhoAmI


def whoami(options: ClientOptions, *, output: Output = "table") -> None:
    """Show who the adapter takes you for, and your roles."""
    with options.client() as client:
        found = client.identity.who_am_i()
    out.print_record(found, output, name=found.name, table=lambda: out.print_fields(_fields(found)))


def _fields(found: "WhoAmI") -> list[tuple[str, str]]:
    from kfadapter_grpc.contract.identity import Way

    return [
        ("Name", found.name),
        ("Authentication", "none: everyone may call" if found.way is Way.NONE else found.way.value),
        ("Issuer", found.issuer),
        ("Subject", found.subject),
        ("Groups", "\n".join(found.groups)),
        ("Certificate", "\n".join(found.certificate_names)),
        ("Roles", "\n".join(f"{one.role.value} in {_where(one.namespace)}" for one in found.grants) or "none"),
        ("User of KFP", found.kfp_user),
        ("Version of KFP", found.kfp_version),
    ]


def _where(pattern: str) -> str:
    return {"*": "all namespaces", "": "no namespace"}.get(pattern, pattern)
