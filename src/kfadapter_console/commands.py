"""The commands that this package adds to `kfadapter`. No imports, as the program's help loads this module."""

COMMANDS: dict[str, tuple[str, str]] = {}
