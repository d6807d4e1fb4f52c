"""An OpenID Connect issuer for tests: keys, tokens, and its documents over HTTP."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from joserfc import jwk, jws
from tests.scripted_kfp import ScriptedKfp, answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.scripted_kfp import Behaviour

AUDIENCE = "kfadapter"
DISCOVERY, JWKS = "/.well-known/openid-configuration", "/keys"
ISSUER = "https://issuer.example"


@cache
def key(name: str = "rsa") -> jwk.RSAKey | jwk.ECKey:
    """A key pair, the same for a name; `ec...` is for ES256, any other for RS256."""
    made: jwk.RSAKey | jwk.ECKey
    parameters: Any = {"kid": name}
    if name.startswith("ec"):
        made = jwk.ECKey.generate_key("P-256", parameters)
    else:
        made = jwk.RSAKey.generate_key(2048, parameters)
    return made


def claims(**changed: object) -> dict[str, object]:
    """The claims of a valid token; None removes one."""
    now = int(time.time())
    made = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "exp": now + 300, "iat": now, "groups": ["ml", "한국어"]}
    return {name: value for name, value in {**made, **changed}.items() if value is not None}


def token(of: dict[str, object] | bytes | None = None, by: str = "rsa", **header: object) -> str:
    """A token with these claims, or these bytes instead, signed by a key; `header` changes its header."""
    algorithm = "ES256" if by.startswith("ec") else "RS256"
    payload = of if isinstance(of, bytes) else json.dumps(claims() if of is None else of).encode()
    protected: Any = {
        name: value for name, value in {"alg": algorithm, "kid": by, **header}.items() if value is not None
    }
    registry = jws.JWSRegistry(algorithms=[protected["alg"]], strict_check_header=False)
    registry.max_payload_length = registry.max_header_length = 1024 * 1024
    return jws.serialize_compact(protected, payload, key(by), registry=registry)


def encoded(part: object) -> str:
    """A part of a token: JSON, or bytes."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks(*names: str) -> dict[str, object]:
    """The document with public keys."""
    return {"keys": [key(name).as_dict(private=False, use="sig") for name in names]}


def issuers_file(folder: Path, issuer: str, **settings: object) -> Path:
    """Writes a file of issuers with one."""
    values = {"issuer": issuer, "audiences": [AUDIENCE], "role": "writer", **settings}
    path = folder / "issuers.toml"
    path.write_text("[[issuers]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    return path


@contextmanager
def serving(*names: str, keys: Behaviour | None = None) -> Iterator[ScriptedKfp]:
    """Runs an issuer with these keys; `keys` answers the request for them instead."""
    with ScriptedKfp() as server:
        server.on("GET", DISCOVERY, answers(200, {"issuer": server.url, "jwks_uri": server.url + JWKS}))
        server.on("GET", JWKS, keys or answers(200, jwks(*names)))
        yield server
