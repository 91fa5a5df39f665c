"""Tokens: what the file may hold, when it is read again, and that no token ever shows."""

import os
from pathlib import Path

import msgspec
import pytest

from abmonitor.api_limits import MOST_REMEMBERED, Limits, network
from abmonitor.api_settings import ApiSettings
from abmonitor.auth import PREFIX, Caller, Tokens, TokensError, digest, line, new_token, read


SECRET = "abm_s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr3t"
HASH = digest(SECRET)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    path.write_text(f"tokens:\n  - {{name: ann, sha256: {HASH}, role: operate}}\n")
    return path


class Clock:
    """Seconds, as the test wishes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_known_by_its_hash(file: Path) -> None:
    tokens = Tokens(file)
    assert tokens.caller(SECRET) == Caller("ann", "operate")
    assert len(tokens) == 1
    for wrong in ("", "abm_", SECRET[:-1], SECRET + "x", SECRET.upper(), HASH, "\udcff"):
        assert tokens.caller(wrong) is None


@pytest.mark.parametrize("name", ["tokens.yaml", "tokens.jsonl"])
def test_a_new_token_works_once_its_line_is_in_the_file(tmp_path: Path, name: str) -> None:
    token, entry = new_token("bob@example.org", "operate", ("offers", "rank*"))
    path = tmp_path / name
    json = msgspec.json.encode(entry).decode() + "\n\n"
    path.write_text("tokens:\n" + line(entry) + "\n" if path.suffix == ".yaml" else json)
    caller = Tokens(path).caller(token)
    assert caller == Caller("bob@example.org", "operate", ("offers", "rank*"))
    assert token.startswith(PREFIX)
    assert token not in path.read_text()


def test_no_two_new_tokens_are_alike() -> None:
    assert len({new_token("ann", "read")[0] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("name", "experiments"), [("", ("*",)), ("a b", ("*",)), ("abmonitor", ("*",)), ("a", ("x y",))]
)
def test_a_name_that_is_none_is_refused(name: str, experiments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"name|experiments|regex|signed"):
        new_token(name, "read", experiments)


@pytest.mark.parametrize(
    ("globs", "covered", "not_covered"),
    [
        (("*",), ("offers", "x.y"), ()),
        (("offers",), ("offers",), ("offers2", "Offers", "xoffers")),
        (("off*", "rank-?"), ("offers", "off", "rank-1"), ("rank-12", "x-off")),
        (("[ab]x", "[!ab]y"), ("ax", "cy"), ("cx", "ay")),
    ],
)
def test_a_token_covers_what_its_patterns_say(
    globs: tuple[str, ...], covered: tuple[str, ...], not_covered: tuple[str, ...]
) -> None:
    caller = Caller("ann", "read", globs)
    assert all(caller.covers(name) for name in covered)
    assert not any(caller.covers(name) for name in not_covered)
    assert caller.covers_all == ("*" in globs)
    assert not caller.operates


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        ("tokens: 7", "expected a list"),
        (f"tokens: [{SECRET}]", "expected a mapping"),
        (f"tokens: [{{name: ann, sha256: {SECRET}}}]", "sha256"),
        (f"tokens: [{{name: ann, token: {SECRET}, sha256: {HASH}}}]", "unknown key 'token'"),
        (f"tokens: [{{name: {SECRET}x!, sha256: {HASH}}}]", "name"),
        (f"tokens: [{{name: ann, sha256: {HASH}, role: {SECRET}}}]", "read, operate"),
        (f"tokens: [{{name: ann, sha256: {HASH}, experiments: ['{SECRET} ']}}]", "experiments"),
        (f"tokens: [{{name: ann, sha256: {HASH}, experiments: []}}]", "covers nothing"),
        (f"tokens: [{{name: abmonitor, sha256: {HASH}}}]", "itself"),
        (f"tokens: [{{sha256: {HASH}}}]", "'name' is missing"),
        (f"{SECRET}: 7", "unknown key"),
        (f"tokens: [{{name: *{SECRET}}}]", "alias"),
        (f'tokens: ["{SECRET}', "quoted"),
        (f"tokens: [{{name: a, sha256: {HASH}}}, {{name: b, sha256: {HASH}}}]", "a and b share"),
    ],
)
def test_a_bad_file_is_refused_with_its_place_and_without_what_may_be_a_token(
    file: Path, text: str, told: str
) -> None:
    file.write_text(text)
    with pytest.raises(TokensError) as raised:
        Tokens(file)
    message = str(raised.value)
    assert told in message
    assert "tokens.yaml" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    "text",
    ["{", f'{{"name": "ann", "sha256": "{SECRET}"}}', f'["{SECRET}"]', f'{{"x{SECRET}": 1}}'],
)
def test_a_bad_line_of_json_is_refused_with_its_number(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.jsonl"
    path.write_text(f'{{"name": "ann", "sha256": "{HASH}"}}\n\n{text}\n')
    with pytest.raises(TokensError, match=r"tokens\.jsonl:3: ") as raised:
        read(path)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("name", ["none.yaml", "none.jsonl"])
def test_a_missing_file_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(TokensError, match="cannot read the file"):
        Tokens(tmp_path / name)


def test_a_person_may_have_two_tokens_while_one_replaces_the_other(file: Path) -> None:
    token, entry = new_token("ann", "read")
    with file.open("a") as more:
        more.write(line(entry) + "\n")
    tokens = Tokens(file)
    assert [tokens.caller(each).role for each in (SECRET, token)] == ["operate", "read"]  # type: ignore[union-attr]


def test_the_file_is_read_again_when_it_changed_and_looked_at_once_a_second(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, looks = Clock(), list[Path]()
    tokens = Tokens(file, clock=clock)
    stat = Path.stat

    def counted(path: Path) -> os.stat_result:
        looks.append(path)
        return stat(path)

    monkeypatch.setattr(Path, "stat", counted)
    file.write_text("tokens: []\n")
    for _ in range(10):
        assert tokens.caller(SECRET) is not None
    assert looks == []
    clock.now = 1.0
    assert [tokens.caller(SECRET) for _ in range(10)] == [None] * 10
    assert len(looks) == 1


def test_a_file_that_went_bad_leaves_the_old_tokens_and_says_so_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    tokens = Tokens(file, clock=clock)
    good = file.read_text()
    for number, bad in enumerate((f"tokens: [{SECRET}]", None), start=1):
        if bad is None:
            file.unlink()
        else:
            file.write_text(bad)
        for _ in range(3):
            clock.now += 1
            assert tokens.caller(SECRET) is not None
        assert tokens.problem is not None
        assert "go on to count" in tokens.problem
        assert len(caplog.records) == number
    assert SECRET not in caplog.text
    file.write_text(good)
    clock.now += 1
    assert tokens.caller(SECRET) is not None
    assert tokens.problem is None


def test_a_file_put_in_place_of_another_is_seen_whatever_its_time(file: Path) -> None:
    clock = Clock()
    tokens = Tokens(file, clock=clock)
    found = file.stat()
    other = file.with_name("other")
    other.write_text(file.read_text().replace("ann", "eve"))
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(file)
    clock.now += 1
    caller = tokens.caller(SECRET)
    assert caller is not None
    assert caller.name == "eve"


# --- how often ------------------------------------------------------------------------------------


def test_a_bucket_lets_as_many_through_as_a_minute_brings() -> None:
    limits = Limits(60)
    assert [limits.wait("ann", 0.0) for _ in range(60)] == [None] * 60
    assert limits.wait("ann", 0.0) == 1.0
    assert limits.wait("ann", 0.5) == 0.5
    assert limits.wait("ann", 1.0) is None
    assert limits.wait("ann", 1.0) == 1.0
    assert limits.wait("bob", 1.0) is None


def test_a_clock_that_goes_back_fills_no_bucket_and_breaks_none() -> None:
    limits = Limits(1)
    assert limits.wait("ann", 100.0) is None
    assert limits.wait("ann", 0.0) == 60.0
    assert limits.wait("ann", 60.0) is None


def test_no_more_askers_are_remembered_than_there_is_room_for() -> None:
    limits = Limits(1)
    for number in range(MOST_REMEMBERED + 500):
        assert limits.wait(str(number), 0.0) is None
        limits.wait("busy", 0.0)
    assert len(limits) == MOST_REMEMBERED
    assert limits.wait("busy", 0.0) is not None


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, ""),
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
    ],
)
def test_one_machine_is_one_asker(address: str | None, expected: str) -> None:
    assert network(address) == expected


# --- settings -------------------------------------------------------------------------------------


def test_closed_reads_need_tokens() -> None:
    (problem,) = ApiSettings(open_reads=False).problems()
    assert problem[0] == "open_reads"
    assert list(ApiSettings(open_reads=False, tokens="f").problems()) == []
    assert list(ApiSettings().problems()) == []
