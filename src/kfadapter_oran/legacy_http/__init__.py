"""The HTTP routes of the Flask adapter that this project replaces, for callers that have not moved to gRPC yet.

A gateway in its own process: each route makes a call or two of an adapter over gRPC, as any other client
(docs/training-manager.md). Needs the base install and the extra `oran`.
"""
