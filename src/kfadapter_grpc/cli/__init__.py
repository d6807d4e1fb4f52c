"""The command line `kfadapter`. Importing it is cheap: the dependencies of a command are loaded when it runs."""

from kfadapter_grpc.cli.app import main

__all__ = ["main"]
