"""Differences between Kubeflow Pipelines (KFP) and its SDK: what fails, on which versions, and the remedy.

`kfadapter check` finds the rules in a compiled pipeline, and the embedded KFP warns with them while
it runs one. KFP's own code is quoted as of 2.17.0; `next` is the KFP with a tasks API after it.
"""

from __future__ import annotations

import re

from kfadapter_grpc.check.rule import CLUSTERS, LAPTOP, UP_TO_2_17, Rule

# --- values ---------------------------------------------------------------------------------------------------------

RAW_JSON_IN_TEXT = Rule(  # component/launcher_v2.go:compileCmdAndArgs inserts strings after encoding
    "raw-json-in-text",
    CLUSTERS,
    "the value of '{input}' is inserted unescaped into the JSON of the component's inputs; if it has a quote, "
    "a backslash or a line break, as every list or struct with a string does, the task fails with a "
    "JSONDecodeError",
    "Pass the value to the component as its own input, and build the string there.",
)
LOOP_ITEM_IN_TEXT = Rule(
    "loop-item-in-text",
    (*CLUSTERS, LAPTOP),
    "'{input}' is a loop item in a string, which the SDK compiles incorrectly in inner loops, in branches, and "
    "for fields of an output's items: the driver fails, or the string is empty or unchanged",
    "Pass the item to the component as its own input, and build the string there.",
)
UNDECLARED_INPUT = Rule(
    "undeclared-input",
    (*CLUSTERS, LAPTOP),
    "'{input}' is not an input of the group that contains the task, or not an output of its producer; the driver fails",
    "Compile the pipeline again, or correct the YAML.",
)
PLACEHOLDER_IN_TEXT = Rule(  # driver/resolve.go:resolveInputParameter, switch valStr
    "placeholder-in-text",
    (*CLUSTERS, LAPTOP),
    "{placeholder} is not replaced within a string, only where it is the whole value",
    "Pass the placeholder to the component as its own input, and build the string there.",
)
UNKNOWN_PLACEHOLDER = Rule(  # component/launcher_v2.go:getPlaceholders
    "unknown-placeholder",
    (*CLUSTERS, LAPTOP),
    "{placeholder} is not an input of the task, and is not replaced",
    "Use an input of the task, or change the string.",
)
PLACEHOLDER_IN_CODE = Rule(
    "placeholder-in-code",
    CLUSTERS,
    "{placeholder} in the component's Python code is replaced, too; {{{{$}}}} makes it a SyntaxError",
    "Split it in the code: '{' '{$…}}'.",
)
TYPE_MISMATCH = Rule(  # driver/resolve.go:resolveInputs, handleParamTypeValidationAndConversion
    "type-mismatch",
    (*CLUSTERS, LAPTOP),
    "'{input}' is declared {expected} and receives {given}; the driver converts to strings only, and fails",
    "Convert the value in a component, or declare the input with the type that it receives.",
)
ITEM_OF_ANY_LIST = Rule(  # driver/resolve.go:resolveInputs converts the item that the SDK declares as a string
    "item-of-any-list",
    CLUSTERS,
    "'{input}' is declared {expected} and receives the item of a loop over a list without an item type, which "
    "the SDK declares as a string; the driver converts it to a string, and fails with 'type mismatch'",
    "Declare the list with its item type, such as List[int].",
)
LITERALS = Rule(  # util.ValidateLiteralParameter
    "literal-value",
    (*CLUSTERS, LAPTOP),
    "'{input}' receives {given}, which is not one of its literals; the driver fails",
    "Pass one of its literals.",
)
FOUR_BYTES = Rule(  # apiserver/client/sql.go: charset=utf8
    "four-byte-character",
    CLUSTERS,
    "the pipeline contains '{character}'; KFP's database does not support characters of 4 bytes in UTF-8, such "
    "as emoji, and the upload or the run fails with 500",
    "Remove it, also from parameters and outputs.",
)
FOUR_BYTES_OUTPUT = Rule(  # apiserver/client/sql.go; ReportWorkflow fails with 500
    "four-byte-character-in-output",
    CLUSTERS,
    "the output passed to '{input}' contains '{character}'; KFP's database does not support characters of 4 "
    "bytes in UTF-8, such as emoji, so the stored run is no longer updated, although its tasks finish",
    "Pass such strings in an artifact.",
)
ARGO_TEMPLATE = Rule(  # apiserver/resource/resource_manager.go:CreateRun, executionSpec.Validate
    "argo-template",
    CLUSTERS,
    "the pipeline or a parameter contains {template}, which is also a template of Argo Workflows; the run "
    "fails with 500 ('failed to resolve'), or the template is replaced",
    "Split it in code, such as '{' '{ item.name }}', and pass such strings in an artifact.",
)
ARGO_TEMPLATES = re.compile(r"\{\{\s*(?:inputs|item|pod|steps|tasks|workflow)\.[^{}]*\}\}")
"""Expressions that Argo Workflows resolves, or rejects."""
PLACEHOLDER_IN_VALUE = Rule(  # component/launcher_v2.go:compileCmdAndArgs
    "placeholder-in-value",
    CLUSTERS,
    "the value of '{input}' contains text in the form of a placeholder, which the launcher replaces anywhere",
    "Pass such strings in an artifact.",
)
TEXT_INTO_PIPELINE = Rule(  # driver/resolve.go:resolveInputParameter; only the launcher replaces
    "text-into-pipeline",
    CLUSTERS,
    "'{input}' is an f-string passed to a nested pipeline, where its placeholders are not replaced",
    "Build the string in a component, and pass its output.",
)
NULL_FIELD = Rule(  # expression/expression.go:Select; structpb.NewValue refuses a structpb.NullValue
    "null-field",
    CLUSTERS,
    "'{input}' is a field that is null; the driver fails ('invalid type: structpb.NullValue')",
    "Set the field, for example to an empty string.",
)
LINE_BREAK_IN_DEFAULT = Rule(
    "line-break-in-default",
    CLUSTERS,
    "the default of '{input}' has several lines; kfp writes it into the comment at the start of the YAML, "
    "which then cannot be parsed",
    "Upload the .py with kfadapter, which omits the comment, or remove the comment.",
)

# --- groups ---------------------------------------------------------------------------------------------------------

COLLECTED_EMPTY = Rule(  # driver/resolve.go:CollectInputs
    "collected-empty-loop",
    UP_TO_2_17,
    "'{input}' collects from '{loop}'; if that has no items, the driver fails (\"subTaskName … not in tasks\")",
    "Ensure that there is an item, for example one that the component ignores.",
)
COLLECTED_SKIPPED = Rule(  # driver/resolve.go:CollectInputs, nil pointer
    "collected-skipped",
    UP_TO_2_17,
    "'{input}' collects from a conditional task of '{loop}'; if an iteration skips it, the driver crashes",
    "Run the task for every item and decide inside it, or join the branches with dsl.OneOf.",
)
COLLECTED_TWICE = Rule(  # driver/resolve.go:CollectInputs, breadth first, one list
    "collected-nested-loops",
    UP_TO_2_17,
    "'{input}' collects through two loops and receives one flat list; on a laptop it is a list of lists, as "
    "the SDK intends",
    "Collect in the inner loop, and return grouped values from a component there.",
)
ONE_OF_RUNNING = Rule(  # driver/resolve.go:GetProducerTask; metadata/client.go:UpdateDAGExecutionsState
    "one-of-unfinished-branch",
    UP_TO_2_17,
    "'{input}' is dsl.OneOf of '{loop}'; a branch counts as finished only if the last task to finish in it was "
    "executed, and not cached, an importer, or a skipped branch; otherwise the driver fails ('No successful "
    "task found')",
    "Call set_caching_options(False) on the last task of each branch, and add no task after it.",
)
COLLECTED_ONE_OF = Rule(  # driver/resolve.go:CollectInputs, workingOutputKey
    "collected-one-of",
    UP_TO_2_17,
    "'{input}' collects dsl.OneOf from '{loop}'; if iterations take different branches, the driver crashes",
    "Pass dsl.OneOf to a component inside the loop, and collect its output.",
)
COLLECTED_IMPORTS = Rule(  # driver/resolve.go:CollectInputs, system.ImporterExecution
    "collected-imports",
    UP_TO_2_17,
    "'{input}' collects from an importer in '{loop}'; the driver crashes",
    "Pass the imported artifact to a component and collect its output, or import one folder.",
)
LOOP_OVER_ITEM_FIELD = Rule(  # driver/resolve.go:resolveInputs, isIterationDriver
    "loop-over-item-field",
    UP_TO_2_17,
    "'{loop}' iterates over a field of another loop's item; the driver of each iteration fails, as it reads "
    "the field after it has removed the list",
    "Pass the field to a nested pipeline, and loop there.",
)
LOOPED_LIST_INSIDE = Rule(  # driver/resolve.go:resolveInputs, delete(inputs.ParameterValues, itemsInput)
    "looped-list-inside",
    UP_TO_2_17,
    "'{input}' is the list over which '{loop}' iterates, which does not exist inside the loop; the driver fails",
    "Pass the list under another name: as the output of a task that returns it.",
)
LOOP_OVER_ARTIFACTS = Rule(  # compiler/argocompiler/dag.go:DAG
    "loop-over-artifacts",
    CLUSTERS,
    "'{loop}' iterates over artifacts; the run fails with 500 ('artifact iterator not implemented yet')",
    "Loop over a parameter, such as a list of numbers, and select the artifact in the component.",
)
OPTIONAL_INTO_PIPELINE = Rule(  # driver/resolve.go:resolveInputs, ErrResolvedParameterNull
    "optional-into-pipeline",
    UP_TO_2_17,
    "'{input}' passes on a parameter that may have no value; the driver of the task inside then fails ('parent "
    "DAG does not have input parameter')",
    "Set a default for the outer parameter, or do not pass it on.",
)
ROOT_ARTIFACT = Rule(  # driver/resolve.go:resolveInputArtifact
    "root-artifact",
    (*CLUSTERS, LAPTOP),
    "the pipeline has the artifact '{input}' as an input, which no run can set; the driver of each task that "
    "uses it fails, and the laptop refuses the pipeline",
    "Use its URI as a string parameter, and import it with dsl.importer.",
)
ARTIFACT_LIST_INTO_PIPELINE = Rule(  # metadata/client.go:GetInputArtifactsByExecutionID, one artifact for each name
    "artifact-list-into-pipeline",
    UP_TO_2_17,
    "'{input}' passes a list of artifacts to a nested pipeline, whose tasks receive only one of them",
    "Pass the list to a component outside the nested pipeline.",
)
SAME_ARTIFACT = Rule(  # metadata/client.go:CreateExecution; ML Metadata: Given event already exists
    "same-artifact-twice",
    UP_TO_2_17,
    "it receives the same artifact twice, as {inputs}; ML Metadata records an artifact once per task, and the "
    "driver fails ('Given event already exists', 'no execution found')",
    "Pass the artifact once, and use it twice inside.",
)
MISSING_ARTIFACT = Rule(  # driver/resolve.go:resolveInputArtifact
    "missing-artifact",
    UP_TO_2_17,
    "'{input}' is an optional artifact that is not set for the pipeline that contains the task; the driver "
    "fails ('parent DAG does not have input artifact')",
    "Use its URI as a string parameter, and import it with dsl.importer, or always set it.",
)

# --- failures -------------------------------------------------------------------------------------------------------

IGNORED_TWICE = Rule(  # compiler/argocompiler/dag.go:DAG, taskToExitTemplate
    "ignored-failure-twice",
    CLUSTERS,
    "a task that ignores failures is an exit hook of each task that it depends on, and runs once for each: "
    "{count} times",
    "Make it depend on one task only.",
)
IGNORED_SHARED = Rule(
    "ignored-failure-shared",
    CLUSTERS,
    "'{other}' ignores failures of '{task}', too; a task has one exit hook, so only the last of them by name runs",
    "Combine both in one task that ignores the failure.",
)
IGNORED_SKIPPED = Rule(
    "ignored-failure-skipped",
    CLUSTERS,
    "if '{task}' does not start because an earlier task failed, this task does not run either, although it "
    "ignores failures",
    "Make it depend on the task that may fail first.",
)
IGNORED_WITHOUT_HOOK = Rule(  # compiler/argocompiler/dag.go:task, without exitTemplate for loops and importers
    "ignored-failure-without-hook",
    CLUSTERS,
    "it ignores failures of '{task}', a loop or an importer, to which KFP adds no exit hook; this task never runs",
    "Move the loop into a nested pipeline or a dsl.ExitHandler.",
)
IGNORED_ARTIFACT = Rule(  # driver/resolve.go:resolveUpstreamArtifacts
    "ignored-failure-artifact",
    UP_TO_2_17,
    "if '{task}' fails, the driver crashes, as there is no artifact for '{input}', which is optional",
    "Use no output of a task whose failure is ignored.",
)
IGNORED_DEPENDENTS = Rule(
    "ignored-failure-dependents",
    CLUSTERS,
    "it depends on '{task}', which ignores failures and is an exit hook for KFP, not a task; the run fails "
    "with 500 ('invalid dependency')",
    "Move this step into the task that ignores failures.",
)
IGNORED_OUTPUT = Rule(  # driver/resolve.go:resolveInputs, nil value to string
    "ignored-failure-output",
    (*UP_TO_2_17, LAPTOP),
    "if '{task}' fails, '{input}' is an empty string, never its default; for other types than string the driver fails",
    "Use no output of a task whose failure is ignored, or treat an empty string as missing.",
)
FINAL_STATUS = Rule(  # driver/resolve.go:resolveInputParameter, TaskFinalStatus; 2.5: 'not implemented yet'
    "final-status-state",
    ("2.5", "2.17", LAPTOP),
    "the state of '{input}' is COMPLETE after success, in the next KFP SUCCEEDED, and FAILED in both; error "
    "code and message are empty; 2.5 has no PipelineTaskFinalStatus, and the task fails",
    "Compare the state with FAILED.",
)
RETRY_POLICY = Rule(  # manifests/kustomize/third-party/argo/base/workflow-controller-configmap-patch.yaml
    "retry-policy",
    ("2.17",),
    "as installed, Argo's default retryPolicy OnError also applies to set_retry: a lost pod is retried, a "
    "failing component is not",
    "Remove retryPolicy from templateDefaults in the ConfigMap workflow-controller-configmap, or retry in the "
    "component.",
)

# --- artifacts ------------------------------------------------------------------------------------------------------

ARTIFACT_METADATA = Rule(  # metadata/converter.go:StructValueToMLMDValue
    "artifact-metadata",
    UP_TO_2_17,
    "it reads {attributes} of '{input}', which come from ML Metadata: lists and structs as {{'list': …}} and "
    "{{'struct': …}}, bools as 0 and 1, numbers with 6 decimals, two more keys; the name is a number",
    "Pass such values as output parameters, or write them into the file.",
)
ARTIFACT_ELSEWHERE = Rule(  # component/launcher_v2.go:uploadOutputArtifacts, LocalPathForURI
    "artifact-elsewhere",
    CLUSTERS,
    "'{output}' is at {uri}, outside the store of the run: it is not uploaded, and consumers find nothing",
    "Do not change the artifact's uri and path, or call set_path.",
)
IMPORTER_URI = Rule(  # component/importer_launcher.go: GetComponentInputParameter
    "importer-uri",
    UP_TO_2_17,
    "the URI of an importer, '{input}', comes from a task or is a field of an item, and the importer reads it "
    "from the parameters of the group that contains it ('parent DAG does not have input parameter', 'empty "
    "artifact URI')",
    "Pass a constant or a parameter to the importer, or move it into a nested pipeline with the URI as an input.",
)
IMPORTER_DISPLAY_NAME = Rule(  # component/importer_launcher.go:Execute, TaskName: l.task.GetTaskInfo().GetName()
    "importer-display-name",
    UP_TO_2_17,
    "'{input}' comes from '{task}', an importer with a display name, under which KFP records it; the driver "
    "searches for its name and fails ('cannot find producer task')",
    "Do not call set_display_name for importers.",
)
LOCAL_IMPORT = Rule(  # component/importer_launcher.go: objectstore.ParseProviderFromPath
    "local-import",
    CLUSTERS,
    "it imports {uri}, a file of this machine; importers support gs://, s3:// and minio:// only",
    "Store the file in an object store, and import it from there.",
)
IMPORTER_ADDRESS = Rule(  # component/importer_launcher.go:ImportSpecToMLMDArtifact
    "importer-address",
    (*CLUSTERS, LAPTOP),
    "it imports {uri}; importers take gs://, s3:// and minio:// only, and oci:// as a dsl.Model; the task fails "
    "('no provider scheme found', 'does not support OCI registries')",
    "Put the data into an object store, and import it from there.",
)
IMPORTER_METADATA = Rule(
    "importer-metadata",
    CLUSTERS,
    "parameters in the metadata of an importer are not replaced: consumers read {{{{$.inputs.parameters[…]}}}}",
    "Use constants, or pass the parameter to the consumers.",
)

# --- commands of container components --------------------------------------------------------------------------------

CONCAT = Rule(  # driver/util.go:resolveContainerArgs handles IfPresent only
    "concat-placeholder",
    (*CLUSTERS, LAPTOP),
    "dsl.ConcatPlaceholder appears in the command as its JSON: {part}",
    "Join the parts in an f-string, or in the command.",
)
IF_PRESENT_ARTIFACT = Rule(  # driver/util.go:resolveCondition, which reads parameters only
    "if-present-artifact",
    ("2.17", "next", LAPTOP),
    "dsl.IfPresentPlaceholder of the artifact '{input}' always selects the else branch, even if the artifact is set",
    "Use an optional parameter as the condition.",
)
DEFAULT_IN_COMMAND = Rule(  # driver/util.go:resolveSinglePlaceholder
    "default-in-command",
    ("2.17", "next", LAPTOP),
    "'{input}' is used in the command and is not set; the driver does not apply its default, and fails ('not "
    "found in executor input')",
    "Set the value.",
)

# --- what must exist ------------------------------------------------------------------------------------------------

NEEDS_KUBERNETES = Rule(
    "kubernetes-object",
    (*CLUSTERS, LAPTOP),
    "it needs {needed}, which must exist in the namespace of the run; the laptop refuses the pipeline",
    "Create it before the run; on a laptop, run without it.",
)
NEEDS_POD = Rule(
    "kubernetes-only",
    (LAPTOP,),
    "{needed} exists on Kubernetes only; the laptop refuses the pipeline",
    "Run it on a cluster, or without.",
)
NEEDS_CONTAINER = Rule(
    "container-image",
    (LAPTOP,),
    "it runs a command in the image {image}, for which a laptop needs a container engine such as Docker; on a "
    "cluster its packages and files are those of the image",
    "Start an engine, or use --steps process for commands that this machine has.",
)
ARGO_WORKFLOW = Rule(
    "argo-workflow",
    (LAPTOP,),
    "this is a KFP v1 pipeline (an Argo Workflow), which consists of containers; the embedded KFP shows and refuses it",
    "Run it on a cluster, or write it for kfp 2.",
)
