"""Bad tokens and bad keys of issuers: each with what the caller gets."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs
from tests.oidc import AUDIENCE, DISCOVERY, ISSUER, JWKS, claims, encoded, issuers_file, jwks, key, token

from kfadapter_grpc.auth import issuer_keys
from kfadapter_grpc.auth.bearer_tokens import SignedBearers
from kfadapter_grpc.auth.issuer_keys import FetchError, IssuerKeys, fetch_keys, parse_keys
from kfadapter_grpc.auth.issuers import Issuer, IssuersError, parse_issuers
from kfadapter_grpc.auth.reloaded_files import Reloaded
from kfadapter_grpc.auth.signed_tokens import identity_of, read_token
from kfadapter_grpc.auth.tokens import digest
from kfadapter_grpc.contract.call import Call, Caller, Role, role_in
from kfadapter_grpc.contract.errors import IssuerUnavailableError, UnauthenticatedError
from kfadapter_grpc.contract.identity import Way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kfadapter_grpc.auth.issuers import TokenReview

SECONDS = 30.0


class Documents:
    """Has the documents of the issuer; fails while there are none."""

    def __init__(self, *names: str) -> None:
        self.keys: bytes | None = json.dumps(jwks(*names)).encode()
        self.fetched: list[str] = []

    def __call__(self, url: str, seconds: float, ca_file: Path | None, token_file: Path | None) -> bytes:
        """Returns a document."""
        del seconds, ca_file, token_file
        self.fetched.append(url)
        if self.keys is None:
            raise FetchError("unreachable")
        if url == ISSUER + DISCOVERY:
            return json.dumps({"issuer": ISSUER, "jwks_uri": ISSUER + JWKS}).encode()
        return self.keys


@pytest.fixture(scope="module")
def bearers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedBearers]:
    """Verifies the tokens of one issuer with two keys."""
    file = issuers_file(tmp_path_factory.mktemp("issuers"), ISSUER)
    made = SignedBearers(Reloaded("the issuers", [file], parse_issuers), Documents("rsa", "ec"), _no_reviews)
    made.start()
    yield made
    made.stop()


def _no_reviews(_: TokenReview, __: str, ___: Call) -> tuple[int, bytes]:
    raise AssertionError


def ask(bearers: SignedBearers, text: str) -> Caller:
    """The caller of a token."""
    return bearers.caller(text, digest(text), Call("test", SECONDS))


def now() -> int:
    """The time, in seconds since 1970; a test may run long after this module is loaded."""
    return int(time.time())


def test_valid(bearers: SignedBearers) -> None:
    """A valid token has the identity that its claims say, also the second time, when it is remembered."""
    for text in (token(), token(by="ec"), token(kid=None), token(typ="at+jwt"), token(claims(aud=["x", AUDIENCE]))):
        for _ in range(2):
            who = ask(bearers, text).identity
            assert (who.name, who.way, who.issuer, who.subject) == ("alice", Way.ISSUER, ISSUER, "alice")
            assert who.groups == ("ml", "한국어")
    assert role_in("any", ask(bearers, token()).grants) is Role.WRITER
    assert ask(bearers, token(claims(exp=now() - 30, nbf=now() + 30, iat=now() + 30))).name == "alice"


@pytest.mark.parametrize(
    ("path", "changed", "groups"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["ml", "한국어"]}}, ("ml", "한국어")),
        ("resource_access.kfadapter.roles", {"resource_access": {"kfadapter": {"roles": "ml"}}}, ("ml",)),
        ("https://example.com/groups", {"https://example.com/groups": ["ml"]}, ("ml",)),
        (
            "kubernetes.io.groups",
            {"kubernetes.io": {"groups": ["ml"]}, "kubernetes": {"io": {"groups": ["x"]}}},
            ("x",),
        ),
        ("realm_access.roles", {"realm_access.roles": ["first"], "realm_access": {"roles": ["ml"]}}, ("first",)),
        ("realm_access.roles", {"realm_access": ["roles"]}, ()),
        ("realm_access.roles", {}, ()),
        ("groups.", {}, ()),
        ("", {}, ()),
    ],
)
def test_groups(path: str, changed: dict[str, object], groups: tuple[str, ...]) -> None:
    """Groups are in the claim of this name, or where a path through claims leads."""
    found = identity_of(read_token(token(claims(**changed))).claims, Issuer(ISSUER, (AUDIENCE,), groups_claim=path))
    assert found.groups == groups


def _hmac_with_public_key() -> str:
    pem = key().as_pem(private=False)
    signed = f"{encoded({'alg': 'HS256', 'kid': 'rsa'})}.{encoded(claims())}"
    return f"{signed}.{encoded(hmac.new(pem, signed.encode(), hashlib.sha256).digest())}"


def _unsigned(**header: object) -> str:
    return f"{encoded({'alg': 'RS256', 'kid': 'rsa', **header})}.{encoded(claims())}.AAAA"


def _changed() -> str:
    header, _, signature = token().split(".")
    return f"{header}.{encoded(claims(sub='root'))}.{signature}"


def _deep(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def _raw(**changed: object) -> bytes:
    return json.dumps(claims(**changed)).encode()


BAD: dict[str, tuple[Callable[[], str], str]] = {
    "expired": (lambda: token(claims(exp=now() - 61)), "EXPIRED"),
    "no exp": (lambda: token(claims(exp=None)), "CLAIMS"),
    "exp is a text": (lambda: token(claims(exp=str(now() + 300))), "CLAIMS"),
    "exp is true": (lambda: token(claims(exp=True)), "CLAIMS"),
    "exp is infinite": (lambda: token(_raw().replace(str(now())[:6].encode(), b"1e999", 1)), "MALFORMED|CLAIMS"),
    "nbf in the future": (lambda: token(claims(nbf=now() + 3600)), "NOT_YET_VALID"),
    "iat in the future": (lambda: token(claims(iat=now() + 3600)), "NOT_YET_VALID"),
    "wrong aud": (lambda: token(claims(aud="other")), "AUDIENCE"),
    "no aud": (lambda: token(claims(aud=None)), "AUDIENCE"),
    "empty aud": (lambda: token(claims(aud=[])), "AUDIENCE"),
    "aud of wrong types": (lambda: token(claims(aud=[AUDIENCE, 7])), "AUDIENCE"),
    "wrong iss": (lambda: token(claims(iss="https://other.example")), "UNKNOWN_ISSUER"),
    "iss with a slash more": (lambda: token(claims(iss=ISSUER + "/")), "UNKNOWN_ISSUER"),
    "no iss": (lambda: token(claims(iss=None)), "UNKNOWN_ISSUER"),
    "iss is a list": (lambda: token(claims(iss=[ISSUER])), "UNKNOWN_ISSUER"),
    "no sub": (lambda: token(claims(sub=None)), "CLAIMS"),
    "sub is a number": (lambda: token(claims(sub=7)), "CLAIMS"),
    "blank sub": (lambda: token(claims(sub=" ")), "CLAIMS"),
    "sub with a line break": (lambda: token(claims(sub="a\nb")), "CLAIMS"),
    "sub of 257 characters": (lambda: token(claims(sub="a" * 257)), "CLAIMS"),
    "groups of wrong types": (lambda: token(claims(groups=["ml", {}])), "CLAIMS"),
    "groups is an object": (lambda: token(claims(groups={"ml": 1})), "CLAIMS"),
    "alg none": (lambda: f"{encoded({'alg': 'none'})}.{encoded(claims())}.", "MALFORMED"),
    "alg none with a signature": (lambda: _unsigned(alg="none"), "ALGORITHM"),
    "alg missing": (lambda: _unsigned(alg=""), "ALGORITHM"),
    "alg is a list": (lambda: _unsigned(alg=["RS256"]), "MALFORMED"),
    "HS256 with the public key": (_hmac_with_public_key, "ALGORITHM"),
    "RS512, not allowed": (lambda: token(alg="RS512"), "ALGORITHM"),
    "ES256 with an RSA key": (lambda: token(by="ec", kid="rsa"), "ALGORITHM"),
    "unknown kid": (lambda: token(by="stranger"), "UNKNOWN_KEY"),
    "kid is a path": (lambda: token(kid="../../etc/passwd"), "UNKNOWN_KEY"),
    "kid is a number": (lambda: _unsigned(kid=7), "MALFORMED"),
    "wrong signature": (lambda: token(by="stranger", kid="rsa"), "SIGNATURE"),
    "changed claims": (_changed, "SIGNATURE"),
    "signature cut": (lambda: token()[:-8], "SIGNATURE"),
    "embedded jwk": (lambda: token(by="stranger", jwk=key("stranger").as_dict(private=False), kid="rsa"), "SIGNATURE"),
    "jku": (lambda: token(by="stranger", jku="https://evil.example/keys"), "UNKNOWN_KEY"),
    "x5u": (lambda: token(by="stranger", x5u="https://evil.example/x5u", kid="rsa"), "SIGNATURE"),
    "crit": (lambda: _unsigned(crit=["exp"], exp=1), "MALFORMED"),
    "typ logout+jwt": (lambda: token(typ="logout+jwt"), "MALFORMED"),
    "garbled base64": (lambda: token().replace(".", ".*", 1), "MALFORMED"),
    "padded base64": (lambda: token() + "==", "MALFORMED"),
    "no dots": (lambda: token().replace(".", ""), "MALFORMED"),
    "four dots, encrypted": (lambda: "a.b.c.d.e", "MALFORMED"),
    "64 KiB": (lambda: token(claims(more="x" * 65536)), "MALFORMED"),
    "deeply nested": (lambda: token(_deep(2000)), "MALFORMED|UNKNOWN_ISSUER"),
    "duplicate keys": (lambda: token(_raw()[:-1] + b',"sub":"root"}'), "MALFORMED"),
    "NaN": (lambda: token(_raw()[:-1] + b',"x":NaN}'), "MALFORMED"),
    "claims are a list": (lambda: token(b"[1]"), "MALFORMED"),
    "claims are not UTF-8": (lambda: token(b'{"iss":"\xff"}'), "MALFORMED"),
    "empty": (lambda: "", "MALFORMED"),
    "kfa_ without a file": (lambda: "kfa_" + "x" * 43, "MALFORMED"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tokens(bearers: SignedBearers, name: str) -> None:
    """A bad token is UNAUTHENTICATED with a stable fault, quickly; error and log show nothing of it."""
    make, fault = BAD[name]
    text = make()
    started = time.thread_time()
    with capture_logs() as lines, pytest.raises(UnauthenticatedError) as caught:
        ask(bearers, text)
    assert time.thread_time() - started < 0.1
    assert caught.value.metadata["fault"] in fault.split("|")
    reported = f"{caught.value} {caught.value.metadata} {lines}"
    assert not any(part in reported for part in text.split(".") if len(part) > 3)
    assert not any(word in reported for word in ("alice", "root", "evil", ISSUER))


ISSUER_RECORD = Issuer(ISSUER, (AUDIENCE,))
BAD_KEYS = {
    "no JSON": b"<html>",
    "no object": b"[]",
    "no keys": b"{}",
    "keys is an object": b'{"keys": {}}',
    "none": b'{"keys": []}',
    "of wrong types": b'{"keys": [1, "x", null, {"kty": 1}, {"kty": "RSA", "n": 1, "e": "AQAB"}]}',
    "secret": b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"}]}',
    "for encryption": json.dumps({"keys": [{**key().as_dict(private=False), "use": "enc"}]}).encode(),
    "of a wrong curve": b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "ec"}]}',
    "deeply nested": b'{"keys": ' + b"[" * 100_000,
    "too many": json.dumps({"keys": [{}] * 101}).encode(),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_bad_keys(name: str) -> None:
    """A document without usable keys is refused, with a reason."""
    with pytest.raises(FetchError):
        parse_keys(BAD_KEYS[name])


def test_usable_keys_beside_others() -> None:
    """Keys of unknown kinds do not hide the others."""
    listed = [{"kty": "AKP", "kid": "new"}, {"kty": "oct", "k": "AA"}, *jwks("ec", "rsa")["keys"]]  # type: ignore[misc]
    assert list(parse_keys(json.dumps({"keys": listed}).encode())) == ["ec", "rsa"]


@pytest.mark.parametrize(
    "discovery",
    [
        b"<html>",
        b"{}",
        json.dumps({"issuer": "https://other.example", "jwks_uri": ISSUER + JWKS}).encode(),
        json.dumps({"issuer": ISSUER, "jwks_uri": "http://issuer.example/keys"}).encode(),
        json.dumps({"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}).encode(),
        json.dumps({"issuer": ISSUER, "jwks_uri": 7}).encode(),
    ],
)
def test_bad_discovery(discovery: bytes) -> None:
    """A discovery document of another issuer, or with an unsafe URL, is refused."""
    with pytest.raises(FetchError):
        fetch_keys(ISSUER_RECORD, lambda *_: discovery)


def test_rotation_and_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is fetched when a token names it; known keys stay valid while the issuer is down."""
    monkeypatch.setattr(issuer_keys, "PAUSE_SECONDS", 0.0)
    documents = Documents("rsa")
    file = issuers_file(tmp_path, ISSUER)
    bearers = SignedBearers(Reloaded("the issuers", [file], parse_issuers), documents, _no_reviews)
    bearers.start()
    try:
        first, second = token(), token(by="ec")
        assert ask(bearers, first).name == "alice"
        documents.keys = json.dumps(jwks("rsa", "ec")).encode()
        assert ask(bearers, second).name == "alice"
        documents.keys = None
        with pytest.raises(IssuerUnavailableError):
            ask(bearers, token(by="stranger"))
        assert ask(bearers, first).name == ask(bearers, token(claims(jti="2"))).name == "alice"
        documents.keys = json.dumps(jwks("ec")).encode()
        with pytest.raises(UnauthenticatedError):
            ask(bearers, token(by="stranger"))
        with pytest.raises(UnauthenticatedError):
            ask(bearers, first)  # it was remembered
        monkeypatch.setattr(issuer_keys, "KEPT_SECONDS", 0.0)
        documents.keys = None
        with pytest.raises(IssuerUnavailableError):
            ask(bearers, second)
    finally:
        bearers.stop()


def test_fetches_are_bounded() -> None:
    """Tokens with unknown keys cause one fetch, not one each, and none of them waits after it."""
    documents = Documents("rsa")
    keys = IssuerKeys(ISSUER_RECORD, documents)
    keys.start()
    try:
        started = time.monotonic()
        for number in range(50):
            with pytest.raises(UnauthenticatedError):
                keys.verify(read_token(token(kid=f"{number}")))
        assert time.monotonic() - started < issuer_keys.PAUSE_SECONDS
        assert documents.fetched == [ISSUER + DISCOVERY, ISSUER + JWKS]
    finally:
        keys.stop()


ONE = '[[issuers]]\nissuer = "https://a"\naudiences = ["k"]\n'
MISTAKES = {
    "x": "not TOML",
    "": "neither",
    "a = 1": "unknown field `a`",
    "issuers = 1": "Expected `array`",
    "[[issuers]]": r"field `issuer` - at `\$.issuers\[0\]`",
    '[[issuers]]\nissuer = "https://a"\naudiences = []': "length >= 1 - at `..issuers.0..audiences`",
    '[[issuers]]\nissuer = "http://a.example"\naudiences = ["k"]': "https://",
    '[[issuers]]\nissuer = "https://a?b"\naudiences = ["k"]': "https://",
    ONE + 'algorithms = ["HS256"]': "HS256",
    ONE + 'algorithms = ["none"]': "none",
    ONE + 'role = "king"': "king.*role",
    ONE + 'name = "sub"': "unknown field `name`",
    ONE + "clock_skew_seconds = 900": "<= 600 - at `..issuers.0..clock_skew_seconds`",
    ONE + 'token_file = "t"': "ca_file",
    ONE + ONE.replace("//a", "//b"): "prefix",
    "[token_review]": "field `audiences`",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_in_the_file(text: str) -> None:
    """A mistake in the file of issuers is named."""
    with pytest.raises(IssuersError, match=MISTAKES[text]):
        parse_issuers(text.encode())
