"""The HTTP routes of the Flask adapter that this server replaces, for callers that have not moved to gRPC yet.

They are a translation: each route calls the adapter's own services, through the same layers, as a caller over gRPC
would. Off by default, and meant to be switched off one day (docs/legacy-http.md).
"""

from kfadapter_oran.legacy_http.server import LegacyHttp

__all__ = ["LegacyHttp"]
