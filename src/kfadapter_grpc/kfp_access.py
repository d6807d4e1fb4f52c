"""What settings may say of how Kubeflow Pipelines is reached, and as whom."""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from typing import NoReturn

KfpCredentials: TypeAlias = Literal["none", "token-file", "service-account", "forward"]
"""As whom KFP is asked."""
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""Where the kfp SDK, and so most deployments, has Kubernetes put the token of a service account for KFP."""
SERVICE_ACCOUNT_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - a name
"""Names another place, as for the kfp SDK."""
SERVICE_ACCOUNT_AUDIENCE = "pipelines.kubeflow.org"
"""The audience that KFP asks for in such a token, unless configured otherwise."""
KUBERNETES_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts the token of a pod's service account, its own authorities, and the pod's namespace."""

_SERVICE_AND_NAMESPACE = 2


def token_path(credentials: KfpCredentials, token_file: Path | None) -> Path | None:
    """Tells where the adapter's own token is; None where it has none."""
    if credentials == "service-account":
        return Path(os.environ.get(SERVICE_ACCOUNT_TOKEN_VARIABLE) or SERVICE_ACCOUNT_TOKEN)
    return token_file if credentials == "token-file" else None


def check_credentials(credentials: KfpCredentials, kfp_url: str, *, takes_tokens: bool) -> None:
    """Sees whether credentials may go to an address.

    Args:
        credentials: Which ones.
        kfp_url: The address.
        takes_tokens: Whether the adapter's own callers show it tokens.

    Raises:
        ValueError: They would go over the open network in clear text, or tokens that are for the adapter to KFP.
    """
    if credentials == "forward" and takes_tokens:
        raise ValueError(
            "forward would hand the tokens of token_file on to Kubeflow Pipelines, as a call carries one "
            "authorization; let callers in by certificate (tls_client_ca), or leave it to Kubeflow Pipelines"
        )
    parts = urlsplit(kfp_url)
    if credentials != "none" and parts.scheme == "http" and not is_inside(parts.hostname or ""):
        raise ValueError(
            f"would send credentials to {parts.hostname} over http, where all on the way can read them; "
            "use https, or a name inside the cluster"
        )


def is_inside(host: str) -> bool:
    """Whether a host is on this machine, or inside a cluster or a private network, where plain http is common.

    A Service of Kubernetes is called `ml-pipeline`, `ml-pipeline.kubeflow` or `ml-pipeline.kubeflow.svc...`, so names
    of one or two parts are taken for inside.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.rstrip(".").split(".")
        return len(labels) <= _SERVICE_AND_NAMESPACE or "svc" in labels or labels[-1] in {"local", "internal"}
    return address.is_private or address.is_loopback


def check_token_file(credentials: KfpCredentials, token_file: Path | None) -> None:
    """Sees whether there is a token where one is needed, and only there.

    Raises:
        ValueError: There is none, or one that would not be used; the text shows nothing of it.
    """
    if token_file is not None and credentials != "token-file":
        raise ValueError(f"is used only with kfp_credentials = token-file, not with {credentials}")
    path = token_path(credentials, token_file)
    if path is None and credentials == "token-file":
        raise ValueError("kfp_credentials = token-file needs it")
    if path is not None and not _has_content(path):
        raise ValueError(f"{path} cannot be read, or is empty" + _hint(credentials))


def check_ca_file(path: Path | None, kfp_url: str) -> None:
    """Sees whether certificates of authorities can be read, and would be used.

    Raises:
        ValueError: They cannot, or would not.
    """
    if path is None:
        return
    _needs_https(kfp_url)
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # of which the errors of ssl are some
        raise ValueError(f"{path} holds no certificates in PEM form ({error.strerror or error})") from None


def check_client_certificate(certificate: Path | None, key: Path | None, kfp_url: str) -> None:
    """Sees whether a client certificate and its key can be read, fit together, and would be used.

    Raises:
        ValueError: They cannot, do not, or would not.
    """
    if (certificate is None) != (key is None):
        raise ValueError("kfp_client_certificate and kfp_client_key belong together")
    if certificate is None or key is None:
        return
    _needs_https(kfp_url)
    try:
        ssl.create_default_context().load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{certificate} and {key} are no certificate and its key, not encrypted, in PEM form ({_why(error)})"
        ) from None


def _has_content(path: Path) -> bool:
    try:
        return bool(path.read_bytes().strip())
    except OSError:
        return False


def _hint(credentials: KfpCredentials) -> str:
    if credentials != "service-account":
        return ""
    return (
        f"; mount a projected token with the audience {SERVICE_ACCOUNT_AUDIENCE} there, "
        f"or name its place with {SERVICE_ACCOUNT_TOKEN_VARIABLE}"
    )


def _needs_https(kfp_url: str) -> None:
    if urlsplit(kfp_url).scheme != "https":
        raise ValueError("is used only where kfp_url begins with https://")


def _no_password() -> NoReturn:
    raise ValueError("the key is encrypted")


def _why(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
