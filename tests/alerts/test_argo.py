"""Aborting Rollouts, in a server of ours and on a real Kubernetes API server where one was built: the same for both."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from support.rollouts import (
    NEW,
    OLD,
    USERS,
    ContractSite,
    Json,
    RealSite,
    Site,
    aborted,
    canary,
    definition,
    guided,
)
from support.servers import (
    Certificates,
    NoServerError,
    kube_api,
    make_certificates,
    rollouts,
)
from support.servers.base import or_skip, wait_for

from alerts.actuators import argo as module
from alerts.actuators.argo import RACES, Argo, ArgoOptions
from alerts.actuators.argo_client import Answer, Cluster
from alerts.order import Order, Receipt, Verification


ORDER = Order(
    id="offers:ranker-v2:3",
    experiment="offers",
    treatment="ranker-v2",
    control="rules-v1",
    decided_at=1_772_366_399_250,
    versions=("66f5d4c3b", NEW),
    reasons=("rap:sequential fails", "of a loss"),
)
DRY = msgspec.structs.replace(ORDER, dry_run=True)
UNKNOWN = msgspec.structs.replace(ORDER, versions=())
SITES = ["contract"] + (["real"] if kube_api.program() else [])
"""The real one where ABMONITOR_TEST_KUBERNETES says where it is."""

_numbers = count()


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[kube_api.KubernetesServer]:
    """An API server that knows Rollouts."""
    with kube_api.KubernetesServer(users=tuple(USERS)) as server:
        made = server.ask(
            "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition()
        )
        assert made[0] == 201, made
        path = "/apis/argoproj.io/v1alpha1/rollouts"
        wait_for(lambda: server.ask("GET", path)[0] == 200, "Rollouts are known")
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    with or_skip():
        return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def contract(tmp_path: Path, certificates: Certificates) -> AsyncIterator[ContractSite]:
    async with rollouts.RolloutServer(certificates) as server:
        server.rights = {user: guided() if may is None else may for user, may in USERS.items()}
        yield ContractSite(tmp_path, "shop", server)


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    if request.param == "contract":
        found: Site = request.getfixturevalue("contract")
        return found
    server = request.getfixturevalue("kubernetes")
    real = RealSite(tmp_path, f"shop-{next(_numbers)}", server)
    real.prepare()
    return real


async def applied(site: Site, order: Order = ORDER, **options: Any) -> Receipt:
    return await Argo(site.options(**options)).apply(order)


def notes(found: Json) -> Json:
    kept: Json = found["metadata"].get("annotations", {})
    return kept


# What is done


async def test_what_is_being_rolled_out_is_aborted_with_a_note_that_says_who_and_why(
    site: Site,
) -> None:
    await site.create()
    receipt = await applied(site)
    assert receipt.accepted
    assert receipt.detail == f"rollout {site.namespace}/offer-recommender: aborted"
    found = await site.read()
    assert found["status"] == canary(abort=True)
    assert notes(found) == {
        "abmonitor.dev/decision": ORDER.id,
        "abmonitor.dev/reason": "rap:sequential fails; of a loss",
        "abmonitor.dev/pod-hash": NEW,
    }


async def test_an_order_that_was_carried_out_changes_nothing_more(site: Site) -> None:
    await site.create()
    await applied(site)
    before = await site.read()
    receipt = await applied(site)
    assert receipt.accepted
    assert "was aborted already" in receipt.detail
    assert await site.read() == before


async def test_what_somebody_else_has_aborted_gets_a_note(site: Site) -> None:
    await site.create(aborted())
    receipt = await applied(site)
    assert receipt.accepted
    assert "was aborted already" in receipt.detail
    assert notes(await site.read())["abmonitor.dev/decision"] == ORDER.id


async def test_a_paused_rollout_is_aborted_and_then_unpaused(site: Site) -> None:
    await site.create(paused=True)
    receipt = await applied(site)
    assert receipt.accepted
    assert receipt.detail.endswith("aborted and unpaused")
    found = await site.read()
    assert found["spec"] == {"paused": False}
    assert found["status"]["abort"] is True


async def test_a_full_promotion_that_was_asked_for_is_taken_back(site: Site) -> None:
    await site.create(canary(promoteFull=True, abort=True))
    assert await Argo(site.options()).verify(ORDER) is Verification.FAILED
    assert (await applied(site)).accepted
    assert (await site.read())["status"] == canary(abort=True)


async def test_awkward_reasons_are_written_as_plain_text(site: Site) -> None:
    await site.create()
    awkward = msgspec.structs.replace(ORDER, id="a\ud800\r\n\x00" * 90, reasons=("ü\x00" * 2_000,))
    receipt = await applied(site, awkward)
    assert receipt.accepted
    kept = notes(await site.read())
    assert kept["abmonitor.dev/decision"].startswith("a\\ud800   a")
    assert len(kept["abmonitor.dev/decision"]) == 200
    assert len(kept["abmonitor.dev/reason"]) == 1_000
    assert "was aborted already" in (await applied(site, awkward)).detail


# Dry runs


async def test_a_dry_run_goes_through_all_checks_and_stores_nothing(site: Site) -> None:
    await site.create(paused=True)
    before = await site.read()
    receipt = await applied(site, DRY)
    assert receipt.accepted
    assert receipt.detail.startswith("dry run, nothing is stored: ")
    assert await site.read() == before
    assert await Argo(site.options()).verify(DRY) is Verification.UNSUPPORTED


async def test_every_patch_of_a_dry_run_says_so(contract: ContractSite) -> None:
    await contract.create(paused=True)
    contract.server.requests.clear()
    await applied(contract, DRY)
    patches = [path for method, path in contract.server.requests if method == "PATCH"]
    path = f"{contract.path}/offer-recommender"
    assert patches == [f"{path}/status?dryRun=All", f"{path}?dryRun=All"]
    assert [made["status"]["abort"] for made in contract.server.rehearsed[:1]] == [True]


@pytest.mark.parametrize(
    ("user", "missing"),
    [
        ("reader", "patch rollouts, patch rollouts/status"),
        ("aborter", "patch rollouts"),
    ],
)
async def test_a_dry_run_names_the_rights_that_are_missing(
    site: Site, user: str, missing: str
) -> None:
    await site.create()
    receipt = await applied(site, DRY, user=user)
    assert not receipt.accepted
    assert receipt.detail.endswith(f"rights are missing: {missing}")


# What is refused


@pytest.mark.parametrize(
    ("status", "order", "options", "why"),
    [
        (canary(currentPodHash="55"), ORDER, {}, f"none of the treatment's versions: 66f5d4c3b, {NEW}"),
        (canary(), UNKNOWN, {}, "send the pod-template-hash as the events' version"),
        (canary(stableRS=NEW), ORDER, {}, "kubectl argo rollouts undo offer-recommender -n "),
        (canary(stableRS=NEW), UNKNOWN, {"trust_name": True}, "kubectl argo rollouts undo"),
        (
            canary(stableRS=NEW, currentPodHash="55"),
            ORDER,
            {"trust_name": True},
            "is promoted already",
        ),
        (canary(currentPodHash=OLD), ORDER, {}, f"nothing is being rolled out: all pods are {OLD}"),
    ],
)  # fmt: skip
async def test_what_is_not_known_as_the_treatment_or_is_promoted_is_left_alone(
    site: Site, status: Json, order: Order, options: Any, why: str
) -> None:
    await site.create(status)
    before = await site.read()
    receipt = await applied(site, order, **options)
    assert not receipt.accepted
    assert not receipt.retry
    assert why in receipt.detail
    assert await site.read() == before


@pytest.mark.parametrize("order", [UNKNOWN, msgspec.structs.replace(ORDER, versions=("v2.1",))])
async def test_with_trust_name_whatever_is_rolled_out_is_the_treatment(
    site: Site, order: Order
) -> None:
    await site.create()
    assert (await applied(site, order, trust_name=True)).accepted
    assert (await site.read())["status"]["abort"] is True


@pytest.mark.parametrize(
    "status", [{}, canary(stableRS=None), canary(currentPodHash=OLD, observedGeneration="0")]
)
async def test_a_controller_that_lags_behind_is_waited_for(site: Site, status: Json) -> None:
    await site.create(status)
    receipt = await applied(site)
    assert not receipt.accepted
    assert receipt.retry


async def test_a_treatment_whose_earlier_version_is_stable_is_aborted_too(site: Site) -> None:
    await site.create()
    order = msgspec.structs.replace(ORDER, versions=(OLD, NEW))
    assert (await applied(site, order)).accepted
    assert (await site.read())["status"]["abort"] is True


# Races


@pytest.fixture
def before_patches(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[], Awaitable[Any]]], None]:
    """Lets something happen before each patch of the actuator."""
    patch = Cluster.patch

    def install(happen: Callable[[], Awaitable[Any]]) -> None:
        async def late(self: Cluster, path: str, body: Json, *, dry_run: bool) -> Answer:
            await happen()
            return await patch(self, path, body, dry_run=dry_run)

        monkeypatch.setattr(Cluster, "patch", late)

    return install


async def test_a_rollout_that_changed_meanwhile_is_looked_at_again(
    site: Site, before_patches: Callable[[Callable[[], Awaitable[Any]]], None]
) -> None:
    await site.create()
    numbers = count()

    async def twice() -> None:
        if (number := next(numbers)) < 2:
            await site.change({"metadata": {"labels": {"seen": str(number)}}})

    before_patches(twice)
    assert (await applied(site)).accepted
    assert next(numbers) > 2
    assert (await site.read())["status"]["abort"] is True


async def test_pods_that_somebody_pushes_meanwhile_are_not_aborted(
    site: Site, before_patches: Callable[[Callable[[], Awaitable[Any]]], None]
) -> None:
    await site.create()
    before_patches(lambda: site.change({"status": {"currentPodHash": "55"}}, "/status"))
    receipt = await applied(site)
    assert not receipt.accepted
    assert "it rolls out 55" in receipt.detail
    assert "abort" not in (await site.read())["status"]


async def test_a_rollout_that_never_rests_is_given_up_for_now(
    site: Site, before_patches: Callable[[Callable[[], Awaitable[Any]]], None]
) -> None:
    await site.create()
    numbers = count()
    before_patches(lambda: site.change({"metadata": {"labels": {"seen": str(next(numbers))}}}))
    receipt = await applied(site)
    assert not receipt.accepted
    assert receipt.retry
    assert f"changed {RACES} times" in receipt.detail
    assert next(numbers) == RACES


async def test_a_paused_rollout_that_changes_after_the_abort_is_still_unpaused(
    site: Site, before_patches: Callable[[Callable[[], Awaitable[Any]]], None]
) -> None:
    await site.create(paused=True)
    numbers = count()

    async def after_the_first() -> None:
        if next(numbers) == 1:
            await site.change({"status": {"message": "aborting"}}, "/status")

    before_patches(after_the_first)
    assert (await applied(site)).accepted
    assert (await site.read())["spec"] == {"paused": False}


async def test_what_somebody_pushes_after_the_abort_stays_paused(
    site: Site, before_patches: Callable[[Callable[[], Awaitable[Any]]], None]
) -> None:
    await site.create(paused=True)
    numbers = count()

    async def after_the_first() -> None:
        if next(numbers) == 1:
            pushed = {"currentPodHash": "55", "abort": None}
            await site.change({"status": pushed}, "/status")

    before_patches(after_the_first)
    receipt = await applied(site)
    assert "it rolls out 55" in receipt.detail
    assert (await site.read())["spec"] == {"paused": True}


# Rights, and what is missing


async def test_without_the_right_to_annotate_it_is_aborted_all_the_same(site: Site) -> None:
    await site.create()
    receipt = await applied(site, user="aborter")
    assert receipt.accepted
    assert receipt.detail.endswith("aborted; not annotated: PATCH answered 403")
    assert (await site.read())["status"]["abort"] is True


async def test_a_paused_rollout_that_cannot_be_unpaused_is_no_success(site: Site) -> None:
    await site.create(paused=True)
    receipt = await applied(site, user="aborter")
    assert not receipt.accepted
    assert receipt.detail.endswith("aborted, but still paused: PATCH answered 403")


async def test_who_may_only_read_is_refused(site: Site) -> None:
    await site.create()
    receipt = await applied(site, user="reader")
    assert (receipt.accepted, receipt.retry) == (False, False)
    assert receipt.detail.endswith("PATCH answered 403")


async def test_a_token_that_nobody_knows_is_tried_again_as_tokens_rotate(site: Site) -> None:
    await site.create()
    made = Argo(site.options(user="stranger"))
    receipt = await made.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert receipt.detail.endswith("GET answered 401")
    assert "stranger" not in receipt.detail
    assert await made.verify(ORDER) is Verification.PENDING
    site.options(user="monitor")
    (site.folder / "monitor.json").rename(site.folder / "stranger.json")
    assert (await made.apply(ORDER)).accepted


async def test_a_rollout_that_is_not_there_is_refused(site: Site) -> None:
    made = Argo(site.options())
    receipt = await made.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, False)
    assert receipt.detail.endswith("GET answered 404")
    assert await made.verify(ORDER) is Verification.FAILED


async def test_a_definition_without_a_status_subresource_is_patched_as_a_whole(
    contract: ContractSite,
) -> None:
    await contract.create()
    contract.server.has_status = False
    assert (await applied(contract)).accepted
    assert (await contract.read())["status"]["abort"] is True


async def test_a_pod_uses_its_service_account(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes_asyncio.config import incluster_config

    await site.create()
    (tmp_path / "token").write_text("monitor")
    url = urlsplit(site.config("")["clusters"][0]["cluster"]["server"])
    authority = site.config("")["clusters"][0]["cluster"]["certificate-authority"]
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(url.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(url.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", authority)
    assert (await applied(site, kubeconfig=None)).accepted


async def test_a_pod_without_a_service_account_says_that_there_is_no_way_in(
    contract: ContractSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    receipt = await applied(contract, kubeconfig=None)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert "the cluster's configuration cannot be used (ConfigException)" in receipt.detail


@pytest.mark.parametrize("text", [None, "", "[", "{}", '{"clusters": 1}', "\x00"])
async def test_a_kubeconfig_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    made = Argo(ArgoOptions(rollout="x", kubeconfig=str(path)))
    receipt = await made.apply(ORDER)
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert f"{path} cannot be used" in receipt.detail
    assert await made.verify(ORDER) is Verification.PENDING


async def test_a_context_is_chosen_by_its_name(site: Site) -> None:
    await site.create()
    assert "cannot be used" in (await applied(site, context="elsewhere")).detail
    assert (await applied(site, context="here")).accepted


# Servers that misbehave

PASSING = {401, 408, 409, 425, 429, 500, 502, 503, 504}


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("code", [400, 401, 403, 408, 409, 410, 415, 422, 429, 500, 503, 504])
async def test_a_status_tells_whether_it_may_pass(
    contract: ContractSite, method: str, code: int
) -> None:
    await contract.create()
    contract.server.rule = rollouts.status(code, method=method, **{"Retry-After": "7"})
    receipt = await applied(contract)
    assert not receipt.accepted
    assert receipt.retry is (code in PASSING)
    if (method, code) != ("PATCH", 409):  # a conflict is looked at again
        assert receipt.detail.endswith(f"{method} answered {code}")
        assert receipt.retry_after == 7


@pytest.mark.parametrize("code", [403, 500, 503])
async def test_verifying_tells_a_refusal_from_a_failure_that_may_pass(
    contract: ContractSite, code: int
) -> None:
    await contract.create(aborted())
    contract.server.rule = rollouts.status(code)
    found = await Argo(contract.options()).verify(ORDER)
    assert found is (Verification.PENDING if code in PASSING else Verification.FAILED)


@pytest.mark.parametrize(
    "rule",
    [
        rollouts.hang("GET"),
        rollouts.hang("PATCH"),
        rollouts.reset("GET"),
        rollouts.reset("PATCH"),
        rollouts.say(b""),
        rollouts.say(b"<html>"),
        rollouts.say(b"[]"),
        rollouts.say(b'{"status": {"currentPodHash": 7}}'),
        rollouts.say(b'{"status": null}'),
        rollouts.say(b"[" * 100_000),
        rollouts.say(b" " * 5_000_000),
        rollouts.say(b"nonsense", "PATCH"),
    ],
)
async def test_whatever_a_server_does_is_an_answer_in_time(
    contract: ContractSite, rule: rollouts.Rule
) -> None:
    await contract.create()
    contract.server.rule = rule
    made = Argo(contract.options(timeout=0.5))
    began = time.monotonic()
    receipt = await made.apply(ORDER)
    assert isinstance(await made.verify(ORDER), Verification)
    assert time.monotonic() - began < 10
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert receipt.detail.startswith("rollout shop/offer-recommender: ")


async def test_an_abort_whose_answer_was_lost_is_found_done_at_the_next_attempt(
    contract: ContractSite,
) -> None:
    await contract.create()
    contract.server.rule = rollouts.reset("PATCH")
    await contract.server.ask("GET", contract.path + "/offer-recommender")
    assert not (await applied(contract)).accepted
    contract.server.rule = None
    await contract.change({"status": {"abort": True}}, "/status")
    assert (await applied(contract)).accepted


async def test_cancelling_cancels_the_attempt(contract: ContractSite) -> None:
    await contract.create()
    contract.server.rule = rollouts.hang()
    task = asyncio.create_task(applied(contract))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# Verifying

NO_WEIGHTS = {"weights": None}
GREEN = {"canary": None, "blueGreen": {"activeSelector": NEW}}
BLUE = {"canary": None, "blueGreen": {"activeSelector": OLD}}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (canary(), Verification.FAILED),
        (aborted(), Verification.DONE),
        (aborted(abort=False), Verification.FAILED),
        (aborted(promoteFull=True), Verification.FAILED),
        (aborted(phase="Progressing"), Verification.PENDING),
        (aborted(abortedAt=None), Verification.PENDING),  # degraded before, by itself
        (aborted(canary={"weights": {"canary": {"weight": 5}}}), Verification.PENDING),
        (aborted(canary=NO_WEIGHTS), Verification.PENDING),
        (aborted(canary=NO_WEIGHTS, updatedReplicas=None), Verification.DONE),
        (aborted(**GREEN), Verification.PENDING),
        (aborted(**BLUE), Verification.DONE),
        (aborted(stableRS=NEW), Verification.FAILED),
        (aborted(stableRS=None), Verification.FAILED),
        (aborted(currentPodHash="55"), Verification.FAILED),
        ({}, Verification.FAILED),
    ],
)
async def test_it_took_effect_when_no_traffic_goes_to_the_treatments_pods(
    site: Site, status: Json, expected: Verification
) -> None:
    await site.create(status)
    assert await Argo(site.options()).verify(ORDER) is expected


async def test_pods_that_were_aborted_and_are_rolled_out_no_more_are_done(site: Site) -> None:
    await site.create()
    await applied(site)
    made = Argo(site.options())
    await site.change({"status": {"currentPodHash": OLD, "abort": None}}, "/status")
    assert await made.verify(ORDER) is Verification.DONE
    assert (await made.apply(ORDER)).accepted
    another = msgspec.structs.replace(ORDER, id="offers:ranker-v2:9")
    assert await made.verify(another) is Verification.FAILED
    await site.change({"status": {"currentPodHash": "55", "stableRS": NEW}}, "/status")
    assert await made.verify(ORDER) is Verification.FAILED


async def test_an_abort_that_somebody_takes_back_has_failed_and_is_carried_out_again(
    site: Site,
) -> None:
    await site.create()
    made = Argo(site.options())
    await made.apply(ORDER)
    await site.change({"status": {"abort": False}}, "/status")
    assert await made.verify(ORDER) is Verification.FAILED
    assert (await made.apply(ORDER)).accepted
    assert (await site.read())["status"]["abort"] is True


async def test_a_treatment_that_became_stable_is_not_rolled_back_also_with_trust(
    site: Site,
) -> None:
    await site.create(aborted(currentPodHash="55", stableRS=NEW))
    made = Argo(site.options(trust_name=True))
    assert await made.verify(ORDER) is Verification.FAILED
    assert await made.verify(UNKNOWN) is Verification.DONE


async def test_a_stranger_to_the_certificates_is_not_told_the_token(
    site: Site, certificates: Certificates
) -> None:
    await site.create()
    config = site.config("monitor")
    config["clusters"][0]["cluster"]["certificate-authority"] = str(certificates.other_authority)
    (site.folder / "wrong.json").write_text(json.dumps(config))
    receipt = await applied(site, kubeconfig=str(site.folder / "wrong.json"))
    assert (receipt.accepted, receipt.retry) == (False, True)
    assert "Certificate" in receipt.detail


async def test_why_it_is_not_verified_goes_to_the_log_once(
    contract: ContractSite, caplog: pytest.LogCaptureFixture
) -> None:
    await contract.create(aborted(phase="Progressing"))
    made = Argo(contract.options())
    for _ in range(3):
        await made.verify(ORDER)
    [line] = [each for each in caplog.messages if "is not verified" in each]
    assert line.endswith("aborted, but it is in the phase 'Progressing' yet")


# Options


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rollout", ""),
        ("rollout", "a/b"),
        ("rollout", "A"),
        ("rollout", "a" * 254),
        ("rollout", "a\n"),
        ("namespace", ""),
        ("namespace", "a.b"),
        ("namespace", "a" * 64),
        ("kubeconfig", ""),
        ("context", "a\0b"),
        ("timeout", 0.0),
        ("timeout", float("nan")),
        ("timeout", 61.0),
    ],
)
def test_options_that_cannot_work_are_told(field: str, value: Any) -> None:
    options = msgspec.structs.replace(ArgoOptions(rollout="a.b"), **{field: value})
    assert [name for name, _ in options.problems()] == [field]
    with pytest.raises(ValueError, match=f"argo: {field}: expected"):
        Argo(options)


def test_without_the_clients_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "installed", lambda: False)
    with pytest.raises(ValueError, match=r"pip install 'abmonitor\[argo\]'"):
        Argo(ArgoOptions(rollout="a"))


async def test_after_closing_nothing_is_sent(contract: ContractSite) -> None:
    await contract.create()
    made = Argo(contract.options())
    await made.close()
    contract.server.requests.clear()
    assert not (await made.apply(ORDER)).accepted
    assert await made.verify(ORDER) is Verification.PENDING
    assert contract.server.requests == []


def test_without_a_program_there_is_no_real_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kube_api.PROGRAM, raising=False)
    with pytest.raises(NoServerError, match=kube_api.PROGRAM):
        kube_api.KubernetesServer()
