"""The HTTP routes of the Flask adapter that this project replaces, for clients that have not migrated to gRPC yet.

A gateway in its own process: each route makes one or two gRPC calls to an adapter, as any other client
(docs/training-manager.md). Needs the base install and the extra `oran`.
"""
