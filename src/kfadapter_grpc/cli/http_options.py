"""The options of commands that serve HTTP, which are also their environment variables."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from kfadapter_grpc.addresses import is_loopback, split_address
from kfadapter_grpc.setting_sources import SettingsError, unknown_variables


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What serves HTTP for others has these options, and further ones; `listen` has another default for each."""

    VARIABLES: ClassVar[str]
    """The prefix of the environment variables."""
    RISK: ClassVar[str]
    """What can happen without TLS."""

    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address to listen on.")]
    insecure_listen: Annotated[
        bool, typer.Option("--insecure-listen", help="Allow an address that others can reach without TLS.")
    ] = False
    tls_certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate of HTTPS.")] = None
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of the certificate.")] = None
    max_upload_bytes: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum size of a file.")] = (
        32 * 1024 * 1024
    )

    @property
    def is_exposed(self) -> bool:
        """Whether others can reach the address, and that is not accepted."""
        return not (self.insecure_listen or is_loopback(split_address(self.listen)[0]))

    def check(self) -> None:
        """Returns if the options are consistent.

        Raises:
            SettingsError: They are not, or a variable is unknown.
        """
        if unknown := [*unknown_variables(self.VARIABLES, {field.name for field in fields(self)})]:
            raise SettingsError(*unknown)
        try:
            is_exposed = self.is_exposed
        except ValueError as error:
            raise SettingsError(str(error)) from None
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise SettingsError("--tls-certificate and --tls-key go together")
        if is_exposed and not self.tls_certificate:
            raise SettingsError(
                f"others can reach {self.listen}, and without TLS {self.RISK}; set --tls-certificate and --tls-key,"
                " listen on 127.0.0.1, or accept the risk with --insecure-listen"
            )
