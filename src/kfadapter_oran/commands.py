"""The commands that this package adds to `kfadapter`. It imports nothing, as the program's help reads it."""

COMMANDS = {
    "notify": (
        "kfadapter_oran.notices.command:notify",
        "Post how the runs of training jobs end to the training manager, until told to stop.",
    ),
    "legacy-http": (
        "kfadapter_oran.legacy_http.command:legacy_http",
        "Answer the Flask adapter's HTTP routes, each with calls of an adapter.",
    ),
}
