"""Checks of the issuers whose signed tokens the server accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.auth.issuers import parse_issuers
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.doctor.verdict import Verdict, failed, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.auth.issuers import Issuer, TokenReview
    from kfadapter_grpc.settings import Settings


def examine(settings: Settings) -> Iterator[Verdict]:
    """Yields whether the keys of each issuer can be fetched, and whether Kubernetes reviews tokens."""
    if settings.issuers is None:
        return
    accepted = parse_issuers(settings.issuers.read_bytes())
    yield from map(_keys, accepted.issuers)
    if accepted.token_review is not None:
        yield _review(accepted.token_review)


def _keys(issuer: Issuer) -> Verdict:
    from kfadapter_grpc.auth.issuer_keys import FetchError, fetch_keys, parse_keys  # noqa: PLC0415  loads joserfc
    from kfadapter_grpc.server.issuers import fetch  # noqa: PLC0415

    check = f"issuer {issuer.issuer}"
    try:
        keys = parse_keys(fetch_keys(issuer, fetch))
    except FetchError as error:
        return failed(
            check,
            str(error),
            why="its tokens cannot be verified",
            next_step="correct issuer, jwks_url and ca_file in the file of issuers, or let the adapter reach it",
        )
    role = f"their bearers are {issuer.role.value}s" if issuer.role else "their bearers have no role of the issuer"
    return ok(check, f"{len(keys)} keys; tokens for {' or '.join(issuer.audiences)} are valid, and {role}")


def _review(review: TokenReview) -> Verdict:
    """Requests a TokenReview of an invalid token: with permission to create TokenReviews there is a response."""
    from kfadapter_grpc.auth.bearer_tokens import REVIEW_SECONDS, REVIEWED  # noqa: PLC0415
    from kfadapter_grpc.server.issuers import cause, post_review  # noqa: PLC0415

    try:
        status, _ = post_review(review, "none", Call("doctor", REVIEW_SECONDS))
        response = f"HTTP {status}"
    except AdapterError as error:
        status, response = 0, cause(error)
    if status in REVIEWED:
        return ok("token review", f"{review.url} reviews tokens for {' or '.join(review.audiences)}")
    return failed(
        "token review",
        f"{review.url} does not review tokens: {response}",
        why="tokens of service accounts cannot be verified",
        next_step="bind the adapter's service account to the ClusterRole system:auth-delegator",
    )
