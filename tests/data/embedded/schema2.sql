BEGIN TRANSACTION;
CREATE TABLE experiments (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        name_key TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL,
        storage_state TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        last_run_created_at INTEGER NOT NULL
    );
INSERT INTO "experiments" VALUES('4862ea56-8319-4374-bf53-49cf4c7ce726','Default','default','All runs created without specifying an experiment will be grouped here.','AVAILABLE',1700000000,1700000182);
INSERT INTO "experiments" VALUES('fe2ca989-b1f1-4a75-b073-3b7f5fba417f','실험','실험','d','AVAILABLE',1700000035,1700000042);
CREATE TABLE outputs (
        run_id TEXT NOT NULL,
        name TEXT NOT NULL,
        parameters TEXT NOT NULL,
        artifacts TEXT NOT NULL,
        PRIMARY KEY (run_id, name),
        FOREIGN KEY (run_id, name) REFERENCES tasks (run_id, name) ON DELETE CASCADE
    );
INSERT INTO "outputs" VALUES('Chosen','greet','{"Output": "결과", "n": 7, "nested": {"a": [1.5, null]}}','[{"name": "model", "type": "system.Model", "path": "/data/한글 model", "metadata": {"layers": 3}}, {"name": "m", "type": "system.Metrics", "path": "gs://x/m", "metadata": {"loss": 0.5}}]');
CREATE TABLE pipelines (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        name_key TEXT NOT NULL UNIQUE,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        tags TEXT NOT NULL
    );
INSERT INTO "pipelines" VALUES('dfe8363a-7c00-431b-8194-af020553ca8b','Größe 파이프라인','grösse 파이프라인','보이는 이름','설명',1700000007,'{"team": "ml"}');
INSERT INTO "pipelines" VALUES('ae83e07a-eb20-415e-a620-8e1b9f835a23','empty','empty','empty','',1700000028,'{}');
CREATE TABLE recurring_runs (
        id TEXT PRIMARY KEY,
        experiment_id TEXT NOT NULL,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        pipeline_id TEXT NOT NULL,
        version_id TEXT NOT NULL,
        spec TEXT NOT NULL,
        parameters TEXT NOT NULL,
        pipeline_root TEXT NOT NULL,
        service_account TEXT NOT NULL,
        max_concurrency INTEGER NOT NULL,
        schedule TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        no_catchup INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    );
INSERT INTO "recurring_runs" VALUES('645fe511-41ab-45c0-895d-c946ffa4e2d7','4862ea56-8319-4374-bf53-49cf4c7ce726','nightly','','dfe8363a-7c00-431b-8194-af020553ca8b','844c2e78-2677-4dc7-bbff-fd0d0734949d','','{}','','pipeline-runner',3,'{"cron_schedule":{"start_time":"2026-01-01T00:00:00Z","cron":"0 0 4 * * *"}}',1,1,1700000189,1700000189);
INSERT INTO "recurring_runs" VALUES('ea2e5726-0538-4401-bcb2-ee430056329f','fe2ca989-b1f1-4a75-b073-3b7f5fba417f','spec','','','','{"pipelineInfo":{"name":"inline"},"root":{"dag":{}},"schemaVersion":"2.1.0"}','{}','','pipeline-runner',1,'{"periodic_schedule":{"interval_second":"60"}}',0,0,1700000196,1700000196);
CREATE TABLE run_specs (
        digest TEXT PRIMARY KEY,
        spec TEXT NOT NULL
    );
INSERT INTO "run_specs" VALUES('f632bbf5f8e0d89d60806529e73c17e27b7bcb094ba57760bf8818078602e1ed','{"components":{"comp-greet":{"executorLabel":"exec-greet","inputDefinitions":{"parameters":{"name":{"parameterType":"STRING"},"times":{"defaultValue":1,"isOptional":true,"parameterType":"NUMBER_INTEGER"}}},"outputDefinitions":{"parameters":{"Output":{"parameterType":"STRING"}}}}},"deploymentSpec":{"executors":{"exec-greet":{"container":{"args":["--executor_input","{{$}}","--function_to_execute","greet"],"command":["sh","-c","\nif ! [ -x \"$(command -v pip)\" ]; then\n    python3 -m ensurepip || python3 -m ensurepip --user || apt-get install python3-pip\nfi\n\nPIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet --no-warn-script-location ''kfp==2.17.0'' ''--no-deps'' ''typing-extensions>=3.7.4,<5; python_version<\"3.9\"'' && \"$0\" \"$@\"\n","sh","-ec","program_path=$(mktemp -d)\n\nprintf \"%s\" \"$0\" > \"$program_path/ephemeral_component.py\"\n_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main                         --component_module_path                         \"$program_path/ephemeral_component.py\"                         \"$@\"\n","\nimport kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\ndef greet(name: str, times: int = 1) -> str:\n    \"\"\"Greets someone.\"\"\"\n    return \", \".join([f\"hello {name}\"] * times)\n\n"],"image":"python:3.11-slim"}}}},"pipelineInfo":{"description":"Greets one person; 한국어 설명도 괜찮다.","name":"hello-world"},"root":{"dag":{"outputs":{"parameters":{"Output":{"valueFromParameter":{"outputParameterKey":"Output","producerSubtask":"greet"}}}},"tasks":{"greet":{"cachingOptions":{"enableCache":true},"componentRef":{"name":"comp-greet"},"inputs":{"parameters":{"name":{"componentInputParameter":"recipient"},"times":{"componentInputParameter":"times"}}},"taskInfo":{"name":"greet"}}}},"inputDefinitions":{"parameters":{"recipient":{"defaultValue":"세계","isOptional":true,"parameterType":"STRING"},"times":{"defaultValue":2,"isOptional":true,"parameterType":"NUMBER_INTEGER"}}},"outputDefinitions":{"parameters":{"Output":{"parameterType":"STRING"}}}},"schemaVersion":"2.1.0","sdkVersion":"kfp-2.17.0"}');
INSERT INTO "run_specs" VALUES('7584e8f919be979641a658b5f605cc7c8572486746a2a39638e0e0b9b0bc3ef2','{"pipelineInfo":{"name":"inline"},"root":{"dag":{}},"schemaVersion":"2.1.0"}');
CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        id_key TEXT NOT NULL UNIQUE,
        experiment_id TEXT NOT NULL,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        pipeline_id TEXT NOT NULL,
        version_id TEXT NOT NULL,
        parameters TEXT NOT NULL,
        pipeline_root TEXT NOT NULL,
        service_account TEXT NOT NULL,
        workflow TEXT NOT NULL,
        storage_state TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        scheduled_at INTEGER NOT NULL,
        finished_at INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL,
        history TEXT NOT NULL,
        error TEXT NOT NULL DEFAULT '',
        spec_digest TEXT NOT NULL REFERENCES run_specs (digest),
        submission INTEGER NOT NULL,
        file_bytes INTEGER NOT NULL DEFAULT 0
    );
INSERT INTO "runs" VALUES('Chosen','chosen','fe2ca989-b1f1-4a75-b073-3b7f5fba417f','첫 run','kfadapter: {}','dfe8363a-7c00-431b-8194-af020553ca8b','7f3ad9fb-1f47-4386-b586-b770bc809e2c','{"recipient":"서울"}','gs://b','pipeline-runner','hello-world-c6da3','AVAILABLE',1700000042,1700000042,1700000119,'FAILED','[[1700000042, "PENDING"], [1700000056, "RUNNING"], [1700000119, "FAILED"]]','task loop[0]/square failed','f632bbf5f8e0d89d60806529e73c17e27b7bcb094ba57760bf8818078602e1ed',1,0);
INSERT INTO "runs" VALUES('1c43273b-1ef6-4c95-89a3-54d7022ffdad','1c43273b-1ef6-4c95-89a3-54d7022ffdad','4862ea56-8319-4374-bf53-49cf4c7ce726','archived','','dfe8363a-7c00-431b-8194-af020553ca8b','7f3ad9fb-1f47-4386-b586-b770bc809e2c','{}','','pipeline-runner','hello-world-e9a14','ARCHIVED',1700000126,1700000126,1700000175,'SUCCEEDED','[[1700000126, "PENDING"], [1700000140, "RUNNING"], [1700000175, "SUCCEEDED"]]','','f632bbf5f8e0d89d60806529e73c17e27b7bcb094ba57760bf8818078602e1ed',2,0);
INSERT INTO "runs" VALUES('067317ab-b208-4b34-9b01-c630f71d1ea6','067317ab-b208-4b34-9b01-c630f71d1ea6','4862ea56-8319-4374-bf53-49cf4c7ce726','waits','','','','{}','','pipeline-runner','inline-e4347','AVAILABLE',1700000182,1700000182,0,'PENDING','[[1700000182, "PENDING"]]','','7584e8f919be979641a658b5f605cc7c8572486746a2a39638e0e0b9b0bc3ef2',3,0);
CREATE TABLE specs (
        version_id TEXT PRIMARY KEY REFERENCES versions (id) ON DELETE CASCADE,
        spec TEXT NOT NULL
    );
INSERT INTO "specs" VALUES('7f3ad9fb-1f47-4386-b586-b770bc809e2c','{"components":{"comp-greet":{"executorLabel":"exec-greet","inputDefinitions":{"parameters":{"name":{"parameterType":"STRING"},"times":{"defaultValue":1,"isOptional":true,"parameterType":"NUMBER_INTEGER"}}},"outputDefinitions":{"parameters":{"Output":{"parameterType":"STRING"}}}}},"deploymentSpec":{"executors":{"exec-greet":{"container":{"args":["--executor_input","{{$}}","--function_to_execute","greet"],"command":["sh","-c","\nif ! [ -x \"$(command -v pip)\" ]; then\n    python3 -m ensurepip || python3 -m ensurepip --user || apt-get install python3-pip\nfi\n\nPIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet --no-warn-script-location ''kfp==2.17.0'' ''--no-deps'' ''typing-extensions>=3.7.4,<5; python_version<\"3.9\"'' && \"$0\" \"$@\"\n","sh","-ec","program_path=$(mktemp -d)\n\nprintf \"%s\" \"$0\" > \"$program_path/ephemeral_component.py\"\n_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main                         --component_module_path                         \"$program_path/ephemeral_component.py\"                         \"$@\"\n","\nimport kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\ndef greet(name: str, times: int = 1) -> str:\n    \"\"\"Greets someone.\"\"\"\n    return \", \".join([f\"hello {name}\"] * times)\n\n"],"image":"python:3.11-slim"}}}},"pipelineInfo":{"description":"Greets one person; 한국어 설명도 괜찮다.","name":"hello-world"},"root":{"dag":{"outputs":{"parameters":{"Output":{"valueFromParameter":{"outputParameterKey":"Output","producerSubtask":"greet"}}}},"tasks":{"greet":{"cachingOptions":{"enableCache":true},"componentRef":{"name":"comp-greet"},"inputs":{"parameters":{"name":{"componentInputParameter":"recipient"},"times":{"componentInputParameter":"times"}}},"taskInfo":{"name":"greet"}}}},"inputDefinitions":{"parameters":{"recipient":{"defaultValue":"세계","isOptional":true,"parameterType":"STRING"},"times":{"defaultValue":2,"isOptional":true,"parameterType":"NUMBER_INTEGER"}}},"outputDefinitions":{"parameters":{"Output":{"parameterType":"STRING"}}}},"schemaVersion":"2.1.0","sdkVersion":"kfp-2.17.0"}');
INSERT INTO "specs" VALUES('844c2e78-2677-4dc7-bbff-fd0d0734949d','{"pipeline_spec":{"components":{"comp-createpvc":{"executorLabel":"exec-createpvc","inputDefinitions":{"parameters":{"access_modes":{"description":"Values for ``PersistentVolumeClaim.spec.accessModes``.","parameterType":"LIST"},"annotations":{"description":"Annotations for the PVC''s metadata. Corresponds to\n`PersistentVolumeClaim.metadata.annotations\n<https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-claim-v1/#PersistentVolumeClaim>`_.","isOptional":true,"parameterType":"STRUCT"},"data_source":{"description":"Specifies the data source for the PVC. This can be used to\ncreate a PVC from a VolumeSnapshot or to clone an existing PVC.\nShould be a dictionary with ``''apiGroup''``, ``''kind''``, and\n``''name''`` keys. For example:\n``{''apiGroup'': ''snapshot.storage.k8s.io'', ''kind'': ''VolumeSnapshot'', ''name'': ''my-snapshot''}``.\nCorresponds to `PersistentVolumeClaim.spec.dataSource\n<https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-claim-v1/#PersistentVolumeClaimSpec>`_.","isOptional":true,"parameterType":"STRUCT"},"pvc_name":{"description":"Name of the PVC. Corresponds to\n`PersistentVolumeClaim.metadata.name\n<https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-claim-v1/#PersistentVolumeClaim>`_.\nOnly one of ``pvc_name`` and ``pvc_name_suffix`` can be provided.","isOptional":true,"parameterType":"STRING"},"pvc_name_suffix":{"description":"Prefix to use for a dynamically generated name, which\nwill take the form ``<argo-workflow-name>-<pvc_name_suffix>``. Only\none of ``pvc_name`` and ``pvc_name_suffix`` can be provided.","isOptional":true,"parameterType":"STRING"},"size":{"description":"The size of storage requested by the PVC that will be\nprovisioned. For example, ``''5Gi''``. Corresponds to\n`PersistentVolumeClaim.spec.resources.requests.storage\n<https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-claim-v1/#PersistentVolumeClaimSpec>`_.","parameterType":"STRING"},"storage_class_name":{"defaultValue":"","description":"Name of StorageClass from which to provision the PV\nto back the PVC. ``None`` indicates to use the cluster''s default\nstorage_class_name. Set to ``''''`` for a statically specified PVC.","isOptional":true,"parameterType":"STRING"},"volume_name":{"description":"Pre-existing PersistentVolume that should back the\nprovisioned PersistentVolumeClaim. Used for statically\nspecified PV only. Corresponds to\n`PersistentVolumeClaim.spec.volumeName\n<https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-claim-v1/#PersistentVolumeClaimSpec>`_.","isOptional":true,"parameterType":"STRING"}}},"outputDefinitions":{"parameters":{"name":{"parameterType":"STRING"}}}},"comp-deletepvc":{"executorLabel":"exec-deletepvc","inputDefinitions":{"parameters":{"pvc_name":{"description":"Name of the PVC to delete. Supports passing a runtime-generated name, such as a name provided by ``kubernetes.CreatePvcOp().outputs[''name'']``.","parameterType":"STRING"}}}},"comp-greet":{"executorLabel":"exec-greet","inputDefinitions":{"parameters":{"name":{"parameterType":"STRING"},"times":{"defaultValue":1,"isOptional":true,"parameterType":"NUMBER_INTEGER"}}},"outputDefinitions":{"parameters":{"Output":{"parameterType":"STRING"}}}}},"deploymentSpec":{"executors":{"exec-createpvc":{"container":{"image":"argostub/createpvc"}},"exec-deletepvc":{"container":{"image":"argostub/deletepvc"}},"exec-greet":{"container":{"args":["--executor_input","{{$}}","--function_to_execute","greet"],"command":["sh","-c","\nif ! [ -x \"$(command -v pip)\" ]; then\n    python3 -m ensurepip || python3 -m ensurepip --user || apt-get install python3-pip\nfi\n\nPIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet --no-warn-script-location ''kfp==2.17.0'' ''--no-deps'' ''typing-extensions>=3.7.4,<5; python_version<\"3.9\"'' && \"$0\" \"$@\"\n","sh","-ec","program_path=$(mktemp -d)\n\nprintf \"%s\" \"$0\" > \"$program_path/ephemeral_component.py\"\n_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main                         --component_module_path                         \"$program_path/ephemeral_component.py\"                         \"$@\"\n","\nimport kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\ndef greet(name: str, times: int = 1) -> str:\n    \"\"\"Greets someone.\"\"\"\n    return \", \".join([f\"hello {name}\"] * times)\n\n"],"image":"python:3.11-slim"}}}},"pipelineInfo":{"name":"kubernetes-platform"},"root":{"dag":{"tasks":{"createpvc":{"cachingOptions":{"enableCache":true},"componentRef":{"name":"comp-createpvc"},"inputs":{"parameters":{"access_modes":{"runtimeValue":{"constant":["ReadWriteOnce"]}},"pvc_name_suffix":{"runtimeValue":{"constant":"-work"}},"size":{"componentInputParameter":"size"},"storage_class_name":{"runtimeValue":{"constant":"standard"}}}},"taskInfo":{"name":"createpvc"}},"deletepvc":{"cachingOptions":{"enableCache":true},"componentRef":{"name":"comp-deletepvc"},"dependentTasks":["createpvc","greet"],"inputs":{"parameters":{"pvc_name":{"taskOutputParameter":{"outputParameterKey":"name","producerTask":"createpvc"}}}},"taskInfo":{"name":"deletepvc"}},"greet":{"cachingOptions":{"enableCache":true},"componentRef":{"name":"comp-greet"},"dependentTasks":["createpvc"],"inputs":{"parameters":{"name":{"runtimeValue":{"constant":"pvc"}}}},"taskInfo":{"name":"greet"}}}},"inputDefinitions":{"parameters":{"size":{"defaultValue":"1Gi","isOptional":true,"parameterType":"STRING"}}}},"schemaVersion":"2.1.0","sdkVersion":"kfp-2.17.0"},"platform_spec":{"platforms":{"kubernetes":{"deploymentSpec":{"executors":{"exec-greet":{"pvcMount":[{"mountPath":"/data","pvcNameParameter":{"taskOutputParameter":{"outputParameterKey":"name","producerTask":"createpvc"}},"taskOutputParameter":{"outputParameterKey":"name","producerTask":"createpvc"}}],"secretAsEnv":[{"keyToEnv":[{"envVar":"S3_PASSWORD","secretKey":"password"}],"optional":false,"secretName":"s3","secretNameParameter":{"runtimeValue":{"constant":"s3"}}}]}}}}}}}');
CREATE TABLE tasks (
        run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        history TEXT NOT NULL,
        error TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        ended_at INTEGER NOT NULL,
        PRIMARY KEY (run_id, name)
    );
INSERT INTO "tasks" VALUES('Chosen',0,'','FAILED','[[1700000049, "RUNNING"], [1700000098, "FAILED"]]','',1700000049,1700000112);
INSERT INTO "tasks" VALUES('Chosen',1,'greet','SUCCEEDED','[[1700000063, "RUNNING"], [1700000084, "SUCCEEDED"]]','',1700000063,1700000084);
INSERT INTO "tasks" VALUES('Chosen',2,'loop','FAILED','[[1700000070, "RUNNING"], [1700000105, "FAILED"]]','',1700000070,1700000105);
INSERT INTO "tasks" VALUES('Chosen',3,'loop[0]/square','FAILED','[[1700000077, "RUNNING"], [1700000091, "FAILED"]]','ValueError: 값',1700000077,1700000091);
INSERT INTO "tasks" VALUES('1c43273b-1ef6-4c95-89a3-54d7022ffdad',0,'','SUCCEEDED','[[1700000133, "RUNNING"], [1700000161, "SUCCEEDED"]]','',1700000133,1700000168);
INSERT INTO "tasks" VALUES('1c43273b-1ef6-4c95-89a3-54d7022ffdad',1,'greet','SUCCEEDED','[[1700000147, "RUNNING"], [1700000154, "SUCCEEDED"]]','',1700000147,1700000154);
CREATE TABLE versions (
        id TEXT PRIMARY KEY,
        pipeline_id TEXT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        name_key TEXT NOT NULL,
        display_name TEXT NOT NULL,
        description TEXT NOT NULL,
        code_source_url TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        tags TEXT NOT NULL,
        UNIQUE (pipeline_id, name_key)
    );
INSERT INTO "versions" VALUES('7f3ad9fb-1f47-4386-b586-b770bc809e2c','dfe8363a-7c00-431b-8194-af020553ca8b','Größe 파이프라인','grösse 파이프라인','보이는 이름','설명','',1700000014,'{}');
INSERT INTO "versions" VALUES('844c2e78-2677-4dc7-bbff-fd0d0734949d','dfe8363a-7c00-431b-8194-af020553ca8b','v2','v2','v2','둘째','https://example.org/x',1700000021,'{"a": "b"}');
CREATE INDEX pipelines_by_time ON pipelines (created_at, id);
CREATE INDEX versions_by_time ON versions (pipeline_id, created_at, id);
CREATE INDEX runs_by_time ON runs (created_at, id);
CREATE INDEX runs_of_experiments ON runs (experiment_id, created_at, id);
CREATE INDEX runs_by_state ON runs (state, submission);
CREATE INDEX runs_by_submission ON runs (submission);
CREATE INDEX runs_by_size ON runs (file_bytes);
CREATE INDEX runs_by_spec ON runs (spec_digest);
CREATE INDEX recurring_runs_by_time ON recurring_runs (created_at, id)
    ;
COMMIT;
PRAGMA user_version = 2;
