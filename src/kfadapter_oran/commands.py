"""The commands that this package adds to `kfadapter`. No imports, as the program's help loads this module."""

COMMANDS = {
    "notify": (
        "kfadapter_oran.notices.command:notify",
        "Post the final states of training jobs' runs to the training manager.",
    ),
    "legacy-http": (
        "kfadapter_oran.legacy_http.command:legacy_http",
        "Serve the Flask adapter's HTTP routes through an adapter.",
    ),
}
