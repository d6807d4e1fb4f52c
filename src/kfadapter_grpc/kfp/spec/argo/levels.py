"""The keys of an Argo Workflow (argoproj.io/v1alpha1), level by level.

A key that stands at no level is named in `unknown_parts`: `templateDefaults` and `podSpecPatch` among them, as they
change what a task is.
"""

from __future__ import annotations

from kfadapter_grpc.kfp.spec.level import level

WORKFLOW = level("apiVersion kind metadata spec", "status")
WORKFLOW_SPEC = level(
    "entrypoint templates arguments onExit parallelism volumes nodeSelector tolerations affinity imagePullSecrets",
    "activeDeadlineSeconds archiveLogs artifactGC artifactRepositoryRef automountServiceAccountToken dnsConfig"
    " dnsPolicy executor hostAliases hostNetwork metrics podDisruptionBudget podGC podMetadata podPriority"
    " podPriorityClassName priority schedulerName securityContext serviceAccountName shutdown suspend synchronization"
    " ttlStrategy volumeClaimGC volumeClaimTemplates workflowMetadata",
)
ARGUMENTS = level("parameters artifacts")
ARGUMENT = level("name value default description", "enum globalName valueFrom")
ARTIFACT_ARGUMENT = level(
    "name optional description",
    "archive archiveLogs artifactGC artifactory azure deleted from fromExpression gcs git globalName hdfs http mode oss"
    " path raw recurseMode s3 subPath",
)

TOLD_SPEC = level("name description inputs", "outputs")
TOLD_INPUT = level("name type default optional description", "annotations")

TEMPLATE = level(
    "name dag steps container script containerSet parallelism metadata retryStrategy nodeSelector tolerations affinity"
    " volumes resource suspend",
    "activeDeadlineSeconds annotations archiveLocation automountServiceAccountToken daemon executor failFast"
    " hostAliases initContainers inputs memoize metrics outputs priority priorityClassName schedulerName"
    " securityContext serviceAccountName sidecars synchronization timeout",
)
DAG = level("tasks", "failFast target")
STEP = level(
    "name template arguments when dependencies depends withItems withParam withSequence onExit hooks inline"
    " templateRef",
    "continueOn",
)
TEMPLATE_REF = level("name template", "clusterScope")
HOOKS = level("exit")
HOOK = level("template", "arguments expression")
STEP_ARGUMENT = level("name value", "default description enum globalName valueFrom")
SEQUENCE = level("count start end", "format")
RETRY = level("limit", "affinity backoff expression retryPolicy")
RESOURCE = level(
    "manifest", "action failureCondition flags manifestFrom mergeStrategy setOwnerReference successCondition"
)

CONTAINER = level(
    "image resources volumeMounts env envFrom",
    "args command imagePullPolicy lifecycle livenessProbe mirrorVolumeMounts name ports readinessProbe resizePolicy"
    " restartPolicy securityContext source startupProbe stdin stdinOnce terminationMessagePath terminationMessagePolicy"
    " tty volumeDevices workingDir dependencies",
)
CONTAINER_SET = level("containers", "retryStrategy volumeMounts")
RESOURCES = level("limits requests", "claims")
MOUNT = level("name", "mountPath mountPropagation readOnly recursiveReadOnly subPath subPathExpr")
