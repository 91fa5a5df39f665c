"""The image, deploy/compose.yaml and what it mounts: what can be told without a container engine."""

import json
import re
import stat
import subprocess
import sysconfig
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import tools
from support.compose import DEPLOY, OURS
from support.servers.base import or_skip
from support.stack import make_secrets

from abmonitor import auth
from abmonitor.settings import load


ROOT = DEPLOY.parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DIGEST = re.compile(r".+:.+@sha256:[0-9a-f]{64}")
SETTINGS = load(DEPLOY / "stack" / "settings.yaml")

every_service = pytest.mark.parametrize("name", SERVICES)


def instructions(word: str) -> list[str]:
    """What stands behind each such instruction of the Dockerfile."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{word} +(.*)$", joined, re.MULTILINE)


# --- the image ----------------------------------------------------------------------------------------


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    told = subprocess.run(
        [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_the_base_is_pinned_by_digest_and_the_same_in_all_stages() -> None:
    (base,) = [each for each in instructions("ARG") if each.startswith("PYTHON=")]
    assert DIGEST.fullmatch(base.removeprefix("PYTHON="))
    assert [each.split()[0] for each in instructions("FROM")] == ["${PYTHON}", "${PYTHON}"]


def test_dependencies_are_installed_by_hash_only() -> None:
    installs = [
        part for run in instructions("RUN") for part in run.split("&&") if " install" in part
    ]
    assert len(installs) == 2
    for each in installs:
        assert "--require-hashes" in each or "--no-deps --no-build-isolation --no-index" in each


def test_the_image_runs_as_a_user_without_rights_and_begins_with_the_command() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert [json.loads(each) for each in instructions("ENTRYPOINT")] == [["abmonitor"]]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]


def test_the_image_checks_the_ports_that_services_have_by_themselves() -> None:
    (check,) = instructions("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command[:3] == ["python", "-m", "abmonitor.healthcheck"]
    exposed = instructions("EXPOSE")[0].split()
    assert command[3:] == [f"http://127.0.0.1:{port}/healthz" for port in exposed]
    served = {SERVICES[name]["command"][-1] for name in ("worker-1", "monitor-1")}
    assert set(exposed) == served


def test_everything_that_is_copied_into_the_image_gets_past_dockerignore() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = [each for each in instructions("COPY") if not each.startswith("--from")]
    sources = {source for each in copied for source in each.split()[:-1]}
    assert sources
    assert sources == set(let_through)
    assert [source for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.parametrize("unwanted", [".git", "deploy/secrets", ".venv", "tests", "build"])
def test_the_image_cannot_get_what_is_none_of_its_business(unwanted: str) -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert rules[1] == "*"
    let_through = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert not any(
        fnmatch(unwanted, rule) or rule.startswith(f"{unwanted}/") for rule in let_through
    )


# --- compose.yaml ---------------------------------------------------------------------------------------


def test_compose_itself_takes_the_file(tmp_path: Path) -> None:
    with or_skip():
        reader = tools.tool("compose-config")  # compose-go, by which `docker compose` reads
    told = tools.run([reader, DEPLOY / "compose.yaml"])
    assert told.returncode == 0, told.stderr
    understood = yaml.safe_load(told.stdout)["services"]
    assert set(understood) == set(SERVICES)
    assert all(each["read_only"] for each in understood.values())
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("read_only:", "readonly:"))
    refused = tools.run([reader, wrong])
    assert refused.returncode != 0
    assert "readonly" in refused.stderr + refused.stdout


@every_service
def test_every_service_is_confined(name: str) -> None:
    said = SERVICES[name]
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in said
    limits = said["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}


@every_service
def test_no_service_runs_as_root(name: str) -> None:
    # Kafka's image has a user of its own; the others are told which.
    if name != "kafka":
        assert int(SERVICES[name]["user"].partition(":")[0]) > 0


@every_service
def test_every_service_comes_back_and_can_be_asked_how_it_is(name: str) -> None:
    said = SERVICES[name]
    if said["healthcheck"].get("disable"):
        assert said["restart"] == "on-failure"
        return
    assert said["restart"] == "unless-stopped"
    assert said["healthcheck"]["test"][0] == "CMD"  # no shell in between


@every_service
def test_every_image_is_pinned_or_built_here(name: str) -> None:
    said = SERVICES[name]
    if said["image"] == OURS:
        assert said["pull_policy"] == "never"  # nobody else's of that name
    else:
        assert DIGEST.fullmatch(said["image"])


def test_one_service_alone_builds_the_image() -> None:
    # Builds of one tag run at once, and on a machine that never had it the second one fails: "already exists".
    (builder,) = (name for name, said in SERVICES.items() if "build" in said)
    assert SERVICES[builder]["image"] == OURS
    said = SERVICES[builder]["build"]
    assert (DEPLOY / said["context"]).resolve() == ROOT
    assert ROOT / said["dockerfile"] == DEPLOY / "Dockerfile"


@every_service
def test_ports_are_published_on_the_loopback_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


def test_two_services_never_publish_the_same_port() -> None:
    published = [port.split(":")[1] for said in SERVICES.values() for port in said.get("ports", ())]
    assert len(published) == len(set(published)) == 6


def test_kafka_and_redis_are_reached_from_the_inner_network_only() -> None:
    assert COMPOSE["networks"]["data"]["internal"] is True
    for name in ("kafka", "redis", "load", "topics"):
        assert SERVICES[name]["networks"] == ["data"]


@every_service
def test_every_file_that_is_mounted_exists_and_is_not_written_to(name: str) -> None:
    for text in SERVICES[name].get("volumes", ()):
        source, _, options = text.split(":") if text.startswith(".") else (None, "", "")
        if source is not None:
            assert (DEPLOY / source).exists(), source
            assert options == "ro"
        else:
            assert text.partition(":")[0] in COMPOSE["volumes"]


@every_service
def test_nothing_secret_stands_in_the_environment(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|TOKEN|KEY", variable):
            assert variable.endswith("__FILE")
            assert value.startswith("/run/secrets/")
        assert not re.search(r"//[^/]*:[^/]*@", str(value))
    for setting in instructions("ENV") + instructions("ARG"):
        assert not re.search(r"PASSWORD|SECRET|TOKEN", setting)


@every_service
def test_every_secret_is_one_that_the_script_makes(name: str, tmp_path: Path) -> None:
    make_secrets(tmp_path)
    for each in SERVICES[name].get("secrets", ()):
        declared = COMPOSE["secrets"][each if isinstance(each, str) else each["source"]]
        assert (tmp_path / Path(declared["file"]).name).exists()


def test_redis_is_not_larger_than_its_container() -> None:
    (told,) = re.findall(
        r"^maxmemory (\d+)mb$", (DEPLOY / "redis/redis.conf").read_text(), re.MULTILINE
    )
    limit = SERVICES["redis"]["deploy"]["resources"]["limits"]["memory"]
    assert 2 * int(told) <= int(limit.removesuffix("m"))  # while its log is written anew


# --- secrets --------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    make_secrets(tmp_path / "secrets")
    return tmp_path / "secrets"


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_secrets_are_made_once(secrets: Path) -> None:
    before = texts(secrets)
    make_secrets(secrets)
    assert texts(secrets) == before


def test_secrets_are_others_each_time(secrets: Path, tmp_path: Path) -> None:
    make_secrets(tmp_path / "others")
    ours, theirs = texts(secrets), texts(tmp_path / "others")
    same = {name for name in ours if ours[name] == theirs[name]}
    assert same == {"chat-url", "pager-url"}  # the demo's own inbox


def test_nobody_else_on_the_machine_can_read_secrets(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700


def test_tokens_of_the_script_are_those_of_its_file(secrets: Path) -> None:
    tokens = auth.Tokens(secrets / "tokens.yaml")
    for name in ("operator", "alertmanager"):
        caller = tokens.caller((secrets / f"{name}-token").read_text())
        assert caller is not None
        assert (caller.name, caller.operates, caller.covers("offers")) == (name, True, True)


def test_git_never_sees_secrets() -> None:
    assert (DEPLOY / ".gitignore").read_text().splitlines() == ["/secrets/"]
    assert {Path(each["file"]).parent for each in COMPOSE["secrets"].values()} == {Path("secrets")}
