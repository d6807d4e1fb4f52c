"""What schemas cannot check: that the parts of an installation are consistent, the settings, and the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scripts import manifests
from scripts.manifests import ROOT
from tests.deploy.conftest import EVERYTHING, installation, names

from kfadapter_grpc.addresses import split_address
from kfadapter_grpc.kfp.artifact_stores import read_store_entries
from kfadapter_grpc.methods import CallKind
from kfadapter_grpc.metrics import catalog
from kfadapter_grpc.server.grpc_server import FLUSH_SECONDS
from kfadapter_grpc.server.process import ABANDON_SECONDS
from kfadapter_grpc.setting_checks import SERVICE_ACCOUNT_AUDIENCE, SERVICE_ACCOUNT_TOKEN
from kfadapter_grpc.setting_sources import PREFIX, declared
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from tests.deploy.conftest import Installation

UNITS = {"Mi": 2**20, "Gi": 2**30}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
SAFE_VOLUMES = {"emptyDir", "secret", "configMap", "projected"}
CLUSTER_WIDE = {"Namespace", "ClusterRoleBinding"}
LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of")}


def test_everything_there_is_is_looked_at() -> None:
    """Tested are three overlays, one installation with all components, and three examples of the documentation."""
    assert list(names()) == ["embedded", "multi-user", "single-user", EVERYTHING, "example 0", "example 1", "example 2"]
    of_pods = {
        "issuers",
        "access-rules",
        "otel",
        "tls",
        "mutual-tls",
        "tokens",
        "pod-logs",
        "token-review",
        "artifact-stores",
        "autoscaling",
        "istio",
    }
    beside = {"monitoring", "alerts", "dashboards", "certificate", "gateway", "gateway-tls", "notify", "legacy-http"}
    assert {one.name for one in manifests.components()} == {*of_pods, *beside, "console"}


def test_pods_are_restricted(installed: Installation) -> None:
    """Pods comply with the Pod Security Standard `restricted`."""
    context = installed.pod["securityContext"]
    assert (context["runAsNonRoot"], context["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert not [key for key in installed.pod if key.startswith("host")]
    assert {kind for volume in installed.pod["volumes"] for kind in volume if kind != "name"} <= SAFE_VOLUMES


def test_containers_are_restricted(installed: Installation) -> None:
    """No container has a capability, privilege escalation, a writable root file system, or a user of its own."""
    for container in installed.containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", []))


def test_pods_run_as_the_user_of_the_image(installed: Installation) -> None:
    """User and group own the image's folders; Secrets are only readable for that group."""
    context = installed.pod["securityContext"]
    user = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("USER "))
    assert user == f"USER {context['runAsUser']}:{context['runAsGroup']}"
    assert context["fsGroup"] == context["runAsGroup"]
    for volume in installed.pod["volumes"]:
        if "secret" in volume or "projected" in volume:
            assert volume.get("secret", volume.get("projected"))["defaultMode"] == 0o440


def test_resources_are_set(installed: Installation) -> None:
    """Every container requests CPU, memory and disk, and has limits for memory and disk."""
    for container in installed.containers:
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory", "ephemeral-storage"}
        assert set(resources["limits"]) >= {"memory", "ephemeral-storage"}
        for name, limit in resources["limits"].items():
            assert number_of_bytes(resources["requests"][name]) <= number_of_bytes(limit)


def test_all_containers_are_of_one_image(installed: Installation) -> None:
    """The image has one name, which an installation replaces."""
    (image,) = {container["image"] for container in installed.containers}
    expected = "registry.example.com/kfadapter-grpc:0.1.0" if "example" in installed.name else "kfadapter-grpc"
    assert image == expected


def test_variables_are_settings(installed: Installation) -> None:
    """Every variable of the adapter is a setting: it would not start with another."""
    own = {name for name in manifests.variables(installed.made) if not name.startswith("OTEL_")}
    assert own <= {one.variable for one in declared(Settings).values()}


def test_variables_come_from_the_config_map(installed: Installation) -> None:
    """The adapter reads the generated ConfigMap, and no variables that Kubernetes sets for Services."""
    name = installed.one("ConfigMap")["metadata"]["name"]
    assert installed.adapter["envFrom"] == [{"configMapRef": {"name": name}}]
    assert name != "kfadapter", "without a hash, a change would not make new pods"
    assert installed.pod["enableServiceLinks"] is False
    assert "env" not in installed.adapter


def test_ports_are_those_that_are_listened_on(installed: Installation) -> None:
    """The adapter listens on each port of the container, and each Service leads to one of them."""
    listens = {"grpc": "listen", "metrics": "metrics_listen", "health": "health_listen"}
    for port in installed.adapter["ports"]:
        assert port["containerPort"] == installed.port_of(listens[port["name"]])
    for service in installed.services:
        for port in service["spec"]["ports"]:
            assert port["port"] == installed.ports[port["targetPort"]]
    assert ("health" in installed.ports) != installed.setting("health_listen").startswith("127.")


def test_probes_ask_over_plain_grpc_for_the_adapter_alone(installed: Installation) -> None:
    """All three probes check the adapter's overall health over plain gRPC, not KFP's."""
    tls = installed.setting("tls_certificate") != "None"
    port = installed.port_of("health_listen" if tls else "listen")
    assert port in installed.ports.values()
    for probe in PROBES:
        assert installed.adapter[probe]["grpc"] == {"port": port}


def test_tls_or_the_word_that_there_is_none(installed: Installation) -> None:
    """An installation has TLS, or the flag for no TLS, never both."""
    has_tls = installed.setting("tls_certificate") != "None"
    assert (installed.setting("insecure_listen") == "true") != has_tls


def test_times_fit(installed: Installation) -> None:
    """Kubernetes kills no draining pod, neither by the grace period nor by the liveness probe."""
    drain = float(installed.setting("drain_seconds")) + float(installed.setting("grace_seconds"))
    assert float(installed.setting("drain_seconds")) > 0
    assert installed.pod["terminationGracePeriodSeconds"] >= drain + FLUSH_SECONDS + ABANDON_SECONDS
    liveness = installed.adapter["livenessProbe"]
    assert liveness["periodSeconds"] * (liveness["failureThreshold"] - 1) > drain


def test_uploads_wait_on_a_disk_that_holds_them(installed: Installation) -> None:
    """The upload folder is a volume on disk, large enough for all uploads, within the container's disk limit."""
    volume = volume_at(installed, installed.setting("upload_dir"))["emptyDir"]
    needed = int(installed.setting("max_uploads")) * int(installed.setting("max_upload_bytes"))
    assert "medium" not in volume
    assert needed <= number_of_bytes(volume["sizeLimit"])
    for container in installed.containers:
        sizes = [number_of_bytes(one["emptyDir"]["sizeLimit"]) for one in volumes_of(installed, container)]
        assert sum(sizes) < number_of_bytes(container["resources"]["limits"]["ephemeral-storage"])


def test_files_are_mounted(installed: Installation) -> None:
    """Every file that a setting names is in a volume mounted as a whole: Kubernetes does not update a subPath."""
    for name, value in manifests.variables(installed.made).items():
        if value.startswith("/"):
            assert volume_at(installed, value.rpartition("/")[0]), name
    mounts = [mount for container in installed.containers for mount in container["volumeMounts"]]
    assert not any("subPath" in mount for mount in mounts)


def test_artifact_stores(kustomize: None) -> None:
    """The component's file is valid, and the Secret that it names is mounted where the adapter reads it."""
    del kustomize
    installed = installation(EVERYTHING)
    (text,) = (one["data"]["stores.yaml"] for one in installed.all("ConfigMap") if "stores.yaml" in one["data"])
    places = read_store_entries(text.encode())
    assert {(one.scheme, one.bucket) for one in places} == {("minio", "mlpipeline")}
    for place in places:
        assert place.store.credentials is not None
        assert place.store.credentials.secret_ref is not None
        name = place.store.credentials.secret_ref.secret_name
        assert volume_at(installed, f"{place.secrets}/{name}")["secret"]["secretName"] == name


def test_there_is_no_token_for_kubernetes(installed: Installation) -> None:
    """A pod only has a service account token for KFP, if KFP requires one, and to read logs of pods."""
    assert installed.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert installed.pod["automountServiceAccountToken"] is bool(installed.all("Role"))
    assert installed.pod["serviceAccountName"] == installed.one("ServiceAccount")["metadata"]["name"]
    projected = [volume["projected"]["sources"] for volume in installed.pod["volumes"] if "projected" in volume]
    if installed.setting("kfp_credentials") != "service-account":
        assert projected == []
        return
    ((source,),) = projected
    assert source["serviceAccountToken"]["audience"] == SERVICE_ACCOUNT_AUDIENCE
    assert source["serviceAccountToken"]["path"] == SERVICE_ACCOUNT_TOKEN.name
    assert "projected" in volume_at(installed, str(SERVICE_ACCOUNT_TOKEN.parent))


def test_rights_in_kubernetes(kustomize: None) -> None:
    """With pod-logs the service account reads logs of pods in its namespace, with token-review it reviews tokens."""
    del kustomize
    installed = installation(EVERYTHING)
    (role,), (binding,) = installed.all("Role"), installed.all("RoleBinding")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = {"kind": "ServiceAccount", "name": installed.pod["serviceAccountName"], "namespace": "kubeflow"}
    assert binding["subjects"] == [account]
    (review,) = installed.all("ClusterRoleBinding")
    assert (review["roleRef"]["name"], review["subjects"]) == ("system:auth-delegator", [account])


def test_policy_and_services_are_about_the_pods(installed: Installation) -> None:
    """Deployment, Services, policy, budget and spreading all select the adapter's pods."""
    deployment = installed.one("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [
        deployment["selector"]["matchLabels"],
        installed.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        installed.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        *(service["spec"]["selector"] for service in installed.services),
        *(one["labelSelector"]["matchLabels"] for one in installed.pod["topologySpreadConstraints"]),
    ]
    own = {"app.kubernetes.io/name": "kfadapter", "app.kubernetes.io/instance": "kfadapter"}
    assert selectors == [own] * len(selectors)
    assert selectors[0].items() <= labels.items()


def test_one_pod_may_go_at_a_time(installed: Installation) -> None:
    """There are two adapters, one of which stays during drains and rollouts; with an embedded KFP there is one."""
    deployment = installed.one("Deployment")["spec"]
    embedded = installed.name == "embedded"
    scaler = next(iter(installed.all("HorizontalPodAutoscaler")), None)
    assert (scaler["spec"]["minReplicas"] if scaler else deployment["replicas"]) == (1 if embedded else 2)
    assert (scaler is None) == ("replicas" in deployment), "an apply would undo what the autoscaler sets"
    assert deployment["strategy"] == (
        {"type": "Recreate"} if embedded else {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    )
    assert installed.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_policy_lets_through_what_is_needed(installed: Installation) -> None:
    """The policy allows calls and Prometheus in, from named peers, and out only what KFP, DNS and components need."""
    policy = installed.one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    inward = [(port["port"], bool(rule["from"])) for rule in policy["ingress"] for port in rule["ports"]]
    taken = (installed.ports.get(name) for name in ("grpc", "legacy-http", "metrics", "legacy-metrics"))
    assert inward == [(port, True) for port in taken if port]
    outward = {port["port"] for rule in policy.get("egress", []) for port in rule["ports"]}
    kfp = urlsplit(installed.setting("kfp_url"))
    at_home = kfp.hostname == "127.0.0.1"
    kubernetes = {443, 6443} if installed.all("Role") else set()
    collector = {4317, 4318} if "OTEL_EXPORTER_OTLP_ENDPOINT" in installed.environment else set()
    stores = {8333, 9000} if installed.setting("artifact_stores") != "None" else set()
    of_kfp = kfp.port or {"http": 80, "https": 443}[kfp.scheme]
    of_mlmd = split_address(installed.setting("mlmd_address") or "mlmd:8080")[1]
    istiod = {15012} if installed.all("AuthorizationPolicy") else set()
    assert outward == (set() if at_home else {53, of_kfp, of_mlmd, *kubernetes, *stores, *istiod, *collector})


def test_headless_service_is_headless(installed: Installation) -> None:
    """One Service has a cluster IP, the other is headless; both declare gRPC."""
    services = {service["metadata"]["name"]: service["spec"] for service in installed.services}
    assert set(services) == {"kfadapter", "kfadapter-headless"}
    assert services["kfadapter-headless"]["clusterIP"] == "None"
    assert "clusterIP" not in services["kfadapter"]
    for spec in services.values():
        assert [port["appProtocol"] for port in spec["ports"] if port["name"] == "grpc"] == ["grpc"]


def test_prometheus_finds_each_pod_once(kustomize: None) -> None:
    """The ServiceMonitor selects one Service, by its labels and the name of one of its ports."""
    del kustomize
    installed = installation(EVERYTHING)
    monitor = installed.one("ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    (found,) = [one for one in installed.services if wanted <= one["metadata"]["labels"].items()]
    assert {one["port"] for one in monitor["endpoints"]} <= {port["name"] for port in found["spec"]["ports"]}


def test_recommended_labels(installed: Installation) -> None:
    """All objects but ConfigMaps and namespaces, and all pods, carry the labels that Kubernetes recommends."""
    labelled = [one for one in installed.made if one["kind"] not in ("ConfigMap", "Namespace")]
    labelled += [one["spec"]["template"] for one in installed.all("Deployment")]
    for manifest in labelled:
        assert set(manifest["metadata"]["labels"]) >= LABELS


def test_the_certificate_has_all_names(everything: Installation) -> None:
    """The certificate has each Service's name in every form, and every host that a client in the installation calls."""
    (certificate,) = (one["spec"] for one in everything.all("Certificate"))
    names = {*certificate["dnsNames"], *certificate["ipAddresses"]}
    services = [one["metadata"]["name"] for one in everything.services]
    domains = ("", ".kubeflow", ".kubeflow.svc", ".kubeflow.svc.cluster.local")
    assert names == {service + domain for service in services for domain in domains} | {"localhost", "127.0.0.1"}
    targets = [target for one in everything.all("ConfigMap") if (target := one["data"].get("KFADAPTER_TARGET"))]
    assert len(targets) == len(("notify", "legacy-http", "console"))
    assert {target.rpartition(":")[0] for target in targets} <= names
    secret = volume_at(everything, "/etc/kfadapter/tls")["secret"]["secretName"]
    assert certificate["secretName"] == secret


def test_scaling_follows_the_catalog(everything: Installation) -> None:
    """Adapters are added at half of the limits for calls in flight, by the metric's name and kinds."""
    metrics = [one["pods"] for one in everything.one("HorizontalPodAutoscaler")["spec"]["metrics"] if "pods" in one]
    found = {one["metric"]["selector"]["matchLabels"]["kind"]: int(one["target"]["averageValue"]) for one in metrics}
    assert {one["metric"]["name"] for one in metrics} == {catalog.INFLIGHT.name}
    limits = {CallKind.UNARY: "max_unary_calls", CallKind.STREAM: "max_streams"}
    assert found == {kind.value: int(everything.setting(limit)) // 2 for kind, limit in limits.items()}


def test_outer_policies_are_about_the_port_for_calls(everything: Installation) -> None:
    """Gateway and mesh lead to the adapter's Service and pods, at the ports for calls and metrics."""
    (backend,) = everything.one("GRPCRoute")["spec"]["rules"][0]["backendRefs"]
    assert backend == {"name": everything.one("Service")["metadata"]["name"], "port": everything.ports["grpc"]}
    policy = everything.one("BackendTLSPolicy")["spec"]
    (target,) = policy["targetRefs"]
    ports = {one["name"]: one["port"] for one in everything.one("Service")["spec"]["ports"]}
    assert {"name": target["name"], "port": ports[target["sectionName"]]} == backend
    assert policy["validation"]["hostname"] in everything.one("Certificate")["spec"]["dnsNames"]
    policy = everything.one("AuthorizationPolicy")["spec"]
    assert policy["selector"] == everything.one("Deployment")["spec"]["selector"]
    reached = [port for rule in policy["rules"] for to in rule["to"] for port in to["operation"]["ports"]]
    assert reached == [str(everything.ports["grpc"]), str(everything.ports["metrics"])]


def test_everything_goes_into_one_namespace(installed: Installation) -> None:
    """An installation is in KFP's namespace, as its policy assumes, or in one that it creates."""
    found = {one["metadata"]["namespace"] for one in installed.made if one["kind"] not in CLUSTER_WIDE}
    made = {one["metadata"]["name"] for one in installed.all("Namespace")}
    assert found == (made or {"kubeflow"})


def number_of_bytes(quantity: str) -> float:
    """The bytes of a Kubernetes quantity; 0 without a unit of bytes, as for CPU."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]] if quantity[-2:] in UNITS else 0


def volume_at(installed: Installation, path: str) -> dict[str, Any]:
    """The volume mounted at a path in the adapter's container."""
    (name,) = [one["name"] for one in installed.adapter["volumeMounts"] if one["mountPath"] == path]
    (volume,) = [one for one in installed.pod["volumes"] if one["name"] == name]
    found: dict[str, Any] = volume
    return found


def volumes_of(installed: Installation, container: dict[str, Any]) -> list[dict[str, Any]]:
    """The disk volumes of a container."""
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    return [one for one in installed.pod["volumes"] if one["name"] in mounted and "emptyDir" in one]


def test_the_variables_of_the_image_are_settings() -> None:
    """Every KFADAPTER_ variable that the Dockerfile sets is a setting of the server."""
    names = {name.removeprefix(PREFIX).lower() for name in manifests.image_variables()}
    assert "listen" in names
    assert names <= set(declared(Settings))
