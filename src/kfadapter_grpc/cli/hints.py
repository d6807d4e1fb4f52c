"""What to do next after an error of the adapter or of the client: one step for each reason."""

from __future__ import annotations

from kfadapter_grpc.cli.invocation import PIPELINE, RUN, Step, again, do, manual, other, start

PATIENT_SECONDS = "120"
"""The deadline of a second attempt."""

HINTS: dict[str, Step] = {
    "PIPELINE_NOT_FOUND": other("list", words="shows the pipelines there are; --namespace looks in another namespace"),
    "VERSION_NOT_FOUND": other("versions", PIPELINE, words="shows the versions there are"),
    "RUN_NOT_FOUND": other("runs", words="shows the newest runs; a deleted run cannot be found again"),
    "TASK_NOT_FOUND": other("runs", "show", RUN, words="shows the tasks that have begun, by the names to use"),
    "EXPERIMENT_NOT_FOUND": other(
        "experiments", words="shows the experiments there are; kfadapter run --create-experiment makes one"
    ),
    "RECURRING_RUN_NOT_FOUND": other("recurring", words="shows the recurring runs there are"),
    "PIPELINE_EXISTS": again("--if-exists", "new-version", words="adds a version; --name makes another pipeline"),
    "VERSION_EXISTS": again(without="--version-name", words="takes the next number for a name"),
    "EXPERIMENT_EXISTS": again("--allow-existing", words="takes the experiment that exists"),
    "REQUEST_ID_REUSED": again(without="--request-id", words="is a new request; an id belongs to one content for ever"),
    "INVALID_FIELD": manual("tells what is allowed"),
    "INVALID_UPLOAD": do("check that the file is not empty; kfadapter payload FILE prints the right messages"),
    "INVALID_PIPELINE_FILE": do("correct the file, or compile it anew with the kfp SDK, then the same command again"),
    "CHECKSUM_MISMATCH": again(words="the file changed while it was read, or on its way"),
    "INVALID_PAGE_TOKEN": again(words="starts the listing anew"),
    "PARAMETER_MISSING": other("get", PIPELINE, words="shows the parameters and which of them are required"),
    "PARAMETER_UNKNOWN": other("get", PIPELINE, words="shows the parameters there are"),
    "PARAMETER_TYPE": other("get", PIPELINE, words="shows the type of each parameter"),
    "PIPELINE_HAS_VERSIONS": again("--force", words="deletes all versions with it"),
    "RUN_NOT_RETRYABLE": other(
        "runs",
        "show",
        RUN,
        words="shows how it stands: only a failed run can be retried",
    ),
    "AMBIGUOUS_NAME": other("experiments", words="shows the ids; an id is never ambiguous"),
    "KFP_REJECTED_CREDENTIALS": do("tell the adapter's operator: Kubeflow Pipelines does not accept its credentials"),
    "NAME_CONTESTED": again(words="or choose the name: --version-name NAME"),
    "UPLOAD_TOO_LARGE": do("make the file smaller: large data belong into artifacts, not into the pipeline"),
    "STORAGE_FULL": other("runs", "delete", RUN, words="deletes a run and its files; or make room on KFP's disk"),
    "OVERLOADED": again(words="in a few seconds"),
    "UNAUTHENTICATED": do(
        "send a valid token: kfadapter --token-file FILE ..., or KFADAPTER_TOKEN; the adapter's operator gives one"
    ),
    "PERMISSION_DENIED": do("ask the adapter's operator for access, or try another --namespace"),
    "KFP_UNAVAILABLE": again(
        words="in a moment; if it stays like this, kfadapter doctor --server, where the adapter runs, tells why"
    ),
    "DRAINING": again(words="in a moment; the adapter is being restarted"),
    "KFP_TIMEOUT": again("--timeout", PATIENT_SECONDS, words="gives it more time"),
    "UNSUPPORTED_BY_KFP": do(
        "do as the message says; kfadapter doctor --server, where the adapter runs, shows what this KFP lacks"
    ),
    "KFP_ERROR": do("look for the request id in the adapter's log, then into the log of Kubeflow Pipelines"),
    "INTERNAL": do("report it with the request id; the adapter's log holds the details"),
    "CANCELLED": again(words="if it was not meant to end"),
    "CANNOT_CONNECT": start("starts an adapter on this machine; --target HOST:PORT names another one"),
    "DEADLINE": again("--timeout", PATIENT_SECONDS, words="gives it more time"),
    "CALL_FAILED": do("check that --target is a kfadapter; one that is newer may need a newer client, too"),
}
"""What to do next, by the reason of an error."""
