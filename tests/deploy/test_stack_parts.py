"""The parts of the demo stack: its traffic, Redis, inbox and scripts, and how they run without containers."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.exceptions import AuthenticationError, NoPermissionError
from support.compose import DEPLOY, LEFT_OUT, NOT_MIRRORED, OURS, Service, layers, read, translated
from support.servers.base import or_skip
from support.stack import PYTHON, WRITES, Stack, make_secrets

from abmonitor import simulation
from abmonitor.settings import load


SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())[
    "services"
]
SETTINGS = load(DEPLOY / "stack" / "settings.yaml")


# --- settings and traffic -------------------------------------------------------------------------------


def test_the_traffic_is_that_of_the_experiment() -> None:
    (experiment,) = SETTINGS.experiments
    (simulated,) = simulation.load(DEPLOY / "stack" / "load.yaml").experiments
    assert simulated.name == experiment.name == "offers"
    assert simulated.baseline == experiment.control == "rules-v1"
    assert set(simulated.variants) == set(experiment.variants)
    assert simulated.horizon == experiment.labels.horizon
    assert (simulated.predictions_per_unit is not None) == (experiment.randomised_by == "unit")


def test_variants_differ_only_by_the_defect_until_it_is_repaired() -> None:
    (simulated,) = simulation.load(DEPLOY / "stack" / "load.yaml").experiments
    control, treatment = simulated.variants.values()
    assert control == treatment
    breaks, repaired = simulated.changes
    assert {breaks.variant, repaired.variant} == {"ranker-v2"}
    assert breaks.applied(treatment) != treatment
    assert repaired.applied(breaks.applied(treatment)) == treatment


def test_kafka_makes_no_topics_and_keeps_the_brokers_clock() -> None:
    lines = (DEPLOY / "kafka" / "server.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert properties["auto.create.topics.enable"] == "false"
    assert properties["log.message.timestamp.type"] == "LogAppendTime"


# --- Redis and its users --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stack_redis() -> Iterator[Stack]:
    """The stack's Redis alone."""
    with or_skip():
        stack = Stack(only=["redis"])
    with stack:
        yield stack


@pytest.fixture
def abmonitor_at(stack_redis: Stack) -> Iterator[redis.Redis]:
    """A client with the rights of workers and monitors."""
    address = stack_redis.secret("redis-url").replace(
        "redis:6379", stack_redis.address("redis", 6379)
    )
    with redis.Redis.from_url(address) as client:
        yield client


def test_abmonitor_may_do_its_work_on_its_own_keys(abmonitor_at: redis.Redis) -> None:
    pipeline = abmonitor_at.pipeline()
    pipeline.watch("{stack:0}:meta")  # type: ignore[no-untyped-call]  # redis-py has none here
    pipeline.multi()
    pipeline.set("{stack:0}:meta", b"1")
    pipeline.hset("{stack:0}:pending", "a", b"2")
    pipeline.rpush("{stack:0}:due:offers", b"3")
    pipeline.zadd("{stack:0}:touched:0", {"x": 1.0})
    assert pipeline.execute() == [True, 1, 1, 1]
    assert abmonitor_at.set("{stack}:lease", b"holder", nx=True, px=100)
    assert abmonitor_at.info("memory")["maxmemory_policy"] == "noeviction"


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("KEYS", "*"),
        ("EVAL", "return 1", "0"),
        ("SHUTDOWN", "NOSAVE"),
        ("REPLICAOF", "NO", "ONE"),
        ("SWAPDB", "0", "1"),
        ("PUBLISH", "news", "x"),
        ("SET", "another", "x"),
        ("GET", "{stacked:0}:meta"),
    ],
    ids=" ".join,
)
def test_abmonitor_may_do_nothing_else(abmonitor_at: redis.Redis, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        abmonitor_at.execute_command(*command)  # type: ignore[no-untyped-call]


def test_whoever_has_no_password_may_only_ask_whether_it_is_there(stack_redis: Stack) -> None:
    with redis.Redis.from_url(f"redis://{stack_redis.address('redis', 6379)}/0") as client:
        assert client.ping()
        for command in ("GET {stack:0}:meta", "INFO", "SET {stack:0}:meta 1", "CLIENT LIST"):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command.split())
    wrong = f"redis://abmonitor:wrong@{stack_redis.address('redis', 6379)}/0"
    with redis.Redis.from_url(wrong) as client, pytest.raises(AuthenticationError):
        client.ping()


def test_redis_answers_other_machines_though_one_user_has_no_password() -> None:
    # By itself it would answer its own machine alone; tests are on that, containers are not.
    assert "protected-mode no" in (DEPLOY / "redis" / "redis.conf").read_text().splitlines()


def test_the_rights_are_those_of_the_documentation(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    documented = (DEPLOY.parent / "docs" / "settings.md").read_text().replace("\\\n", " ")
    (wanted,) = re.findall(r"^ACL SETUSER abmonitor on >PASSWORD (.*)$", documented, re.MULTILINE)
    rules = (tmp_path / "redis-users.acl").read_text()
    (given,) = re.findall(r"^user abmonitor on #[0-9a-f]{64} (.*)$", rules, re.MULTILINE)
    assert given.split() == wanted.replace("{default", f"{{{SETTINGS.deployment}").split()


# --- the demo's inbox -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inbox() -> Iterator[str]:
    """The address of the stack's inbox alone."""
    with Stack(only=["inbox"]) as stack:
        yield f"http://{stack.address('inbox', 9094)}"


def fetched(url: str, body: bytes | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_inbox_shows_what_chat_and_pager_get(inbox: str) -> None:
    message = {"attachments": [{"title": "critical: Something", "text": "*what*\nsince then"}]}
    assert fetched(f"{inbox}/pager", json.dumps(message).encode())[0] == 200
    webhook = {"alerts": [{"labels": {"alertname": "AbmonitorWatchdog"}}]}
    assert fetched(f"{inbox}/watchdog", json.dumps(webhook).encode())[0] == 200
    told = json.loads(fetched(f"{inbox}/messages")[1])
    assert [(each["to"], each["message"]) for each in told] == [
        ("pager", message),
        ("watchdog", webhook),
    ]
    page = fetched(f"{inbox}/")[1]
    assert re.search(r"UTC  pager +critical: Something\n +\*what\*\n +since then\n", page)
    assert "AbmonitorWatchdog" not in page


def test_the_inbox_refuses_what_is_no_message(inbox: str) -> None:
    assert fetched(f"{inbox}/chat", b"no JSON")[0] == 400
    assert fetched(f"{inbox}/chat", b"[1]")[0] == 400
    assert fetched(f"{inbox}/chat", b'"' + b"x" * (1 << 20) + b'"')[0] == 413
    assert fetched(f"{inbox}/elsewhere")[0] == 404


# --- scripts --------------------------------------------------------------------------------------------


def with_docker(tmp_path: Path, answer: str) -> dict[str, str]:
    """An environment in which `docker` writes down how it was called, and says something."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\necho "$*" >>"{tmp_path}/calls"\n{answer}\n')
    docker.chmod(0o755)
    return {**os.environ, "PATH": f"{docker.parent}{os.pathsep}{os.environ['PATH']}"}


def ran(script: Path, *arguments: str, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [script, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the scripts, in which secrets may be made."""
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets"))
    return tmp_path / "deploy"


def test_up_makes_secrets_and_waits_until_all_is_well(copied: Path, tmp_path: Path) -> None:
    status, said = ran(copied / "stack.sh", "up", environment=with_docker(tmp_path, "true"))
    assert status == 0, said
    assert (copied / "secrets" / "redis-url").exists()
    asked, call = (tmp_path / "calls").read_text().splitlines()
    assert asked == "compose version"
    assert call.startswith(f"compose -f {copied}/compose.yaml up ")
    assert {"--build", "--detach", "--wait"} <= set(call.split())
    told = set(re.findall(r"http://localhost:(\d+)/", said))
    published = {port.split(":")[1] for each in SERVICES.values() for port in each.get("ports", ())}
    assert told == published


def test_without_compose_up_says_what_to_do_and_makes_nothing(copied: Path, tmp_path: Path) -> None:
    status, said = ran(copied / "stack.sh", "up", environment=with_docker(tmp_path, "exit 1"))
    assert (status, (copied / "secrets").exists()) == (1, False)
    assert "needs Docker with Compose 2.23 or newer" in said


def test_people_operate_with_the_token_and_never_show_it(copied: Path, tmp_path: Path) -> None:
    make_secrets(copied / "secrets")
    environment = with_docker(tmp_path, 'test -n "$ABMONITOR_TOKEN"')
    status, said = ran(copied / "stack.sh", "status", "offers", environment=environment)
    assert status == 0, said
    call = (tmp_path / "calls").read_text()
    assert call.rstrip().endswith("abmonitor status offers")
    assert (copied / "secrets" / "operator-token").read_text() not in call


def test_again_arms_the_treatment_and_gives_its_traffic_back(copied: Path, tmp_path: Path) -> None:
    make_secrets(copied / "secrets")
    status, said = ran(
        copied / "stack.sh", "again", "--force", environment=with_docker(tmp_path, "true")
    )
    assert status == 0, said
    armed, given = (tmp_path / "calls").read_text().splitlines()
    assert armed.endswith(
        "abmonitor rearm offers --treatment ranker-v2 --reason tried again --force"
    )
    script, url, secret, *about = given.partition(" load python ")[2].split()
    assert any(volume.endswith(f":{script}:ro") for volume in SERVICES["load"]["volumes"])
    router = next(
        each.partition("=")[2] for each in SERVICES["load"]["command"] if "--router=" in each
    )
    assert url == f"http://127.0.0.1:{router.rpartition(':')[2]}/rearm"
    assert secret.removeprefix("/run/secrets/") in SERVICES["load"]["secrets"]
    assert about == ["offers", "ranker-v2"]


def test_an_unknown_word_is_answered_with_those_that_are_known(tmp_path: Path) -> None:
    status, said = ran(DEPLOY / "stack.sh", "start", environment=with_docker(tmp_path, "true"))
    assert status == 2
    assert "up | down | wipe" in said


def test_pin_tells_which_images_have_another_digest_today(tmp_path: Path) -> None:
    answer = "echo sha256:" + "0" * 64
    status, said = ran(DEPLOY / "pin.sh", environment=with_docker(tmp_path, answer))
    assert status == 1
    images = {each["image"] for each in SERVICES.values() if each["image"] != OURS}
    changed = {line.split()[1] for line in said.splitlines() if line.startswith("changed")}
    assert {each.partition("@")[0] for each in changed} == {
        *(image.partition("@")[0] for image in images),
        re.findall(r"^ARG PYTHON=(.*)@", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[0],
    }


# --- a file system that cannot be written to ------------------------------------------------------------


def test_what_a_process_writes_is_noticed(tmp_path: Path) -> None:
    script = (
        "import os; os.mkdir('made'); open('made/file', 'w').close(); open('made/file').close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **PYTHON},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines() == [f"{WRITES}os.mkdir made", f"{WRITES}made/file"]


# --- the mirror without containers ----------------------------------------------------------------------


def test_every_service_but_those_named_is_run_without_containers() -> None:
    assert set(read()) | set(LEFT_OUT) == set(SERVICES)
    assert all(NOT_MIRRORED.values())


def test_services_start_after_what_they_need() -> None:
    order = [{each.name for each in layer} for layer in layers(read())]
    place = {name: number for number, names in enumerate(order) for name in names}
    for service in read().values():
        assert all(place[other] < place[service.name] for other in service.needs)


def test_addresses_and_paths_are_translated_and_nothing_else() -> None:
    service = read()["prometheus"]
    ports = {("prometheus", 9090): 21_001, ("monitor-1", 8000): 21_002}
    text = (
        "--web.listen-address=0.0.0.0:9090 --config.file=/etc/prometheus/prometheus.yml "
        "--storage=/prometheus http://monitor-1:8000/x monitor-1:80001 my-monitor-1:8000 v1.9090 10.0.0.0.0"
    )
    assert translated(text, service, ports, Path("/R")) == (
        "--web.listen-address=127.0.0.1:21001 --config.file=/R/etc/prometheus/prometheus.yml "
        "--storage=/R/prometheus http://127.0.0.1:21002/x monitor-1:80001 my-monitor-1:8000 v1.9090 10.0.0.0.0"
    )


def test_a_service_of_which_more_is_said_than_is_known_is_refused(tmp_path: Path) -> None:
    text = (DEPLOY / "compose.yaml").read_text().replace("read_only: true", "pid: host")
    (tmp_path / "compose.yaml").write_text(text)
    with pytest.raises(AssertionError, match="neither MIRRORED nor NOT_MIRRORED has pid"):
        read(tmp_path / "compose.yaml")


def test_a_circle_of_needs_is_told() -> None:
    one = Service("a", (), {}, (), (), None, {"b": "service_healthy"})
    other = Service("b", (), {}, (), (), None, {"a": "service_healthy"})
    with pytest.raises(AssertionError, match="circle"):
        list(layers({"a": one, "b": other}))
