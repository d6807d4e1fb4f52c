"""The command line `kfadapter`. Importing it is cheap: what a command needs is loaded when it runs."""

from kfadapter_grpc.cli.app import main

__all__ = ["main"]
