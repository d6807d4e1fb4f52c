"""The commands that this package adds to `kfadapter`. Imports nothing, because the CLI's help loads it."""

COMMANDS = {"dev": ("kfadapter_embedded.dev:dev", "Start an embedded KFP, an adapter and a web page on this machine.")}
