"""What the Helm chart renders is true of abmonitor: its paths, ports, topics, rights, rules and dashboards."""

import re
import runpy
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from aiohttp import web
from support import tools
from support.manifests import CHART, Json, documents, helm, named, of_kind, pods, rendered
from support.servers.base import or_skip

from abmonitor.cli.main import app
from abmonitor.exposition import Exposition
from abmonitor.http import base_application
from abmonitor.server import application
from abmonitor.settings import Settings, load
from abmonitor.view import View


DEPLOY = tools.PROJECT / "deploy"
LINKS = {
    "http://localhost:8000": "https://abmonitor.example.org",
    "http://localhost:3000": "https://grafana.example.org",
}
GIVEN = ("plain", "full", "argo")
"""Examples with their settings in them."""


@pytest.fixture(autouse=True)
def _tools() -> None:
    with or_skip():
        tools.tool("helm")


def settings_in(manifests: list[Json], folder: Path) -> tuple[Path, Settings]:
    """The settings as pods find them."""
    folder.mkdir()
    for name, text in named(manifests, "ConfigMap", "-settings")["data"].items():
        (folder / name).write_text(text, "utf-8")
    return folder, load(folder)


def applications() -> dict[str, web.Application]:
    """By the name of a container: what is served in it."""
    empty = View(as_of=None, experiments={})
    exposed = Exposition(lambda: empty)
    return {
        "worker": base_application(exposed, lambda: None),
        "monitor": application(lambda: empty, lambda: None),
    }


# --- the command line and HTTP -----------------------------------------------------------------------


@pytest.mark.parametrize("values", [*GIVEN, "small"])
def test_every_container_runs_a_command_that_exists_with_options_that_it_has(values: str) -> None:
    group: Any = typer.main.get_command(app)
    for _, template in pods(rendered(values)):
        (container,) = template["spec"]["containers"]
        assert container["command"] == ["abmonitor"]
        with group.make_context("abmonitor", list(container["args"])) as context:
            command, rest = group, list(container["args"])
            while hasattr(command, "commands"):
                _, command, rest = command.resolve_command(context, rest)
            parsed = command.make_context(command.name, rest)
        assert parsed.params["config"] == Path("/etc/abmonitor")
        assert parsed.params.get("port") in {None, *ports(container).values()}


def ports(container: Json) -> dict[str, int]:
    """By name."""
    return {port["name"]: port["containerPort"] for port in container.get("ports", [])}


def test_probes_and_scrapes_ask_for_paths_that_are_served() -> None:
    made = rendered("full")
    served = applications()
    for one in of_kind(made, "Deployment"):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        known = {
            route.resource.canonical
            for route in served[container["name"]].router.routes()
            if route.resource
        }
        probes = {
            name: container[f"{name}Probe"]["httpGet"]
            for name in ("startup", "liveness", "readiness")
        }
        assert {name: probe["path"] for name, probe in probes.items()} == {
            "startup": "/healthz",
            "liveness": "/healthz",
            "readiness": "/readyz",
        }
        (scrape,) = named(made, "PodMonitor", container["name"])["spec"]["podMetricsEndpoints"]
        assert {probe["path"] for probe in probes.values()} | {scrape["path"]} <= known
        assert {probe["port"] for probe in probes.values()} | {scrape["port"]} == ports(
            container
        ).keys()


def test_jobs_are_called_as_alerts_and_dashboards_expect() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    monitors = of_kind(rendered("full"), "PodMonitor")
    for one in monitors:
        (scrape,) = one["spec"]["podMetricsEndpoints"]
        (named_so,) = scrape["relabelings"]
        assert named_so["targetLabel"] == "job"
        assert named_so["replacement"] in jobs
    assert len(monitors) == 2


# --- the network -------------------------------------------------------------------------------------


def test_network_policies_open_the_ports_that_pods_use_and_no_others() -> None:
    made = rendered("full")
    servers = named(made, "Deployment", "-worker")["spec"]["template"]["spec"]["containers"][0][
        "env"
    ][0]
    kafka = {int(server.rsplit(":", 1)[1]) for server in servers["value"].split(",")}
    for one in of_kind(made, "Deployment"):
        policy = named(made, "NetworkPolicy", one["metadata"]["name"])["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        (rule,) = policy["ingress"]
        (container,) = one["spec"]["template"]["spec"]["containers"]
        assert {port["port"] for port in rule["ports"]} == ports(container).keys()
        assert rule["from"]
        reached = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
        assert reached >= kafka | {53, 6379}
        extra = {9093, 8443} if container["name"] == "monitor" else set()
        assert reached == kafka | {53, 6379} | extra
    (service,) = named(made, "Service")["spec"]["ports"]
    assert service["targetPort"] == "http"


def test_only_prometheus_is_let_in_unless_somebody_else_is_named() -> None:
    for values, workers, monitors in (("plain", 1, 1), ("argo", 1, 2), ("full", 1, 4)):
        made = rendered(values)
        for component, expected in (("worker", workers), ("monitor", monitors)):
            (rule,) = named(made, "NetworkPolicy", component)["spec"]["ingress"]
            assert len(rule["from"]) == expected, (values, component)
            assert rule["from"][0]["podSelector"]["matchLabels"] == {
                "app.kubernetes.io/name": "prometheus"
            }


def test_an_empty_list_lets_nobody_in() -> None:
    made = rendered("plain", "--set-json", "networkPolicy.ingress.prometheus=[]")
    for one in of_kind(made, "NetworkPolicy"):
        assert one["spec"]["ingress"] == []  # a rule with an empty list would let everybody in
        assert "Ingress" in one["spec"]["policyTypes"]


def test_peers_that_a_cluster_takes_away_with_null_are_none() -> None:
    away = [f"networkPolicy.ingress.{who}=null" for who in ("prometheus", "users", "alertmanager")]
    made = rendered("plain", *(part for each in away for part in ("--set", each)))
    assert all(one["spec"]["ingress"] == [] for one in of_kind(made, "NetworkPolicy"))


def test_only_a_monitor_that_aborts_rollouts_may_reach_the_api_server() -> None:
    def reaches(values: str, component: str) -> bool:
        rules = named(rendered(values), "NetworkPolicy", component)["spec"]["egress"]
        return any(port["port"] == 6443 for rule in rules for port in rule["ports"])

    assert reaches("argo", "monitor")
    assert not reaches("argo", "worker")
    assert not reaches("plain", "monitor")


# --- settings, scaling, rights -----------------------------------------------------------------------


@pytest.mark.parametrize("values", GIVEN)
def test_the_settings_of_the_examples_are_good(values: str, tmp_path: Path) -> None:
    _, found = settings_in(rendered(values), tmp_path / "mounted")
    assert found.redis.file == "/run/secrets/abmonitor/redis"
    assert [one.name for one in found.experiments] == ["offers"]


def test_what_pods_mount_passes_the_check(tmp_path: Path) -> None:
    folder, _ = settings_in(rendered("plain"), tmp_path / "mounted")
    done = tools.run([sys.executable, "-m", "abmonitor", "check", "-c", folder])
    assert done.returncode == 0, done.stderr
    assert "offers" in done.stdout


@pytest.mark.parametrize("values", GIVEN)
def test_workers_scale_by_the_topics_and_the_group_that_they_use(
    values: str, tmp_path: Path
) -> None:
    made = rendered(values, "--set", "worker.autoscaling.enabled=true")
    _, found = settings_in(made, tmp_path / "mounted")
    scaled = named(made, "ScaledObject")["spec"]
    asked = [trigger["metadata"] for trigger in scaled["triggers"]]
    assert sorted(one["topic"] for one in asked) == sorted(found.topics)
    assert {one["consumerGroup"] for one in asked} == {found.group}
    assert {one["allowIdleConsumers"] for one in asked} == {"false"}
    assert all(isinstance(value, str) for one in asked for value in one.values())
    assert "fallback" not in scaled
    deployment = named(made, "Deployment", "-worker")["spec"]
    assert "replicas" not in deployment  # each upgrade would undo what KEDA did
    servers = deployment["template"]["spec"]["containers"][0]["env"][0]
    assert {one["bootstrapServers"] for one in asked} == {servers["value"].replace(" ", "")}


def test_what_keda_is_told_is_what_it_knows() -> None:
    with or_skip():
        (source,) = tools.definitions("kafka_scaler.go")
    known = set(re.findall(r'keda:"name=(\w+)', source.read_text("utf-8")))
    for trigger in named(rendered("full"), "ScaledObject")["spec"]["triggers"]:
        assert trigger["metadata"].keys() <= known


def test_there_are_no_more_workers_than_partitions() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert values["worker"]["autoscaling"]["maxReplicas"] <= values["kafka"]["partitions"]
    made = rendered("full")
    created = named(made, "Job")["spec"]["template"]["spec"]["containers"][0]["args"]
    (partitions,) = [int(one.split("=")[1]) for one in created if one.startswith("--partitions=")]
    assert named(made, "ScaledObject")["spec"]["maxReplicaCount"] <= partitions


def test_the_monitor_has_the_rights_that_the_documentation_names() -> None:
    text = (tools.PROJECT / "docs" / "argo.md").read_text("utf-8")
    told = next(block for block in text.split("```yaml\n") if "kind: Role\n" in block)
    role = named(documents(told.split("```")[0]), "Role")
    made = rendered("argo")
    mine, binding = named(made, "Role"), named(made, "RoleBinding")

    def rights(one: Json) -> list[Json]:
        return [{k: v for k, v in rule.items() if k != "resourceNames"} for rule in one["rules"]]

    assert rights(mine) == rights(role)
    assert {tuple(rule["resourceNames"]) for rule in mine["rules"]} == {("offers-model",)}
    assert mine["metadata"]["namespace"] == binding["metadata"]["namespace"] == "shop"
    assert binding["roleRef"]["name"] == mine["metadata"]["name"]
    (subject,) = binding["subjects"]
    account = named(made, "ServiceAccount")["metadata"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])


# --- rules, dashboards, version ----------------------------------------------------------------------


def linked(text: str) -> str:
    for old, new in LINKS.items():
        text = text.replace(old, new)
    return text


def test_the_chart_has_the_rules_and_dashboards_that_are_tested() -> None:
    copies = runpy.run_path(str(DEPLOY / "helm" / "copies.py"))
    assert copies["different"]() == [], "run deploy/helm/copies.py"


def test_rules_are_the_tested_ones_but_for_the_links() -> None:
    made = {
        one["metadata"]["name"]: one["spec"] for one in of_kind(rendered("full"), "PrometheusRule")
    }
    files = list((CHART / "files" / "rules").glob("*.yml"))
    assert made == {
        f"watch-{file.stem}": yaml.safe_load(linked(file.read_text("utf-8"))) for file in files
    }
    assert files
    assert "http://localhost" not in str(made)
    assert any("https://abmonitor.example.org/runbooks/" in str(spec) for spec in made.values())


def test_dashboards_are_the_tested_ones_but_for_the_links() -> None:
    made = [
        one
        for one in of_kind(rendered("full"), "ConfigMap")
        if "grafana_dashboard" in one["metadata"]["labels"]
    ]
    found = {name: yaml.safe_load(text) for one in made for name, text in one["data"].items()}
    files = list((CHART / "files" / "dashboards").glob("*.json"))
    assert found == {
        f"abmonitor-{file.name}": yaml.safe_load(linked(file.read_text("utf-8"))) for file in files
    }
    assert files
    assert "http://localhost" not in str(found)


def test_the_chart_installs_the_version_that_it_comes_with() -> None:
    project = tomllib.loads((tools.PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == project["version"]
    (container,) = named(rendered("plain"), "Deployment", "-monitor")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["image"].endswith(f":{project['version']}")


def test_a_digest_wins_over_a_tag() -> None:
    (container,) = named(rendered("full", "--set-string", "image.tag=2"), "Deployment", "-monitor")[
        "spec"
    ]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.org/abmonitor@sha256:{'0' * 64}"


def test_the_package_has_everything_that_is_rendered(tmp_path: Path) -> None:
    status, _, wrong = helm("package", CHART, "-d", tmp_path)
    assert status == 0, wrong
    (package,) = tmp_path.glob("*.tgz")
    arguments = (
        "-n",
        "monitoring",
        "--kube-version",
        "1.34",
        "-f",
        CHART / "ci" / "full-values.yaml",
    )
    status, told, wrong = helm("template", "watch", package, *arguments)
    assert status == 0, wrong
    assert documents(told) == rendered("full")
