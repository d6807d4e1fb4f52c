"""What a pipeline must not count on: how Kubeflow Pipelines (KFP) treats it, on which versions, and what to do.

Each sentence is written here once: `kfadapter check` finds the rules in a compiled pipeline, and the embedded KFP
warns with them while it runs one. KFP's own code is quoted as of 2.17.0; `next` is the KFP with a tasks API after it.
"""

from __future__ import annotations

import re

from kfadapter_grpc.check.rule import CLUSTERS, LAPTOP, UP_TO_2_17, Rule

# --- values ---------------------------------------------------------------------------------------------------------

RAW_JSON_IN_TEXT = Rule(  # component/launcher_v2.go:compileCmdAndArgs fills texts in after they have become JSON
    "raw-json-in-text",
    CLUSTERS,
    "the value of '{input}' is put raw into the JSON of the component's inputs; with a quote, a backslash or a line "
    "break in it, as in every list or struct that holds a text, the task ends with a JSONDecodeError",
    "Give the component the value as an input of its own, and make the text there.",
)
LOOP_ITEM_IN_TEXT = Rule(
    "loop-item-in-text",
    (*CLUSTERS, LAPTOP),
    "'{input}' is the item of a loop inside a text, which the SDK compiles wrongly in inner loops, in branches, and "
    "for fields of an output's items: the driver fails, or the text stays empty or as it is",
    "Give the component the item as an input of its own, and make the text there.",
)
UNDECLARED_INPUT = Rule(
    "undeclared-input",
    (*CLUSTERS, LAPTOP),
    "'{input}' is no input of the group around the task, or no output of the task that should make it; the driver "
    "fails",
    "Compile the pipeline again, or correct the YAML.",
)
PLACEHOLDER_IN_TEXT = Rule(  # driver/resolve.go:resolveInputParameter, switch valStr
    "placeholder-in-text",
    (*CLUSTERS, LAPTOP),
    "{placeholder} stays as it is inside a text; it is filled in only where it is the whole value",
    "Give the component the placeholder as an input of its own, and make the text there.",
)
UNKNOWN_PLACEHOLDER = Rule(  # component/launcher_v2.go:getPlaceholders
    "unknown-placeholder",
    (*CLUSTERS, LAPTOP),
    "{placeholder} names no input of the task and stays as it is",
    "Name an input of the task, or spell the text otherwise.",
)
PLACEHOLDER_IN_CODE = Rule(
    "placeholder-in-code",
    CLUSTERS,
    "{placeholder} in the component's Python code is filled in, too; {{{{$}}}} makes it a SyntaxError",
    "Spell it in two parts in the code: '{' '{$…}}'.",
)
TYPE_MISMATCH = Rule(  # driver/resolve.go:resolveInputs, handleParamTypeValidationAndConversion
    "type-mismatch",
    (*CLUSTERS, LAPTOP),
    "'{input}' is declared {expected} and gets {given}; the driver converts nothing but to text, and fails",
    "Convert the value in a component, or declare the input as what it gets.",
)
ITEM_OF_ANY_LIST = Rule(  # driver/resolve.go:resolveInputs converts the item that the SDK declares a text
    "item-of-any-list",
    CLUSTERS,
    "'{input}' is declared {expected} and gets the item of a loop over a list without a type of items, which the SDK "
    "declares a text; the driver makes it one, and fails with 'type mismatch'",
    "Declare the list with the type of its items, such as List[int].",
)
LITERALS = Rule(  # util.ValidateLiteralParameter
    "literal-value",
    (*CLUSTERS, LAPTOP),
    "'{input}' gets {given}, which is none of its literals; the driver fails",
    "Give it one of its literals.",
)
FOUR_BYTES = Rule(  # apiserver/client/sql.go: charset=utf8
    "four-byte-character",
    CLUSTERS,
    "the pipeline holds '{character}'; KFP's database takes no characters of 4 bytes of UTF-8, such as emoji, and "
    "answers 500 to the upload or the run",
    "Leave it out, also of parameters and outputs.",
)
FOUR_BYTES_OUTPUT = Rule(  # apiserver/client/sql.go; ReportWorkflow answers 500
    "four-byte-character-in-output",
    CLUSTERS,
    "the output that '{input}' takes holds '{character}'; KFP's database takes no characters of 4 bytes of UTF-8, such "
    "as emoji, so the run stays as it was stored before, though its tasks end",
    "Hand such texts on in an artifact.",
)
ARGO_TEMPLATE = Rule(  # apiserver/resource/resource_manager.go:CreateRun, executionSpec.Validate
    "argo-template",
    CLUSTERS,
    "the pipeline or a parameter holds {template}, which is a template of Argo Workflows, too; KFP answers 500 to the "
    "run ('failed to resolve'), or it is filled in",
    "Spell it in two parts in code, such as '{' '{ item.name }}', and hand such texts on in an artifact.",
)
ARGO_TEMPLATES = re.compile(r"\{\{\s*(?:inputs|item|pod|steps|tasks|workflow)\.[^{}]*\}\}")
"""What Argo Workflows resolves, or refuses."""
PLACEHOLDER_IN_VALUE = Rule(  # component/launcher_v2.go:compileCmdAndArgs
    "placeholder-in-value",
    CLUSTERS,
    "the value of '{input}' holds what looks like a placeholder; the launcher fills it in wherever it stands",
    "Hand such texts on in an artifact.",
)
TEXT_INTO_PIPELINE = Rule(  # driver/resolve.go:resolveInputParameter; only the launcher fills in
    "text-into-pipeline",
    CLUSTERS,
    "'{input}' is a text made of values and goes into a pipeline in the pipeline, where its placeholders stay as they "
    "are",
    "Make the text in a component, and hand its output on.",
)
NULL_FIELD = Rule(  # expression/expression.go:Select; structpb.NewValue refuses a structpb.NullValue
    "null-field",
    CLUSTERS,
    "'{input}' is a field that is null; the driver fails ('invalid type: structpb.NullValue')",
    "Give the field a value, such as an empty text.",
)
LINE_BREAK_IN_DEFAULT = Rule(
    "line-break-in-default",
    CLUSTERS,
    "the default of '{input}' has several lines; kfp writes it into the comment that begins the YAML, which then "
    "cannot be read",
    "Upload the .py with kfadapter, which leaves the comment out, or remove the comment.",
)

# --- groups ---------------------------------------------------------------------------------------------------------

COLLECTED_EMPTY = Rule(  # driver/resolve.go:CollectInputs
    "collected-empty-loop",
    UP_TO_2_17,
    "'{input}' collects from '{loop}'; if that has no items, the driver fails (\"subTaskName … not in tasks\")",
    "Make sure that there is an item, for example one that the component passes over.",
)
COLLECTED_SKIPPED = Rule(  # driver/resolve.go:CollectInputs, nil pointer
    "collected-skipped",
    UP_TO_2_17,
    "'{input}' collects from a task of '{loop}' that runs on a condition; if one iteration skips it, the driver "
    "crashes",
    "Run the task for every item and decide inside it, or join the branches with dsl.OneOf.",
)
COLLECTED_TWICE = Rule(  # driver/resolve.go:CollectInputs, breadth first, one list
    "collected-nested-loops",
    UP_TO_2_17,
    "'{input}' collects through two loops and gets one flat list; the laptop gives a list of lists, as the SDK means "
    "it",
    "Collect in the inner loop, and let a component there return what belongs together.",
)
ONE_OF_RUNNING = Rule(  # driver/resolve.go:GetProducerTask; metadata/client.go:UpdateDAGExecutionsState
    "one-of-unfinished-branch",
    UP_TO_2_17,
    "'{input}' takes dsl.OneOf of '{loop}'; a branch counts as finished only if a task that really ran was the last to "
    "end in it, and not one from the cache, an importer, or a branch that was not taken; otherwise the driver fails "
    "('No successful task found')",
    "Call set_caching_options(False) for the last task of each branch, and let nothing come after it.",
)
COLLECTED_ONE_OF = Rule(  # driver/resolve.go:CollectInputs, workingOutputKey
    "collected-one-of",
    UP_TO_2_17,
    "'{input}' collects dsl.OneOf from '{loop}'; if iterations took different branches, the driver crashes",
    "Collect the output of a component that takes dsl.OneOf inside the loop.",
)
COLLECTED_IMPORTS = Rule(  # driver/resolve.go:CollectInputs, system.ImporterExecution
    "collected-imports",
    UP_TO_2_17,
    "'{input}' collects from an importer in '{loop}'; the driver crashes",
    "Collect the output of a component that takes what was imported, or import one folder.",
)
LOOP_OVER_ITEM_FIELD = Rule(  # driver/resolve.go:resolveInputs, isIterationDriver
    "loop-over-item-field",
    UP_TO_2_17,
    "'{loop}' runs over a field of another loop's item; the driver of each iteration fails, as it looks for the "
    "field after it has taken the list away",
    "Hand the field to a pipeline in the pipeline, and loop there.",
)
LOOPED_LIST_INSIDE = Rule(  # driver/resolve.go:resolveInputs, delete(inputs.ParameterValues, itemsInput)
    "looped-list-inside",
    UP_TO_2_17,
    "'{input}' takes the list that '{loop}' runs over, which is unknown inside the loop; the driver fails",
    "Hand the list over under another name: as the output of a task that returns it.",
)
LOOP_OVER_ARTIFACTS = Rule(  # compiler/argocompiler/dag.go:DAG
    "loop-over-artifacts",
    CLUSTERS,
    "'{loop}' runs over artifacts; KFP answers 500 to the run ('artifact iterator not implemented yet')",
    "Loop over a parameter, such as a list of numbers, and choose the artifact in the component.",
)
OPTIONAL_INTO_PIPELINE = Rule(  # driver/resolve.go:resolveInputs, ErrResolvedParameterNull
    "optional-into-pipeline",
    UP_TO_2_17,
    "'{input}' hands on a parameter that may have no value; the driver of what takes it inside then fails ('parent "
    "DAG does not have input parameter')",
    "Give the outer parameter a default, or do not hand it on.",
)
ROOT_ARTIFACT = Rule(  # driver/resolve.go:resolveInputArtifact
    "root-artifact",
    (*CLUSTERS, LAPTOP),
    "the pipeline takes an artifact as '{input}', which no run can be given; the driver of each task that takes it "
    "fails, and the laptop refuses the pipeline",
    "Take its address as a text, and import it with dsl.importer.",
)
ARTIFACT_LIST_INTO_PIPELINE = Rule(  # metadata/client.go:GetInputArtifactsByExecutionID, one artifact for each name
    "artifact-list-into-pipeline",
    UP_TO_2_17,
    "'{input}' hands a list of artifacts to a pipeline in the pipeline; tasks inside get only one of them",
    "Give the list to a component outside that pipeline.",
)
SAME_ARTIFACT = Rule(  # metadata/client.go:CreateExecution; ML Metadata: Given event already exists
    "same-artifact-twice",
    UP_TO_2_17,
    "it gets the same artifact twice, as {inputs}; ML Metadata takes an artifact once for each task, and the driver "
    "fails ('Given event already exists', 'no execution found')",
    "Hand the artifact over once, and use it twice inside.",
)
MISSING_ARTIFACT = Rule(  # driver/resolve.go:resolveInputArtifact
    "missing-artifact",
    UP_TO_2_17,
    "'{input}' is an optional artifact that the pipeline around the task was not given; the driver fails ('parent DAG "
    "does not have input artifact')",
    "Take its address as a text, and import it with dsl.importer, or give it always.",
)

# --- failures -------------------------------------------------------------------------------------------------------

IGNORED_TWICE = Rule(  # compiler/argocompiler/dag.go:DAG, taskToExitTemplate
    "ignored-failure-twice",
    CLUSTERS,
    "a task that ignores failures is an exit hook of each task before it, and runs once for each: {count} times",
    "Let it depend on one task only.",
)
IGNORED_SHARED = Rule(
    "ignored-failure-shared",
    CLUSTERS,
    "'{other}' ignores failures of '{task}', too; a task has one exit hook, so only the last of them by name runs",
    "Let one task ignore the failure, and put both things into it.",
)
IGNORED_SKIPPED = Rule(
    "ignored-failure-skipped",
    CLUSTERS,
    "if '{task}' does not start, as something before it failed, this task does not run either, although it ignores "
    "failures",
    "Let it depend on what may fail first.",
)
IGNORED_WITHOUT_HOOK = Rule(  # compiler/argocompiler/dag.go:task, which gives loops and importers no exitTemplate
    "ignored-failure-without-hook",
    CLUSTERS,
    "it ignores failures of '{task}', a loop or an importer, to which KFP adds no exit hook; this task never runs",
    "Put the loop into a pipeline in the pipeline or a dsl.ExitHandler.",
)
IGNORED_ARTIFACT = Rule(  # driver/resolve.go:resolveUpstreamArtifacts
    "ignored-failure-artifact",
    UP_TO_2_17,
    "if '{task}' fails, the driver crashes, as there is no artifact for '{input}', which is optional",
    "Take no output of a task whose failure is ignored.",
)
IGNORED_DEPENDENTS = Rule(
    "ignored-failure-dependents",
    CLUSTERS,
    "it depends on '{task}', which ignores failures and is an exit hook for KFP, no task; KFP answers 500 to the run "
    "('invalid dependency')",
    "Put what follows into the task that ignores failures.",
)
IGNORED_OUTPUT = Rule(  # driver/resolve.go:resolveInputs, nil value to text
    "ignored-failure-output",
    (*UP_TO_2_17, LAPTOP),
    "if '{task}' fails, '{input}' gets an empty text, never its default; for other types than text the driver fails",
    "Take no output of a task whose failure is ignored, or take an empty text for a missing one.",
)
FINAL_STATUS = Rule(  # driver/resolve.go:resolveInputParameter, TaskFinalStatus; 2.5: 'not implemented yet'
    "final-status-state",
    ("2.5", "2.17", LAPTOP),
    "the state of '{input}' is COMPLETE after success, in the next KFP SUCCEEDED, and FAILED in both; error code and "
    "message are empty; 2.5 has no PipelineTaskFinalStatus, and the task fails",
    "Ask whether the state is FAILED.",
)
RETRY_POLICY = Rule(  # manifests/kustomize/third-party/argo/base/workflow-controller-configmap-patch.yaml
    "retry-policy",
    ("2.17",),
    "as installed, Argo's default retryPolicy OnError holds for set_retry, too: a component that fails is not "
    "retried, only a lost pod is",
    "Remove retryPolicy from templateDefaults in the ConfigMap workflow-controller-configmap, or retry in the "
    "component.",
)

# --- artifacts ------------------------------------------------------------------------------------------------------

ARTIFACT_METADATA = Rule(  # metadata/converter.go:StructValueToMLMDValue
    "artifact-metadata",
    UP_TO_2_17,
    "it reads {attributes} of '{input}', which come from ML Metadata: lists and structs as {{'list': …}} and "
    "{{'struct': …}}, bools as 0 and 1, numbers with 6 decimals, two more keys; the name is a number",
    "Hand such values on as output parameters, or write them into the file.",
)
ARTIFACT_ELSEWHERE = Rule(  # component/launcher_v2.go:uploadOutputArtifacts, LocalPathForURI
    "artifact-elsewhere",
    CLUSTERS,
    "'{output}' was put at {uri}, which is not in the store of the run: it is not uploaded, and takers find nothing",
    "Leave the artifact's uri and path as they are, or call set_path.",
)
IMPORTER_URI = Rule(  # component/importer_launcher.go: GetComponentInputParameter
    "importer-uri",
    UP_TO_2_17,
    "the URI of an importer comes from a task or is a field of an item, as '{input}', and the importer looks among the "
    "parameters of the group around it ('parent DAG does not have input parameter', 'empty artifact URI')",
    "Give the importer a constant or a parameter, or put it into a pipeline that takes the URI.",
)
IMPORTER_DISPLAY_NAME = Rule(  # component/importer_launcher.go:Execute, TaskName: l.task.GetTaskInfo().GetName()
    "importer-display-name",
    UP_TO_2_17,
    "'{input}' comes from '{task}', an importer with a display name, under which KFP records it; the driver looks for "
    "its own name and fails ('cannot find producer task')",
    "Do not call set_display_name for importers.",
)
LOCAL_IMPORT = Rule(  # component/importer_launcher.go: objectstore.ParseProviderFromPath
    "local-import",
    CLUSTERS,
    "it imports {uri}, a file of this machine; importers take gs://, s3:// and minio:// only",
    "Put the file into an object store, and import it from there.",
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
    "parameters in the metadata of an importer are not filled in: takers see {{{{$.inputs.parameters[…]}}}}",
    "Use constants, or hand the parameter to the takers.",
)

# --- commands of container components --------------------------------------------------------------------------------

CONCAT = Rule(  # driver/util.go:resolveContainerArgs knows IfPresent only
    "concat-placeholder",
    (*CLUSTERS, LAPTOP),
    "dsl.ConcatPlaceholder arrives in the command as its JSON: {part}",
    "Join the parts in an f-string, or in the command.",
)
IF_PRESENT_ARTIFACT = Rule(  # driver/util.go:resolveCondition, which looks among the parameters
    "if-present-artifact",
    ("2.17", "next", LAPTOP),
    "dsl.IfPresentPlaceholder of the artifact '{input}' always takes the other choice, even if the artifact is given",
    "Decide by an optional parameter.",
)
DEFAULT_IN_COMMAND = Rule(  # driver/util.go:resolveSinglePlaceholder
    "default-in-command",
    ("2.17", "next", LAPTOP),
    "'{input}' stands in the command and is not given; the driver puts no default there, and fails ('not found in "
    "executor input')",
    "Give the component the value.",
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
    "{needed} is there on Kubernetes only; the laptop refuses the pipeline",
    "Run it on a cluster, or without.",
)
NEEDS_CONTAINER = Rule(
    "container-image",
    (LAPTOP,),
    "it runs a command in the image {image}, for which a laptop needs a container engine such as Docker; its "
    "packages and files are those of the image on a cluster",
    "Start an engine, or use --steps process for commands that this machine has.",
)
ARGO_WORKFLOW = Rule(
    "argo-workflow",
    (LAPTOP,),
    "this is a KFP v1 pipeline (an Argo Workflow), which consists of containers; the embedded KFP shows and refuses it",
    "Run it on a cluster, or write it for kfp 2.",
)
