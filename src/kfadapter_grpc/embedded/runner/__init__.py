"""Executes one run, in a process of its own: `python -m kfadapter_grpc.embedded.runner`, and lines of JSON."""
