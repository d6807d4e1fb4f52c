"""The options that say who calls, and how the adapter is known."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from typing_extensions import Self

    from kfadapter_grpc.client import Tls


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """What was given of them; where nothing was, the environment counts.

    Attributes:
        tls: Use TLS.
        ca: The CAs that the adapter's certificate may lead to.
        server_name: The name that it must have.
        client_certificate: The client's own certificate.
        client_key: Its private key.
        token_file: A file that holds a token.
        insecure_token: Send the token without TLS, too.
    """

    tls: bool = False
    ca: Path | None = None
    server_name: str = ""
    client_certificate: Path | None = None
    client_key: Path | None = None
    token_file: Path | None = None
    insecure_token: bool = False

    @classmethod
    def names(cls) -> frozenset[str]:
        """Their names."""
        return frozenset(field.name for field in fields(cls))

    def override(self, given: Mapping[str, object]) -> Self:
        """Takes what is given, by their names, before what was given before; other names are passed over."""
        return replace(self, **{name: value for name, value in given.items() if value and name in self.names()})  # type: ignore[arg-type]

    def words(self) -> Iterator[str]:
        """Spells them as they are typed."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value:
                yield f"--{field.name.replace('_', '-')}"
                if value is not True:
                    yield str(value)

    def try_tls(self) -> Tls | None:
        """Tells whether and how TLS is used: each option counts before its variable."""
        from kfadapter_grpc.client import credentials  # noqa: PLC0415  loads gRPC, which `--help` does not need

        given = {
            credentials.TLS_VARIABLE: "1" if self.tls else "",
            credentials.CA_VARIABLE: str(self.ca or ""),
            credentials.SERVER_NAME_VARIABLE: self.server_name,
            credentials.CERTIFICATE_VARIABLE: str(self.client_certificate or ""),
            credentials.KEY_VARIABLE: str(self.client_key or ""),
        }
        return credentials.Tls.try_from_environment({**os.environ, **{k: v for k, v in given.items() if v}})
