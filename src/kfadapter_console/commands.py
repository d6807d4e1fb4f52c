"""The commands that this package adds to `kfadapter`. No imports, as the program's help loads this module."""

COMMANDS = {
    "console": ("kfadapter_console.command:console", "Serve a web page in front of an adapter."),
    "runs report": (
        "kfadapter_console.command:report",
        "Write a run as a single HTML file: graph, tasks, parameters, metrics, failures, plots.",
    ),
}
