"""The commands that this package adds to `kfadapter`. It imports nothing, as the program's help reads it."""

COMMANDS = {"dev": ("kfadapter_embedded.dev:dev", "Start an embedded KFP and an adapter on this machine.")}
