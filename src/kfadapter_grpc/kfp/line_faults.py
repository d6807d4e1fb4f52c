"""What a fault of a connection to KFP means, in words: each its own message, with what to check."""

from __future__ import annotations

import ssl

from kfadapter_grpc.kfp.http1 import NoAnswerError, NotConnectedError, NotHttpError, TlsError, TlsSpokenError

EXPECTS_HTTPS = "the server at the address of Kubeflow Pipelines (KFADAPTER_KFP_URL) expects TLS: use https:, not http:"
"""For an http: address whose port expects TLS."""
_PLAIN = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})
"""What OpenSSL says of an answer that is no TLS."""


def speaks_no_tls(error: BaseException | None) -> bool:
    """Whether TLS failed because the other side answered in plain text."""
    return isinstance(error, ssl.SSLError) and error.reason in _PLAIN


def words_for(error: Exception, scheme: str) -> str:
    """What broke, and what to check; `scheme` is that of KFP's address."""
    if isinstance(error, TlsError | ssl.SSLError):  # with TLS 1.3 a server that dislikes our certificate says so late
        return _without_tls(error.__cause__ if isinstance(error, TlsError) else error)
    if isinstance(error, NotConnectedError):
        return "Kubeflow Pipelines cannot be reached: it does not accept connections; try again later"
    if isinstance(error, TlsSpokenError):
        return EXPECTS_HTTPS
    if isinstance(error, NotHttpError):
        return "the server at the address of Kubeflow Pipelines does not speak HTTP/1.1; check KFADAPTER_KFP_URL"
    if isinstance(error, NoAnswerError):
        text = "the connection to Kubeflow Pipelines was closed before an answer began; try again later"
        wrong = "; if this persists, the port may expect TLS: check whether KFADAPTER_KFP_URL should begin with https:"
        return text + (wrong if scheme == "http" else "")
    return "the connection to Kubeflow Pipelines broke before the answer was complete"


def _without_tls(cause: BaseException | None) -> str:
    """What TLS says of itself; it knows no secrets."""
    if speaks_no_tls(cause):
        return (
            "the server at the address of Kubeflow Pipelines (KFADAPTER_KFP_URL) does not speak TLS: use http:, "
            "not https:"
        )
    if isinstance(cause, ssl.SSLEOFError | ConnectionResetError):
        return (
            "the connection to Kubeflow Pipelines was closed while TLS was set up; the adapter's operator should check "
            "whether KFADAPTER_KFP_URL should begin with http:, and KFADAPTER_KFP_CA_FILE and "
            "KFADAPTER_KFP_CLIENT_CERTIFICATE"
        )
    why = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "no reason given"
    return (
        f"there is no TLS with Kubeflow Pipelines, as one side does not accept the other ({why}); "
        "the adapter's operator should check KFADAPTER_KFP_CA_FILE and KFADAPTER_KFP_CLIENT_CERTIFICATE"
    )
