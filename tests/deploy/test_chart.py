"""The Helm chart renders what a cluster takes, restricted and consistent, and refuses what was not meant."""

import json
from typing import Any

import pytest
import yaml
from support import tools
from support.manifests import (
    CHART,
    VERSIONS,
    Json,
    helm,
    named,
    of_kind,
    pods,
    refused,
    rendered,
    unrestricted,
)
from support.schemas import problems
from support.servers.base import or_skip

from abmonitor.cli.serve import PATIENCE_S


EXAMPLES = ("plain", "small", "full", "argo")
ZEROS = "0" * 63


@pytest.fixture(autouse=True)
def _tools() -> None:
    with or_skip():
        tools.tool("helm")
        tools.definitions()


@pytest.fixture(params=EXAMPLES)
def manifests(request: pytest.FixtureRequest) -> list[Json]:
    """What each of the example values renders to."""
    return rendered(request.param)


@pytest.mark.parametrize("values", EXAMPLES)
def test_lint_finds_nothing_to_complain_of(values: str) -> None:
    status, told, wrong = helm("lint", "--strict", CHART, "-f", CHART / f"ci/{values}-values.yaml")
    assert status == 0, told + wrong
    assert "WARNING" not in told
    assert "ERROR" not in told


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", EXAMPLES)
def test_everything_fits_the_schemas_of_kubernetes_and_of_custom_resources(
    values: str, version: str
) -> None:
    made = rendered(values, version=version)
    wrong = {f"{one['kind']} {one['metadata']['name']}": problems(one, version) for one in made}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_schemas_find_what_is_wrong() -> None:
    made = rendered("full")
    for kind, field in (("Deployment", "replica"), ("PodMonitor", "jobLable")):
        one = of_kind(made, kind)[0]
        one["spec"][field] = "x"
        assert problems(one), kind
    scaled = named(made, "ScaledObject")
    scaled["spec"]["maxReplicaCount"] = "many"
    assert problems(scaled)


def test_every_kind_of_object_is_rendered_by_one_of_the_examples() -> None:
    found = {one["kind"] for values in EXAMPLES for one in rendered(values)}
    assert found == {
        "ConfigMap",
        "Deployment",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PodMonitor",
        "PrometheusRule",
        "Role",
        "RoleBinding",
        "ScaledObject",
        "Service",
        "ServiceAccount",
    }


def test_all_pods_are_restricted(manifests: list[Json]) -> None:
    found = {name: list(unrestricted(template["spec"])) for name, template in pods(manifests)}
    assert found
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_a_pod_that_is_not_restricted_is_noticed() -> None:
    _, template = next(pods(rendered("plain")))
    container = template["spec"]["containers"][0]
    container["securityContext"] = {"privileged": True}
    template["spec"]["hostNetwork"] = True
    template["spec"]["securityContext"] = {}
    template["spec"]["volumes"].append({"name": "all", "hostPath": {"path": "/"}})
    assert len(list(unrestricted(template["spec"]))) == 7


def test_nobody_but_the_monitor_has_a_token_and_only_for_argo(manifests: list[Json]) -> None:
    has_rights = bool(of_kind(manifests, "Role"))
    for name, template in pods(manifests):
        wanted = has_rights and name.endswith("-monitor")
        assert template["spec"]["automountServiceAccountToken"] is wanted, name


def test_pods_are_given_longer_to_end_than_they_take(manifests: list[Json]) -> None:
    for one in of_kind(manifests, "Deployment"):
        spec = one["spec"]["template"]["spec"]
        assert spec["terminationGracePeriodSeconds"] > PATIENCE_S + 1


def test_replicas_keep_apart_and_one_is_never_missing_while_they_are_replaced() -> None:
    for one in of_kind(rendered("plain"), "Deployment"):
        spec = one["spec"]
        assert spec["replicas"] == 2
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        labels = spec["selector"]["matchLabels"]
        (apart,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"].values()
        assert apart[0]["podAffinityTerm"]["labelSelector"]["matchLabels"] == labels
        (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"] == labels


# --- selectors and references ------------------------------------------------------------------------


def _selected(manifests: list[Json], labels: dict[str, str]) -> list[str]:
    return [
        name
        for name, template in pods(manifests)
        if labels.items() <= template["metadata"]["labels"].items()
    ]


def test_every_selector_finds_the_pods_that_it_is_named_after(manifests: list[Json]) -> None:
    wanted = {
        "Deployment": lambda one: one["spec"]["selector"]["matchLabels"],
        "PodDisruptionBudget": lambda one: one["spec"]["selector"]["matchLabels"],
        "PodMonitor": lambda one: one["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": lambda one: one["spec"]["podSelector"]["matchLabels"],
        "Service": lambda one: one["spec"]["selector"],
    }
    for one in manifests:
        if one["kind"] in wanted:
            labels = wanted[one["kind"]](one)
            assert _selected(manifests, labels) == [one["metadata"]["name"]], one["kind"]


def test_everything_that_is_referred_to_is_there(manifests: list[Json]) -> None:
    maps = {one["metadata"]["name"] for one in of_kind(manifests, "ConfigMap")}
    accounts = {one["metadata"]["name"] for one in of_kind(manifests, "ServiceAccount")}
    given = {"trial-settings"}  # by the user, in the small example
    for _, template in pods(manifests):
        spec = template["spec"]
        mounted = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}
        for volume in spec["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps | given
        assert spec.get("serviceAccountName", "default") in accounts | {"default"}
    for one in of_kind(manifests, "ScaledObject"):
        named(manifests, "Deployment", one["spec"]["scaleTargetRef"]["name"])


def test_a_job_before_the_release_needs_nothing_that_comes_with_it() -> None:
    made = rendered("full")
    hooks = [one for one in made if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    job, settings = named(hooks, "Job"), named(hooks, "ConfigMap")
    spec = job["spec"]["template"]["spec"]
    needed = [v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v]
    assert needed == [settings["metadata"]["name"]]
    assert "serviceAccountName" not in spec
    weights = [
        int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in (settings, job)
    ]
    assert weights == sorted(set(weights))


def test_nothing_secret_is_rendered_and_secrets_are_files(manifests: list[Json]) -> None:
    assert of_kind(manifests, "Secret") == []
    for _, template in pods(manifests):
        (container,) = template["spec"]["containers"]
        for entry in container["env"]:
            assert (
                entry["name"] in {"ABMONITOR_KAFKA", "TZ"} or "secretKeyRef" in entry["valueFrom"]
            )
        for volume in template["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440


def test_other_settings_start_pods_anew_and_nothing_else_does() -> None:
    def sums(*more: str) -> set[str]:
        made = of_kind(rendered("plain", *more), "Deployment")
        found = [one["spec"]["template"]["metadata"]["annotations"] for one in made]
        return {one["checksum/settings"] for one in found}

    before = sums()
    assert len(before) == 1
    assert sums("--set", "monitor.replicas=5") == before
    changed = CHART / "ci" / "argo-values.yaml"
    settings = yaml.safe_load(changed.read_text("utf-8"))["settings"].replace("argo", "log", 1)
    assert sums("--set-json", f"settings={json.dumps(settings.split('on_breach')[0])}") != before


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "setting", "said"),
    [
        ("plain", "image.digest=sha256:abc", "digest"),
        ("plain", f"image.digest=md5:{ZEROS}", "digest"),
        ("plain", "monitor.replicas=0", "replicas"),
        ("plain", "worker.replicas=two", "replicas"),
        ("plain", "worker.autoscaling.minReplicas=0", "minReplicas"),
        ("plain", "monitor.repicas=3", "repicas"),
        ("plain", "redisPassword=hunter2", "redisPassword"),
        ("plain", "kafka.servers=user:password@kafka:9092", "servers"),
        ("plain", "kafka.servers=kafka", "servers"),
        ("plain", "dryRun=yes", "dryRun"),
        ("plain", "links.monitor=abmonitor.example.org", "monitor"),
        ("plain", "worker.terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds"),
        ("plain", "networkPolicy.egress.kafka.ports[0]=0", "ports"),
        ("plain", "networkPolicy.egress.dns.ports=null", "ports is required"),  # would be all ports
        ("plain", "networkPolicy.egress.redis=null", "redis is required"),
        ("plain", "worker.extraEnv[0].value=1", "extraEnv"),
        ("plain", "settings=", "settings: give your settings file, as --set-file"),
        ("plain", "settings=a: [", "settings: this is no YAML"),
        ("plain", "existingSettings=mine", "which of them is meant?"),
        ("plain", "image.repository=", "image.repository: no image of abmonitor is published"),
        ("plain", "existingSecret=", "existingSecret: the settings name files"),
        ("plain", "kafka.servers=", "kafka.servers: say where Kafka is"),
        ("plain", "settings=deployment: x", "where is Redis?"),
        ("plain", "worker.replicas=13", "13 workers for 12 partitions"),
        ("full", "kafka.partitions=23", "24 workers for 23 partitions"),
        ("full", "worker.autoscaling.minReplicas=25", "expected at most maxReplicas (24), got 25"),
        (
            "small",
            "worker.autoscaling.enabled=true,kafka.topics={a},kafka.group=g,kafka.servers=",
            "worker.autoscaling needs kafka.servers",
        ),
        ("small", "worker.autoscaling.enabled=true", "say kafka.topics and kafka.group"),
        ("small", "dryRun=true", "the chart cannot look into the ConfigMap trial-settings"),
        ("plain", "dryRun=true", "dryRun: offers would act"),
        ("argo", "dryRun=true", "dryRun: offers would act"),
        ("plain", "metrics.rules.enabled=true", "say where people reach the monitor and Grafana"),
        ("plain", "argo.enabled=true", "name a Rollout that may be aborted"),
        ("argo", "argo.enabled=false", "offers rolls back by aborting a Rollout"),
        ("full", "networkPolicy.egress.monitor=null", "offers sends its orders to a webhook"),
        ("full", "networkPolicy.ingress.alertmanager=null", "would not let Alertmanager in"),
    ],
)
def test_what_was_not_meant_is_refused_with_the_reason(
    values: str, setting: str, said: str
) -> None:
    assert said in refused(values, "--set", setting)


def test_values_and_their_schema_have_the_same_keys() -> None:
    schema: Any = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))

    def compare(value: Json, described: Json, path: str) -> None:
        assert described["additionalProperties"] is False, path
        assert value.keys() == described["properties"].keys() - {"global"}, path
        for name, below in described["properties"].items():
            where = below
            while "$ref" in where:
                where = schema["definitions"][where["$ref"].rsplit("/", 1)[1]]
            if "properties" in where and isinstance(value.get(name), dict):
                compare(value[name], where, f"{path}.{name}")

    compare(values, schema, "values")
