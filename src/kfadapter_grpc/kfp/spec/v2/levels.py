"""The keys of KFP v2's pipeline spec (pipeline_spec.proto of KFP 2.17), level by level.

A key that stands at no level is named in `unknown_parts`: `customJob` and `resolver` of an executor,
`singlePlatformSpecs` of a component among them.
"""

from __future__ import annotations

from kfadapter_grpc.kfp.spec.level import level

PIPELINE = level(
    "pipelineInfo root components deploymentSpec schemaVersion sdkVersion", "defaultPipelineRoot platform_spec"
)
INFO = level("name description", "displayName")
ROOT = level("inputDefinitions outputDefinitions dag executorLabel", "taskConfigPassthroughs")
DEFINITIONS = level("parameters artifacts")
PARAMETER = level("parameterType type defaultValue isOptional description literals")
OUTPUT_PARAMETER = level("parameterType type description")
ARTIFACT = level("artifactType isArtifactList isOptional description", "properties customProperties metadata")
ARTIFACT_TYPE = level("schemaTitle schemaUri instanceSchema", "schemaVersion")

COMPONENT = level("dag executorLabel", "inputDefinitions outputDefinitions taskConfigPassthroughs")
DAG = level("tasks outputs")
DAG_OUTPUTS = level("parameters artifacts")
DAG_PARAMETER = level("valueFromParameter valueFromOneof")
ONE_OF = level("parameterSelectors")
DAG_ARTIFACT = level("artifactSelectors")
SELECTOR = level("producerSubtask outputParameterKey outputArtifactKey")

TASK = level(
    "taskInfo componentRef dependentTasks inputs cachingOptions triggerPolicy retryPolicy parameterIterator"
    " artifactIterator iteratorPolicy"
)
TASK_INFO = level("name")
COMPONENT_REF = level("name")
CACHING = level("enableCache", "cacheKey")
TRIGGER = level("condition strategy")
RETRY = level("maxRetryCount", "backoffDuration backoffFactor backoffMaxDuration")
ITERATOR_POLICY = level("parallelismLimit")
ITERATOR = level("items itemInput")
ITEMS = level("raw inputParameter inputArtifact")

INPUTS = level("parameters artifacts")
INPUT_PARAMETER = level(
    "componentInputParameter taskOutputParameter runtimeValue taskFinalStatus parameterExpressionSelector"
)
INPUT_ARTIFACT = level("componentInputArtifact taskOutputArtifact")
TASK_OUTPUT = level("producerTask outputParameterKey outputArtifactKey")
FINAL_STATUS = level("producerTask")
RUNTIME_VALUE = level("constant constantValue runtimeParameter")
OLD_VALUE = level("stringValue intValue doubleValue")

DEPLOYMENT = level("executors")
EXECUTOR = level("container importer")
CONTAINER = level("image resources", "command args env lifecycle")
IMPORTER = level("", "artifactUri typeSchema properties customProperties reimport metadata downloadToWorkspace")
RESOURCES = level(
    "cpuLimit cpuRequest memoryLimit memoryRequest accelerator"
    " resourceCpuLimit resourceCpuRequest resourceMemoryLimit resourceMemoryRequest"
)
ACCELERATOR = level("type count resourceType resourceCount")

PLATFORM_SPEC = level("platforms")
PLATFORMS = level("kubernetes")
PLATFORM = level("deploymentSpec", "platform pipelineConfig")
