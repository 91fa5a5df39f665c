"""The stack's Alertmanager: who is told of which alert, and which alerts silence which, on a real one."""

import asyncio
import itertools
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from support.news import Receiver, served
from support.servers import NoServerError
from support.servers.alertmanager import AlertmanagerServer
from support.servers.base import or_skip, wait_for

from abmonitor.hooks import PATH
from alerts.notifiers.firing import SEVERITY
from metrics.catalogue import CATALOGUE


ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "alertmanager"
FILE = FOLDER / "alertmanager.yml"
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
SECRETS = "/etc/alertmanager/secrets/"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
WAIT_S = 30.0
"""Seconds until somebody is told, at most."""


class Kind(NamedTuple):
    """One kind of alert, by which it is routed and silenced."""

    name: str
    """Without `Abmonitor`."""
    source: str
    severity: str

    @property
    def labels(self) -> dict[str, str]:
        """Of one that fires, without whose it is."""
        return {
            "alertname": f"Abmonitor{self.name}",
            "source": self.source,
            "severity": self.severity,
        }


def made_by_rules() -> Iterator[Kind]:
    for file in RULES:
        for group in yaml.safe_load(file.read_text("utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    labels = rule["labels"]
                    name = rule["alert"].removeprefix("Abmonitor")
                    yield Kind(name, labels["source"], labels["severity"])


def made_by_the_monitor() -> Iterator[Kind]:
    for name, severity in SEVERITY.items():
        yield Kind(name.removeprefix("Abmonitor"), "monitor", severity)


KINDS = sorted({*made_by_rules(), *made_by_the_monitor()})
NAMES = {kind.name for kind in KINDS}


@pytest.fixture(scope="module")
def amtool() -> str:
    """The program that comes with Alertmanager."""
    with or_skip():
        found = shutil.which("amtool")
        if found is None:
            raise NoServerError("no amtool was found; it comes with Alertmanager")
        return found
    raise AssertionError("it was found, or skipped")


def names_in(text: str) -> set[str]:
    """Names of our alerts in a matcher, without `Abmonitor`."""
    grouped = re.findall(r"Abmonitor\(([\w|]+)\)", text)
    single = re.findall(r"Abmonitor(\w+)", text)
    return {name for group in grouped for name in group.split("|")} | set(single)


# --- the file -------------------------------------------------------------------------------------


def test_alertmanager_understands_the_file(amtool: str) -> None:
    done = subprocess.run(
        [amtool, "check-config", str(FILE)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pagerduty_of_the_comment_is_right(amtool: str, tmp_path: Path) -> None:
    text = FILE.read_text("utf-8")
    [said] = re.findall(r"^  #   (pagerduty_configs:\n(?:  # {5}.*\n)+)", text, re.MULTILINE)
    given = json.loads(json.dumps(CONFIG))
    [pager] = [each for each in given["receivers"] if each["name"] == "pager"]
    del pager["slack_configs"]
    pager |= yaml.safe_load(said.replace("  #   ", ""))
    given["templates"] = [str(FOLDER / "templates" / "*.tmpl")]
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(given))
    done = subprocess.run(
        [amtool, "check-config", str(file)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "routing_key_file" in file.read_text()


def test_every_alert_that_the_file_names_exists_and_the_other_way_round() -> None:
    named = names_in(json.dumps([CONFIG["inhibit_rules"], CONFIG["route"]]))
    assert named <= NAMES
    assert named >= VERDICTS | SILENCED.keys()
    assert {kind.source for kind in KINDS} == {"prometheus", "monitor"}


def test_secrets_stand_in_files_and_nowhere_else() -> None:
    text = FILE.read_text("utf-8")
    files = re.findall(r"(?:_file|credentials_file): (\S+?)[},\n]", text)
    assert {file.removeprefix(SECRETS) for file in files} == {
        "chat-url",
        "pager-url",
        "pager-key",
        "abmonitor-token",
    }
    addresses = re.findall(r"\burl: (\S+)", text)
    hooks = [f"http://monitor-{number}:8000{PATH}" for number in (1, 2)]
    assert addresses == [*hooks, "http://inbox:9094/watchdog"]
    assert not re.search(r"(?i)password|\btoken:|credentials:|routing_key:|api_url:", text)


# --- routes ---------------------------------------------------------------------------------------

VERDICTS = {
    "Rollback",
    "RollbackFailed",
    "RollbackEscalated",
    "TrafficReturned",
    "WouldRollBack",
    "PausedHarm",
    "Braked",
    "Hold",
    "HoldOverdue",
    "Silent",
    "GuardrailFailing",
}
PEOPLE = {"critical": "pager", "warning": "chat", "none": "watchdog"}


def routed(amtool: str, labels: Mapping[str, str]) -> list[str]:
    given = [f"{name}={value}" for name, value in labels.items()]
    done = subprocess.run(
        [amtool, "config", "routes", "test", f"--config.file={FILE}", *given],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip().split(",")


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_each_alert_goes_to_its_people_and_verdicts_to_machines_too(
    amtool: str, kind: Kind
) -> None:
    machines = ["automation"] if kind.name in VERDICTS else []
    assert routed(amtool, kind.labels) == [*machines, PEOPLE[kind.severity]]
    assert (kind.severity == "none") is (kind.name == "Watchdog")


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"alertname": "CheckoutSlow", "rollback": "abmonitor"}, ["automation", "chat"]),
        (
            {"alertname": "CheckoutSlow", "rollback": "abmonitor", "severity": "critical"},
            ["automation", "pager"],
        ),
        ({"alertname": "CheckoutSlow"}, ["chat"]),
        ({"alertname": "AbmonitorRollbacks"}, ["chat"]),
    ],
)
def test_alerts_of_other_people_act_only_where_their_rules_say_so(
    amtool: str, labels: dict[str, str], receivers: list[str]
) -> None:
    assert routed(amtool, labels) == receivers


def test_the_sign_of_life_is_repeated_often() -> None:
    first = CONFIG["route"]["routes"][0]
    assert (first["receiver"], first["repeat_interval"]) == ("watchdog", "1m")
    assert not first.get("continue")


# --- what silences what -----------------------------------------------------------------------------

SILENCED: dict[str, set[str]] = {
    "Rollback": {"RollbackFailed", "RollbackEscalated", "TrafficReturned"},
    "RollbackFailed": {"RollbackEscalated"},
    "GuardrailFailing": {
        *("DataStale", "LabelsStalled", "StateIncomplete", "SampleRatioMismatch"),
        *("Rollback", "RollbackFailed", "RollbackEscalated"),
        *("WouldRollBack", "PausedHarm", "Braked"),
    },
    "Hold": {
        *("RedisDown", "WorkerDown", "WatermarkStalled"),
        *("DataStale", "LabelsStalled", "StateIncomplete", "SampleRatioMismatch"),
        *("Silent", "HoldOverdue"),
    },
    "HoldOverdue": {"DataStale", "LabelsStalled"},
    "Silent": {"RedisDown", "MonitorDown", "WorkerDown", "WatermarkStalled", "DataStale"},
    "MissingLabels": {
        *("RedisDown", "MonitorDown", "WorkerDown", "WatermarkStalled"),
        *("DataStale", "LabelsStalled"),
    },
    "LabelsStalled": {"RedisDown", "MonitorDown", "WorkerDown", "WatermarkStalled", "DataStale"},
    "DataStale": {"RedisDown", "MonitorDown", "WorkerDown", "WatermarkStalled"},
    "StateIncomplete": {"MonitorDown"},
    "WatermarkStalled": {"RedisDown", "WorkerDown"},
    "WorkerLag": {"RedisDown", "WorkerDown", "WatermarkStalled"},
    "NoLeader": {"RedisDown", "MonitorDown"},
    "ControlLogBehind": {"MonitorDown"},
}
"""By name, what it is not worth to be told beside; all others are always told."""

OF_ALL = {"RedisDown", "MonitorDown", "WorkerDown", "WatermarkStalled"}
"""What is of no experiment, and silences others."""
OF_NONE = OF_ALL | {
    *("NotificationsFailing", "ControlLogBehind", "WorkerLag", "DeadLetters", "Watchdog"),
}
OF_EXPERIMENTS = {"DataStale", "LabelsStalled", "StateIncomplete", "NoLeader", "FlagWrong"}
ONLY_SERIOUS = {"RedisDown", "MonitorDown", "WorkerDown", "WatermarkStalled"}
"""Of these only the critical ones silence: one of several that is down is a warning."""


def labels_of(kind: Kind, experiment: str, cluster: str, variant: str = "new") -> dict[str, str]:
    """What one alert of a kind is labelled with."""
    labels = kind.labels | {"cluster": cluster}
    if kind.name not in OF_NONE:
        labels["experiment"] = experiment
        if kind.name not in OF_EXPERIMENTS:
            labels["variant"] = variant
    if kind.name == "GuardrailFailing":
        labels["guardrail"] = "rap"
    return labels


def test_what_no_bad_data_may_silence_is_silenced_by_none() -> None:
    data = {"DataStale", "LabelsStalled", "StateIncomplete", "SampleRatioMismatch", *OF_ALL}
    for name in (
        *("Rollback", "RollbackFailed", "RollbackEscalated", "TrafficReturned"),
        *("PausedHarm", "Braked", "WouldRollBack", "MonitorDown", "WorkerDown", "RedisDown"),
    ):
        assert not SILENCED.get(name, set()) & data


def test_no_two_silence_each_other_in_a_ring() -> None:
    def above(name: str, seen: tuple[str, ...]) -> None:
        assert name not in seen, (*seen, name)
        for each in SILENCED.get(name, ()):
            above(each, (*seen, name))

    for name in NAMES:
        above(name, ())


def test_no_warning_silences_a_page() -> None:
    serious = {kind.name for kind in KINDS if kind.severity == "critical"}
    for name, sources in SILENCED.items():
        if name in serious:
            assert sources <= serious, name


def alert(labels: Mapping[str, str], **annotations: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "labels": dict(labels),
        "annotations": annotations,
        "startsAt": now.isoformat(),  # what is old is told at once
        "endsAt": (now + timedelta(hours=1)).isoformat(),
    }


def post(url: str, alerts: Iterable[dict[str, Any]]) -> None:
    asked = urllib.request.Request(
        f"{url}/api/v2/alerts",
        json.dumps(list(alerts)).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.status == 200


def fires(url: str, cluster: str) -> list[dict[str, Any]]:
    """What fires, whether or not it is told."""
    wanted = urllib.parse.urlencode({"filter": f'cluster=~"{cluster}"'})
    with urllib.request.urlopen(f"{url}/api/v2/alerts?{wanted}", timeout=60) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def pointed_at(receivers: str, folder: Path) -> str:
    """The stack's file with addresses of tests and no time to wait; everything else is as it is."""
    (folder / "token").write_text("abm_a-token\n")
    for name in ("chat-url", "pager-url"):
        (folder / name).write_text(f"{receivers}/{name.removesuffix('-url')}\n")
    text = FILE.read_text("utf-8")
    for old, new in (
        (f"{SECRETS}abmonitor-token", str(folder / "token")),
        (SECRETS, f"{folder}/"),
        ("templates/*.tmpl", str(FOLDER / "templates" / "*.tmpl")),
        ("http://inbox:9094", receivers),
        ("http://monitor-1:8000", f"{receivers}/monitor-1"),
        ("http://monitor-2:8000", f"{receivers}/monitor-2"),
    ):
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"group_wait: \w+", "group_wait: 1s", text)
    return re.sub(r"group_interval: \w+", "group_interval: 1s", text)


@pytest.fixture
def real() -> Iterator[str]:
    """An Alertmanager with the stack's rules, that tells nobody."""
    quiet = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
    with (
        or_skip(),
        AlertmanagerServer(
            yaml.safe_dump(quiet | {"inhibit_rules": CONFIG["inhibit_rules"]})
        ) as server,
    ):
        yield server.url


def silencing(url: str, pairs: Mapping[str, tuple[dict[str, str], dict[str, str]]]) -> set[str]:
    """Of pairs (one and another alert, by the cluster in which only they fire), those whose second is silenced."""
    # What silences comes first, as it is there when the other one is looked at.
    post(url, (alert(first) for first, _ in pairs.values()))
    post(url, (alert(second) for _, second in pairs.values()))
    prefix = next(iter(pairs)).partition("-")[0]
    wait_for(lambda: len(fires(url, f"{prefix}-.*")) == 2 * len(pairs), "all alerts are there")
    second = {cluster: labels for cluster, (_, labels) in pairs.items()}
    return {
        found["labels"]["cluster"]
        for found in fires(url, f"{prefix}-.*")
        if found["labels"] == second[found["labels"]["cluster"]] and found["status"]["inhibitedBy"]
    }


def expected(first: Kind, second: Kind) -> bool:
    """Whether `first` silences `second` of the same treatment."""
    if first.name == second.name:
        return (first.source, second.source) == ("monitor", "prometheus")
    if first.name in ONLY_SERIOUS and first.severity != "critical":
        return False
    return first.name in SILENCED.get(second.name, ())


def test_of_every_two_alerts_of_one_treatment_those_are_told_that_shall_be(real: str) -> None:
    pairs, wanted = {}, set()
    for number, (first, second) in enumerate(itertools.permutations(KINDS, 2)):
        cluster = f"same-{number}"
        pairs[cluster] = (
            labels_of(first, "offers", cluster),
            labels_of(second, "offers", cluster),
        )
        if expected(first, second):
            wanted.add(cluster)
    found = silencing(real, pairs)
    told = {c: [x["alertname"] + "/" + x["source"] for x in pairs[c]] for c in found ^ wanted}
    assert not told
    assert {pairs[c][1]["alertname"] for c in found} >= {f"Abmonitor{name}" for name in SILENCED}


def test_an_alert_silences_none_of_another_experiment_unless_it_is_of_all(real: str) -> None:
    pairs, wanted = {}, set()
    for number, (first, second) in enumerate(itertools.permutations(KINDS, 2)):
        cluster = f"other-{number}"
        pairs[cluster] = (
            labels_of(first, "prices", cluster),
            labels_of(second, "offers", cluster),
        )
        if expected(first, second) and first.name in OF_ALL:
            wanted.add(cluster)
    found = silencing(real, pairs)
    told = {c: [x["alertname"] + "/" + x["source"] for x in pairs[c]] for c in found ^ wanted}
    assert not told


def test_an_alert_of_a_treatment_silences_none_of_another_treatment(real: str) -> None:
    pairs = {}
    about = [kind for kind in KINDS if "variant" in labels_of(kind, "offers", "")]
    for number, (first, second) in enumerate(itertools.permutations(about, 2)):
        cluster = f"variants-{number}"
        pairs[cluster] = (
            labels_of(first, "offers", cluster, "newer"),
            labels_of(second, "offers", cluster),
        )
    assert silencing(real, pairs) == set()


def test_what_is_down_elsewhere_silences_nothing_here(real: str) -> None:
    down = [kind for kind in KINDS if kind.name in OF_ALL]
    for number, (first, second) in enumerate(itertools.product(down, KINDS)):
        here = labels_of(second, "offers", f"here-{number}")
        post(real, [alert(labels_of(first, "offers", f"there-{number}")), alert(here)])
    found = fires(real, "here-.*")
    assert len(found) == len(down) * len(KINDS)
    assert [each for each in found if each["status"]["inhibitedBy"]] == []


def test_guardrails_that_need_no_labels_are_told_though_labels_have_stalled(real: str) -> None:
    [stalled] = [kind for kind in KINDS if kind.name == "LabelsStalled"]
    [failing] = [kind for kind in KINDS if kind.name == "GuardrailFailing"]
    pairs, wanted = {}, set()
    for number, (name, metric) in enumerate(CATALOGUE.items()):
        for suffix in ("", ":3d", "-2"):
            cluster = f"guardrails-{number}{suffix.replace(':', '')}"
            guardrail = {"guardrail": name + suffix}
            pairs[cluster] = (
                labels_of(stalled, "offers", cluster),
                labels_of(failing, "offers", cluster) | guardrail,
            )
            if metric.labelled:
                wanted.add(cluster)
    assert silencing(real, pairs) == wanted
    assert 0 < len(wanted) < len(pairs)


def test_alerts_of_other_people_are_never_silenced(real: str) -> None:
    pairs = {}
    for number, kind in enumerate(KINDS):
        cluster = f"theirs-{number}"
        mine = labels_of(kind, "offers", cluster)
        pairs[cluster] = (mine, mine | {"alertname": "CheckoutSlow", "source": "prometheus"})
    assert silencing(real, pairs) == set()


# --- what people get ------------------------------------------------------------------------------


@asynccontextmanager
async def told(folder: Path) -> AsyncIterator[tuple[str, Receiver]]:
    """The stack's Alertmanager, and what it tells whom."""
    receiver = Receiver(body=b"ok")
    async with served(receiver) as url:
        with or_skip():
            server = AlertmanagerServer(pointed_at(url, folder))
            await asyncio.to_thread(server.__enter__)
        try:
            yield server.url, receiver
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)


def heard(receiver: Receiver, path: str) -> list[dict[str, Any]]:
    both = zip(receiver.requests, receiver.bodies, strict=True)
    return [json.loads(body) for request, body in both if request.path == path]


async def until_heard(receiver: Receiver, *paths: str) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not all(heard(receiver, path) for path in paths):  # noqa: ASYNC110 # another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited for {paths}, heard {[each.path for each in receiver.requests]}")


HOOKS = f"/monitor-1{PATH}", f"/monitor-2{PATH}"


async def test_people_hear_once_of_what_both_sides_say_and_machines_hear_it_too(
    tmp_path: Path,
) -> None:
    about = {"alertname": "AbmonitorRollback", "experiment": "offers", "variant": "new"}
    mine = about | {"severity": "warning", "source": "monitor"}
    theirs = about | {"severity": "warning", "source": "prometheus"}
    board = "http://localhost:3000/d/abmonitor-experiment"
    links = {"runbook_url": "http://localhost:8000/runbooks/AbmonitorRollback"}
    async with told(tmp_path) as (url, receiver):
        said = alert(
            mine,
            summary="new of offers is being rolled back",
            description="rap < 0.1 & <!channel>",
            actor="abmonitor",
            **links,
        )
        said["generatorURL"] = board
        await asyncio.to_thread(post, url, [said, alert(theirs, summary="it was rolled back")])
        await until_heard(receiver, "/chat", *HOOKS)
        [message] = heard(receiver, "/chat")
        for hook in HOOKS:
            [document] = heard(receiver, hook)
            assert [each["labels"]["source"] for each in document["alerts"]] == ["monitor"]
            assert document["version"] == "4"
        assert heard(receiver, "/pager") == []
    tokens = {r.headers.get("Authorization") for r in receiver.requests if r.path in HOOKS}
    assert tokens == {"Bearer abm_a-token"}
    [part] = message["attachments"]
    assert part["title"] == "warning: AbmonitorRollback (offers)"
    assert part["title_link"] == links["runbook_url"]
    since = said["startsAt"].replace("T", " ").partition(".")[0]
    assert part["text"].strip().splitlines() == [
        "*new of offers is being rolled back*",
        "rap &lt; 0.1 &amp; &lt;!channel&gt;",
        "by abmonitor",
        f"since {since} UTC, <{board}|dashboard>, <{links['runbook_url']}|what to do>",
    ]


async def test_where_the_monitor_cannot_tell_people_hear_it_from_prometheus(
    tmp_path: Path,
) -> None:
    labels = {"experiment": "offers", "variant": "new", "source": "prometheus"}
    failed = {"alertname": "AbmonitorRollbackFailed", "severity": "critical"}
    async with told(tmp_path) as (url, receiver):
        said = alert(labels | failed, summary="it failed", dashboard_url="http://g/d")
        await asyncio.to_thread(post, url, [said])
        await until_heard(receiver, "/pager", *HOOKS)
        [message] = heard(receiver, "/pager")
        assert heard(receiver, "/chat") == []
    [part] = message["attachments"]
    assert (part["title"], part["color"]) == (
        "critical: AbmonitorRollbackFailed (offers)",
        "danger",
    )
    assert "<http://g/d|dashboard>" in part["text"]
    assert "what to do" not in part["text"]


async def test_stale_data_of_many_experiments_is_one_page_and_failed_rollbacks_are_one_each(
    tmp_path: Path,
) -> None:
    serious = {"severity": "critical", "source": "prometheus"}
    stale = [serious | {"alertname": "AbmonitorDataStale", "experiment": f"e{n}"} for n in range(3)]
    failed = {"alertname": "AbmonitorRollbackFailed", "variant": "new"}
    both = [serious | failed | {"experiment": name} for name in ("offers", "prices")]
    async with told(tmp_path) as (url, receiver):
        await asyncio.to_thread(
            post, url, [alert(labels, summary=str(labels)) for labels in (*stale, *both)]
        )
        await until_heard(receiver, "/pager")
        async with asyncio.timeout(WAIT_S):
            while len(heard(receiver, "/pager")) < 3:  # noqa: ASYNC110 # another process
                await asyncio.sleep(0.05)
        await asyncio.sleep(2)  # longer than a group waits here
        parts = [each["attachments"][0] for each in heard(receiver, "/pager")]
    found = {part["title"]: part["text"].count("since ") for part in parts}
    assert found == {
        "critical: AbmonitorDataStale": 3,
        "critical: AbmonitorRollbackFailed (offers)": 1,
        "critical: AbmonitorRollbackFailed (prices)": 1,
    }
    assert len(parts) == len(found)


async def test_whoever_waits_for_the_sign_of_life_gets_it(tmp_path: Path) -> None:
    labels = {"alertname": "AbmonitorWatchdog", "severity": "none", "source": "prometheus"}
    async with told(tmp_path) as (url, receiver):
        await asyncio.to_thread(post, url, [alert(labels)])
        await until_heard(receiver, "/watchdog")
        assert {request.path for request in receiver.requests} == {"/watchdog"}


async def test_an_address_that_is_missing_keeps_nobody_else_from_being_told(
    tmp_path: Path,
) -> None:
    labels = {"alertname": "AbmonitorHold", "severity": "warning", "source": "monitor"}
    async with told(tmp_path) as (url, receiver):
        (tmp_path / "chat-url").unlink()
        await asyncio.to_thread(post, url, [alert(labels | {"experiment": "e", "variant": "v"})])
        await until_heard(receiver, *HOOKS)
        assert heard(receiver, "/chat") == []
