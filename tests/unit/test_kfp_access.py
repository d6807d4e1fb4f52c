"""Settings for the connection to KFP and its credentials; all are checked before the server starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from kfadapter_grpc.kfp.credentials import Credentials, ForwardedCredentials, TokenFile
from kfadapter_grpc.server.kfp import credentials
from kfadapter_grpc.setting_checks import SERVICE_ACCOUNT_TOKEN, is_inside, token_path
from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

HTTPS = "https://kfp.example.org"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A file with a token."""
    path = tmp_path / "token"
    path.write_text("canary")
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Files: the certificate of an authority, a client certificate of it, and its key."""
    ca = trustme.CA()
    made = ca.issue_cert("adapter@example.org")
    files = (tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    for blob, path in zip((ca.cert_pem, made.cert_chain_pems[0], made.private_key_pem), files, strict=True):
        blob.write_to_path(path)
    return files


def mistake(**settings: object) -> str:
    """Loads settings with one mistake; returns its message."""
    with pytest.raises(SettingsError) as caught:
        Settings.load(config=None, **settings)
    (line,) = caught.value.lines
    assert "canary" not in line
    return line


def test_kinds_of_credentials(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of credentials is what the server sends to KFP."""
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    assert type(credentials(Settings.load())) is Credentials
    assert isinstance(credentials(Settings.load(kfp_credentials="forward")), ForwardedCredentials)
    for kind, file in (("token-file", token), ("service-account", None)):
        own = credentials(Settings.load(kfp_credentials=kind, kfp_token_file=file))
        assert isinstance(own, TokenFile)
        assert str(token) in repr(own)


def test_where_kubernetes_puts_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of the token is the one of the kfp SDK, or the one in its variable."""
    from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH  # noqa: PLC0415 - slow to import

    assert str(token_path("service-account", None)) == KF_PIPELINES_SA_TOKEN_PATH == str(SERVICE_ACCOUNT_TOKEN)
    monkeypatch.setenv(KF_PIPELINES_SA_TOKEN_ENV, "/elsewhere")
    assert str(token_path("service-account", None)) == "/elsewhere"


def test_tokens_that_are_missing(tmp_path: Path, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is needed but missing, or set but unused, is a mistake."""
    (tmp_path / "empty").write_text(" \n")
    assert "needs it" in mistake(kfp_credentials="token-file")
    for path in (tmp_path / "empty", tmp_path / "missing", tmp_path):
        assert f"{path} cannot be read" in mistake(kfp_credentials="token-file", kfp_token_file=path)
    for kind in ("none", "service-account", "forward"):
        assert f"not with {kind}" in mistake(kfp_credentials=kind, kfp_token_file=token)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "missing"))
    output = mistake(kfp_credentials="service-account")
    assert "pipelines.kubeflow.org" in output
    assert "KF_PIPELINES_SA_TOKEN_PATH" in output


def test_a_call_carries_one_authorization(tmp_path: Path) -> None:
    """Tokens that callers send to the adapter are never forwarded to KFP: `forward` with a token file is rejected."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"manager writer sha256:{'0' * 64}\n")
    assert "tls_client_ca" in mistake(kfp_credentials="forward", token_file=tokens)
    assert Settings.load(token_file=tokens).kfp_credentials == "none"


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        *[(host, True) for host in ("127.0.0.1", "::1", "localhost", "10.1.2.3", "192.168.0.7", "fd00::1")],
        *[(host, True) for host in ("ml-pipeline", "ml-pipeline.kubeflow", "ml-pipeline.kubeflow.svc")],
        *[(host, True) for host in ("ml-pipeline.kubeflow.svc.cluster.local.", "kfp.ops.internal")],
        *[(host, False) for host in ("8.8.8.8", "2001:4860:4860::8888", "kfp.example.org", "kfp.ml.example.org")],
    ],
)
def test_credentials_in_clear_text(host: str, inside: bool) -> None:
    """Over plain http, credentials are only sent to this machine, a private network or a Service of the cluster."""
    assert is_inside(host) is inside
    url = f"http://[{host}]:8888" if ":" in host else f"http://{host}:8888"
    if inside:
        assert Settings.load(kfp_url=url, kfp_credentials="forward").kfp_url == url
    else:
        assert "use https" in mistake(kfp_url=url, kfp_credentials="forward")
    assert Settings.load(kfp_url=url).kfp_credentials == "none"
    assert Settings.load(kfp_url=url.replace("http:", "https:"), kfp_credentials="forward")


def test_certificates(certificate: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Valid files are accepted; each mistake is reported with its file."""
    ca, cert, key = certificate
    taken = Settings.load(kfp_url=HTTPS, kfp_ca_file=ca, kfp_client_certificate=cert, kfp_client_key=key)
    assert (taken.kfp_ca_file, taken.kfp_client_certificate, taken.kfp_client_key) == (ca, cert, key)

    (tmp_path / "text").write_text("canary")
    for path in (tmp_path / "text", tmp_path / "missing", key):
        assert str(path) in mistake(kfp_url=HTTPS, kfp_ca_file=path)
    for one, other in ((cert, tmp_path / "text"), (tmp_path / "missing", key), (ca, key)):
        output = mistake(kfp_url=HTTPS, kfp_client_certificate=one, kfp_client_key=other)
        assert str(one) in output
        assert str(other) in output
    assert "belong together" in mistake(kfp_url=HTTPS, kfp_client_certificate=cert)
    assert "belong together" in mistake(kfp_url=HTTPS, kfp_client_key=key)


def test_certificates_that_would_not_be_used(certificate: tuple[Path, Path, Path]) -> None:
    """Certificates for an address without TLS are a mistake, as they would not be used."""
    ca, cert, key = certificate
    assert "https://" in mistake(kfp_url="http://ml-pipeline", kfp_ca_file=ca)
    assert "https://" in mistake(kfp_url="http://ml-pipeline", kfp_client_certificate=cert, kfp_client_key=key)


def test_an_encrypted_key(certificate: tuple[Path, Path, Path]) -> None:
    """A key with a password is rejected at once; the password is not prompted for."""
    _, cert, key = certificate
    made = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary")))
    assert "encrypted" in mistake(kfp_url=HTTPS, kfp_client_certificate=cert, kfp_client_key=key)
