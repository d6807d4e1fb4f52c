"""The settings of authentication and TLS, and all that can be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.certificates import CertificateAuthority, Pair

from kfadapter_grpc.auth.access import ClientNames
from kfadapter_grpc.auth.certificates import server_certificate
from kfadapter_grpc.contract.call import Role
from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

TOKEN_LINE = "ci reader sha256:" + "0a" * 32


@dataclass(frozen=True)
class Files:
    """The files of a server."""

    folder: Path
    ca: CertificateAuthority
    server: Pair

    def tls(self) -> dict[str, object]:
        """Settings that switch TLS on."""
        certificate, key = self.server.write(self.folder, "server")
        return {"tls_certificate": certificate, "tls_key": key}

    def mtls(self) -> dict[str, object]:
        """Settings that require client certificates, too."""
        return {**self.tls(), "tls_client_ca": self.ca.write(self.folder)}

    def write(self, name: str, data: bytes | str) -> Path:
        """Writes a file."""
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A CA and a certificate."""
    ca = CertificateAuthority()
    return Files(tmp_path, ca, ca.issue("localhost"))


def load(**flags: object) -> Settings:
    """Loads settings."""
    return Settings.load(config=None, **flags)


def mistakes(**flags: object) -> tuple[str, ...]:
    """Loads invalid settings; returns the messages."""
    with pytest.raises(SettingsError) as caught:
        load(**flags)
    return caught.value.lines


def mistake(**flags: object) -> str:
    """Loads settings with one mistake; returns its message."""
    (line,) = mistakes(**flags)
    return line


def test_tls_needs_no_flag(files: Files) -> None:
    """With TLS any address may be listened on."""
    settings = load(listen="0.0.0.0:50051", **files.tls())
    assert not settings.insecure_listen


def test_tokens_need_tls_where_others_listen(files: Files) -> None:
    """A token file does not replace TLS: without TLS the flag is needed, and the mistake names the risk."""
    tokens = files.write("tokens", TOKEN_LINE)
    assert load(token_file=tokens).token_file == tokens
    line = mistake(listen="0.0.0.0:50051", token_file=tokens)
    assert line.startswith(
        "insecure_listen (KFADAPTER_INSECURE_LISTEN): others can reach 0.0.0.0:50051, and without TLS"
    )
    assert "calls and their tokens can be read" in line
    assert "--insecure-listen" in line
    assert load(listen="0.0.0.0:50051", token_file=tokens, insecure_listen=True)


def test_a_wrong_certificate_is_one_mistake(files: Files) -> None:
    """Consequences of a reported mistake are not reported as well."""
    none = files.folder / "none"
    line = mistake(**{**files.tls(), "listen": "0.0.0.0:1", "tls_certificate": none})
    assert line == f"tls_certificate (KFADAPTER_TLS_CERTIFICATE): {none} cannot be read: No such file or directory"


@pytest.mark.parametrize("alone", ["tls_certificate", "tls_key"])
def test_certificate_and_key_go_together(files: Files, alone: str) -> None:
    """A certificate without its key, or a key without its certificate, is a mistake."""
    line = mistake(**{alone: files.tls()[alone]})
    assert line == "tls_key (KFADAPTER_TLS_KEY): tls_certificate and tls_key must both be set, or neither"


def test_certificates_that_cannot_be_used(files: Files) -> None:
    """A certificate that is invalid, expired or not valid yet is reported as such."""
    good = files.tls()
    expired = files.write("expired.pem", files.ca.issue("x", days=(-3, -1)).certificate)
    early = files.write("early.pem", files.ca.issue("x", days=(1, 2)).certificate)
    rubbish = files.write("rubbish.pem", "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    assert "the certificate expired on 20" in mistake(**{**good, "tls_certificate": expired})
    assert "the certificate is not valid before 20" in mistake(**{**good, "tls_certificate": early})
    assert mistake(**{**good, "tls_certificate": rubbish}).endswith("it has no certificate in PEM form")
    assert mistake(**{**good, "tls_certificate": files.folder}).endswith("cannot be read: it is not a file")


def test_keys_that_cannot_be_used(files: Files) -> None:
    """A key that does not match, is encrypted or is invalid is reported as such, and nothing of it is shown."""
    good = files.tls()
    other = files.write("other.key", files.ca.issue("x").key)
    encrypted = files.write("encrypted.key", files.server.encrypted_key)
    rubbish = files.write("rubbish.key", "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n")
    start = "tls_key (KFADAPTER_TLS_KEY): "
    assert mistake(**{**good, "tls_key": other}) == f"{start}{other}: the key is not the one of the certificate"
    assert mistake(**{**good, "tls_key": encrypted}) == (
        f"{start}{encrypted}: the key is encrypted; the server needs it without a password"
    )
    assert mistake(**{**good, "tls_key": rubbish}) == f"{start}{rubbish}: there is no private key in PEM form in it"


def test_client_ca(files: Files) -> None:
    """Client certificates need TLS, a valid CA, and names."""
    good = files.mtls()
    expired = CertificateAuthority(days=(-3, -1)).write(files.folder, "expired")
    assert load(**good, tls_client_names="manager")
    assert load(**good, tls_client_readers="*")
    assert "tls_certificate and tls_key, too" in mistake(tls_client_ca=good["tls_client_ca"], tls_client_names="x")
    assert "its certificates have expired, the last one on 20" in mistake(
        **{**good, "tls_client_ca": expired, "tls_client_names": "x"}
    )
    assert mistake(**good).startswith("tls_client_readers (KFADAPTER_TLS_CLIENT_READERS): no client could call")
    assert "need tls_client_ca" in mistake(tls_client_names="manager")
    assert "need tls_client_ca" in mistake(tls_client_readers="manager")


def test_token_file(files: Files) -> None:
    """A token file that cannot be read, is empty or invalid is reported with its lines."""
    empty, wrong = files.write("empty", "# nobody\n"), files.write("wrong", f"{TOKEN_LINE}\nci admin x\nci\n")
    start = "token_file (KFADAPTER_TOKEN_FILE): "
    assert mistake(token_file=files.folder / "none").startswith(f"{start}{files.folder / 'none'} cannot be read: ")
    assert mistake(token_file=empty).startswith(f"{start}{empty}: it holds no token; `kfadapter token NAME")
    assert mistake(token_file=wrong) == (
        f"{start}{wrong}: line 2: the role must be reader or writer; "
        "line 3: it must hold name, role, hash and perhaps the last day"
    )


def test_channelz_listen() -> None:
    """Channelz is served on loopback only."""
    assert load(channelz_listen="127.0.0.1:50053").channelz_listen == "127.0.0.1:50053"
    assert mistake(channelz_listen="50053").startswith("channelz_listen (KFADAPTER_CHANNELZ_LISTEN): must be HOST:PORT")
    assert "channelz has no authentication" in mistake(channelz_listen="0.0.0.0:50053")


def test_health_listen() -> None:
    """The health listener needs an address of the same form; it may be reachable from other machines."""
    assert load(health_listen="0.0.0.0:50052").health_listen == "0.0.0.0:50052"
    assert mistake(health_listen="50052").startswith("health_listen (KFADAPTER_HEALTH_LISTEN): must be HOST:PORT")


def test_all_mistakes_at_once(files: Files) -> None:
    """Every mistake in authentication and TLS is reported at once."""
    wrong = files.write("wrong", "x")
    reported = mistakes(listen="0.0.0.0:1", tls_key=wrong, tls_client_ca=wrong, token_file=wrong, health_listen="x")
    assert [line.partition(" ")[0] for line in reported] == [
        "tls_key",
        "tls_client_ca",
        "token_file",
        "health_listen",
        "insecure_listen",
    ]


def test_certificate_shows_no_key(files: Files) -> None:
    """The repr of a server certificate holds no key."""
    read = server_certificate(files.server.certificate, files.server.key)
    assert "PRIVATE" not in repr(read)
    assert f"{read.expires:%Y-%m-%d}" in repr(read)


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (["manager"], Role.WRITER),
        (["spiffe://cluster/ns/ml/sa/manager"], Role.WRITER),
        (["viewer"], Role.READER),
        (["manager", "viewer"], Role.READER),
        (["both"], Role.READER),
        (["other", "manager"], Role.WRITER),
        (["Manager"], None),
        (["manager.example"], None),
        ([], None),
    ],
)
def test_names_and_roles(names: list[str], role: Role | None) -> None:
    """A listed name is a writer unless it is listed as a reader; names must match exactly."""
    known = ClientNames("manager, spiffe://cluster/ns/ml/sa/manager ,both,", "viewer,both")
    holder = known.try_holder(names)
    assert (holder.role if holder else None) is role
    assert holder is None or (holder.name in names and holder.is_caller)


def test_any_name() -> None:
    """`*` lets every certificate of the CA call; a name that is listed takes precedence."""

    def found(writers: str, readers: str, *names: str) -> tuple[str, Role | None]:
        holder = ClientNames(writers, readers).try_holder(names)
        assert holder
        return holder.name, holder.role

    assert found("*", "viewer", "viewer") == ("viewer", Role.READER)
    assert found("manager", "*", "manager") == ("manager", Role.WRITER)
    assert found("manager", "*", "other") == ("other", Role.READER)
    assert found("*", "") == ("a certificate without a name", Role.WRITER)
