"""The constraints on the server's settings, each and together, and the file with the token for KFP.

The parameters of a check are names of settings; the mistake is about the first one.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

from kfadapter_grpc.addresses import OFF, is_loopback, split_address
from kfadapter_grpc.auth.access import split_names
from kfadapter_grpc.auth.access_rules import parse_rules
from kfadapter_grpc.auth.certificates import check_ca, check_certificate, check_key
from kfadapter_grpc.auth.issuers import parse_issuers
from kfadapter_grpc.auth.reloaded_files import read_small
from kfadapter_grpc.auth.tokens import parse_tokens
from kfadapter_grpc.daemon.appended_file import STREAMS

T = TypeVar("T")

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""Where the kfp SDK, and so most deployments, has Kubernetes mount the token of a service account for KFP."""
SERVICE_ACCOUNT_TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - a name
"""The variable with another path, as for the kfp SDK."""
SERVICE_ACCOUNT_AUDIENCE = "pipelines.kubeflow.org"
"""The audience that KFP expects in such a token, unless configured otherwise."""
_SERVICE_AND_NAMESPACE = 2
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_OWN_HEADERS = frozenset({"authorization", "host", "content-length", "content-type", "connection", "transfer-encoding"})


def token_path(kfp_credentials: str, kfp_token_file: Path | None) -> Path | None:
    """Returns the file with the adapter's own token for KFP; None if these credentials have none."""
    if kfp_credentials == "service-account":
        return Path(os.environ.get(SERVICE_ACCOUNT_TOKEN_VARIABLE) or SERVICE_ACCOUNT_TOKEN)
    return kfp_token_file if kfp_credentials == "token-file" else None


def is_inside(host: str) -> bool:
    """Whether a host is on this machine, or inside a cluster or a private network, where plain http is common.

    A Service of Kubernetes is called `ml-pipeline`, `ml-pipeline.kubeflow` or `ml-pipeline.kubeflow.svc...`, so names
    of one or two parts are considered to be inside.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.rstrip(".").split(".")
        return len(labels) <= _SERVICE_AND_NAMESPACE or "svc" in labels or labels[-1] in {"local", "internal"}
    return address.is_private or address.is_loopback


def _insecure_listen(insecure_listen: bool, listen: str, tls_certificate: Path | None) -> None:
    if not (insecure_listen or tls_certificate or is_loopback(split_address(listen)[0])):
        raise ValueError(
            f"others can reach {listen}, and without TLS calls and their tokens can be read and changed in "
            "transit; set tls_certificate and tls_key, listen on 127.0.0.1, or accept the risk with --insecure-listen"
        )


def _channelz_listen(channelz_listen: str) -> None:
    if channelz_listen and not is_loopback(split_address(channelz_listen)[0]):
        raise ValueError(f"channelz has no authentication, and others can reach {channelz_listen}; use 127.0.0.1")


def _key(tls_key: Path | None, tls_certificate: Path | None) -> None:
    if (tls_key is None) != (tls_certificate is None):
        raise ValueError("tls_certificate and tls_key must both be set, or neither")
    if tls_key is not None and tls_certificate is not None:
        leaf = _parsed(tls_certificate, check_certificate)
        _parsed(tls_key, lambda data: check_key(data, leaf))


def _client_ca_needs_tls(tls_client_ca: Path | None, tls_certificate: Path | None) -> None:
    if tls_client_ca is not None and tls_certificate is None:
        raise ValueError("client certificates need TLS: set tls_certificate and tls_key, too")


def _client_names(
    tls_client_readers: str,
    tls_client_names: str,
    tls_client_proxies: str,
    tls_client_ca: Path | None,
    access_rules: Path | None,
) -> None:
    named = split_names(tls_client_readers) | split_names(tls_client_names) | split_names(tls_client_proxies)
    if tls_client_ca is None and named:
        raise ValueError("names in client certificates need tls_client_ca, the CA of the certificates that count")
    if tls_client_ca is not None and not (named or access_rules):
        raise ValueError(
            "no client could call: list names in tls_client_names or tls_client_readers; * matches every "
            "certificate of tls_client_ca"
        )


def _client_proxies(tls_client_proxies: str, token_file: Path | None, issuers: Path | None) -> None:
    if split_names(tls_client_proxies) and not (token_file or issuers):
        raise ValueError("proxies send their callers' tokens, so token_file or issuers must be set")


def _user_header(kfp_user_header: str, kfp_credentials: str, kfp_url: str) -> None:
    if not kfp_user_header:
        return
    if not _HEADER.fullmatch(kfp_user_header) or kfp_user_header.lower() in _OWN_HEADERS:
        raise ValueError("must be the name of a header, as kubeflow-userid")
    if kfp_credentials == "forward":
        raise ValueError("Kubeflow Pipelines identifies callers by what forward sends; use one of the two")
    _refuse_clear_text(kfp_url, "send the caller's name")


def _user_of_callers(
    kfp_user_header: str, token_file: Path | None, issuers: Path | None, tls_client_ca: Path | None
) -> None:
    if kfp_user_header:
        _ensure_callers(token_file, issuers, tls_client_ca)


def _user_prefix(kfp_user_prefix: str, kfp_user_header: str) -> None:
    if kfp_user_prefix and not kfp_user_header:
        raise ValueError("has no effect without kfp_user_header")
    if not (kfp_user_prefix.isascii() and (kfp_user_prefix.isprintable())):
        raise ValueError("must be printable ASCII")


def _access_rules(
    access_rules: Path | None, token_file: Path | None, issuers: Path | None, tls_client_ca: Path | None
) -> None:
    if access_rules is None:
        return
    _parsed(access_rules, parse_rules)
    _ensure_callers(token_file, issuers, tls_client_ca)


def _kfp_url(kfp_url: str) -> None:
    parts = urlsplit(kfp_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password")
    if parts.query or parts.fragment:
        raise ValueError("must end with the path, without ? and #")
    _ = parts.port  # raises ValueError, with a message, for an invalid port


def _forwarded(kfp_credentials: str, token_file: Path | None, issuers: Path | None) -> None:
    if kfp_credentials == "forward" and (token_file or issuers):
        raise ValueError(
            f"forward would hand the tokens of {'token_file' if token_file else 'issuers'} on to Kubeflow Pipelines, "
            "as a call carries one authorization; authenticate callers by certificate (tls_client_ca), or leave it to "
            "Kubeflow Pipelines"
        )


def _in_clear_text(kfp_credentials: str, kfp_url: str) -> None:
    if kfp_credentials != "none":
        _refuse_clear_text(kfp_url, "send credentials")


def _kfp_token(kfp_token_file: Path | None, kfp_credentials: str) -> None:
    if kfp_token_file is not None and kfp_credentials != "token-file":
        raise ValueError(f"is used only with kfp_credentials = token-file, not with {kfp_credentials}")
    path = token_path(kfp_credentials, kfp_token_file)
    if path is None and kfp_credentials == "token-file":
        raise ValueError("kfp_credentials = token-file needs it")
    if path is None or _has_content(path):
        return
    hint = (
        f"; mount a projected token with the audience {SERVICE_ACCOUNT_AUDIENCE} there, "
        f"or set its path in {SERVICE_ACCOUNT_TOKEN_VARIABLE}"
    )
    raise ValueError(f"{path} cannot be read, or is empty{hint if kfp_credentials == 'service-account' else ''}")


def _kfp_ca(kfp_ca_file: Path | None, kfp_url: str) -> None:
    if kfp_ca_file is None:
        return
    _needs_https(kfp_url)
    _certificates(kfp_ca_file)


def _certificates(path: Path) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # some errors of ssl are OSErrors
        raise ValueError(f"{path} holds no certificates in PEM form ({error.strerror or error})") from None


def _kfp_certificate(kfp_client_key: Path | None, kfp_client_certificate: Path | None, kfp_url: str) -> None:
    if (kfp_client_certificate is None) != (kfp_client_key is None):
        raise ValueError("kfp_client_certificate and kfp_client_key belong together")
    if kfp_client_certificate is None or kfp_client_key is None:
        return
    _needs_https(kfp_url)
    try:
        context = ssl.create_default_context()
        context.load_cert_chain(kfp_client_certificate, kfp_client_key, password=_no_password)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ValueError(
            f"{kfp_client_certificate} and {kfp_client_key} are no certificate and its key, not encrypted, in PEM form "
            f"({why})"
        ) from None


def _mlmd_ca(mlmd_ca: Path | None, mlmd_tls: bool) -> None:
    if mlmd_ca is None:
        return
    if not mlmd_tls:
        raise ValueError("it has no effect without mlmd_tls")
    _certificates(mlmd_ca)


def _artifact_stores(artifact_stores: Path | None) -> None:
    if artifact_stores is not None:
        from kfadapter_grpc.kfp.artifact_stores import read_store_entries  # noqa: PLC0415  loads all of kfp/

        _parsed(artifact_stores, read_store_entries)


def _artifact_folder(artifact_folder: Path | None) -> None:
    if artifact_folder is not None and not artifact_folder.is_dir():
        raise ValueError(f"{artifact_folder} is not a folder")


def _audit_log(audit_log: str) -> None:
    if audit_log not in ("", OFF, *STREAMS):
        folder = Path(audit_log).parent
        if Path(audit_log).is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise ValueError(f"{audit_log} cannot be written: it must be a file in a folder that can be written to")


def _audit_reads(audit_reads: bool, audit_log: str) -> None:
    if audit_reads and audit_log in ("", OFF):
        raise ValueError("it has no effect without audit_log")


def _upload_dir(upload_dir: Path | None) -> None:
    if upload_dir is not None and not (upload_dir.is_dir() and os.access(upload_dir, os.W_OK)):
        raise ValueError(f"{upload_dir} is not a folder that can be written to")


CHECKS: tuple[Callable[..., object], ...] = (
    lambda listen: split_address(listen),  # noqa: PLW0108 - its parameter is the name
    lambda metrics_listen: metrics_listen in ("", OFF) or split_address(metrics_listen),
    lambda health_listen: health_listen and split_address(health_listen),
    _channelz_listen,
    lambda tls_certificate: tls_certificate and _parsed(tls_certificate, check_certificate),
    _key,
    _client_ca_needs_tls,
    lambda tls_client_ca: tls_client_ca and _parsed(tls_client_ca, check_ca),
    _client_names,
    _client_proxies,
    lambda token_file: token_file and _parsed(token_file, parse_tokens),
    lambda issuers: issuers and _parsed(issuers, parse_issuers),
    _user_header,
    _user_of_callers,
    _user_prefix,
    _access_rules,
    _insecure_listen,
    _kfp_url,
    _forwarded,
    _in_clear_text,
    _kfp_token,
    _kfp_ca,
    _kfp_certificate,
    lambda mlmd_address: mlmd_address and split_address(mlmd_address),
    _mlmd_ca,
    _artifact_stores,
    _artifact_folder,
    _upload_dir,
    _audit_log,
    _audit_reads,
)


def _parsed(path: Path, parse: Callable[[bytes], T]) -> T:
    """Reads and parses a file. Raises ValueError if it cannot be read, or is invalid."""
    try:
        data = read_small(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return parse(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _ensure_callers(*files: Path | None) -> None:
    if not any(files):
        raise ValueError("needs authenticated callers: set token_file, issuers or tls_client_ca")


def _refuse_clear_text(kfp_url: str, doing: str) -> None:
    parts = urlsplit(kfp_url)
    if parts.scheme == "http" and not is_inside(parts.hostname or ""):
        raise ValueError(
            f"would {doing} to {parts.hostname} over http, where all on the way can read them; "
            "use https, or a name inside the cluster"
        )


def _has_content(path: Path) -> bool:
    try:
        return bool(path.read_bytes().strip())
    except OSError:
        return False


def _needs_https(kfp_url: str) -> None:
    if urlsplit(kfp_url).scheme != "https":
        raise ValueError("is used only where kfp_url begins with https://")


def _no_password() -> NoReturn:
    raise ValueError("the key is encrypted")
