"""Signatures of Standard Webhooks, against the published example and computed another way."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.actuators.signing import key, message_id, sign, verify


# The example in the tests of the specification's own libraries (standard-webhooks/standard-webhooks).
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="

IDS = st.text(alphabet=st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1)


def rfc2104(secret: bytes, content: bytes) -> bytes:
    """HMAC-SHA256 written out from RFC 2104, without the hmac module."""
    block = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + content).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def accepts(  # every argument of the published example can be changed
    *,
    secret: str = SECRET,
    message: str = ID,
    timestamp: str = str(TIME),
    body: bytes = BODY,
    signatures: str = SIGNATURE,
    now: float = TIME,
) -> bool:
    return verify(secret, message, timestamp, body, signatures, now=now)


def test_the_published_example_is_signed_as_published() -> None:
    assert sign(SECRET, ID, TIME, BODY) == SIGNATURE


def test_the_published_example_verifies() -> None:
    assert accepts()


@given(st.binary(min_size=1, max_size=100), IDS, st.integers(0, 10**12), st.binary())
def test_signatures_equal_an_independent_computation(
    secret: bytes, identifier: str, timestamp: int, body: bytes
) -> None:
    text = "whsec_" + base64.b64encode(secret).decode()
    message = message_id(identifier)
    content = b".".join([message.encode(), str(timestamp).encode(), body])
    signature = sign(text, message, timestamp, body)
    assert signature == "v1," + base64.b64encode(rfc2104(secret, content)).decode()
    assert verify(text, message, str(timestamp), body, signature, now=timestamp)


@pytest.mark.parametrize(
    "changed",
    [
        {"secret": "whsec_" + base64.b64encode(b"another").decode()},
        {"secret": SECRET.removeprefix("whsec_")},
        {"message": "msg_other"},
        {"message": ""},
        {"timestamp": str(TIME + 1)},
        {"body": b'{"test":2432232314}'},
        {"body": b""},
        {"signatures": OTHER},
        {"signatures": ""},
        {"signatures": SIGNATURE.removeprefix("v1,")},
        {"signatures": SIGNATURE.replace("v1,", "v2,")},
        {"signatures": SIGNATURE.replace("v1,", "v1a,")},
        {"signatures": SIGNATURE.lower()},
        {"signatures": "v1,"},
    ],
)
def test_anything_changed_is_refused(changed: dict[str, str]) -> None:
    assert not accepts(**changed)  # type: ignore[arg-type]  # one of them is bytes


@pytest.mark.parametrize("listed", [f"{SIGNATURE} {OTHER}", f"{OTHER} v1a,x  v2,y {SIGNATURE}"])
def test_one_matching_signature_of_several_is_enough(listed: str) -> None:
    assert accepts(signatures=listed)


@pytest.mark.parametrize("apart", [-300, -299.5, 0, 300])
def test_messages_up_to_five_minutes_apart_are_taken(apart: float) -> None:
    assert accepts(now=TIME + apart)


@pytest.mark.parametrize("apart", [-301, 300.5, 86_400, float("nan"), float("inf")])
def test_older_and_newer_messages_are_refused(apart: float) -> None:
    assert not accepts(now=TIME + apart)


@pytest.mark.parametrize(
    "timestamp", ["", "hello", f" {TIME}", f"+{TIME}", f"{TIME}.0", "١٦١٤٢٦٥٣٣٠", "1" * 5000]
)
def test_times_that_are_not_whole_seconds_are_refused(timestamp: str) -> None:
    assert not accepts(timestamp=timestamp)


@given(st.text(), st.text(), st.binary(), st.text())
def test_nothing_received_raises_or_verifies_by_accident(
    message: str, timestamp: str, body: bytes, signatures: str
) -> None:
    assert not verify(SECRET, message, timestamp, body, signatures, now=TIME)


def test_header_values_that_are_not_utf_8_are_refused() -> None:
    assert not accepts(message="msg_\udcff", signatures=f"\udcff \ud800 {SIGNATURE}")
    assert accepts(signatures=f"\udcff \ud800 {SIGNATURE}")


def test_an_identifier_with_a_full_stop_cannot_move_the_boundaries() -> None:
    signature = sign(SECRET, "a", TIME, f".{TIME}.rest".encode())
    assert not accepts(message=f"a.{TIME}.", body=b"rest", signatures=signature)
    with pytest.raises(ValueError, match="without a full stop"):
        sign(SECRET, f"a.{TIME}", TIME, b"rest")


@pytest.mark.parametrize("bad", ["", "a b", "a\r\nx: y", "é"])
def test_identifiers_that_headers_cannot_carry_are_not_signed(bad: str) -> None:
    with pytest.raises(ValueError, match="message id"):
        sign(SECRET, bad, TIME, BODY)


@pytest.mark.parametrize("plain", ["0197-ab", "offers:ranker-v2:7", "a/b_c~d"])
def test_plain_identifiers_stay_as_they_are(plain: str) -> None:
    assert message_id(plain) == plain


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_identifiers_of_any_text_can_be_signed_and_stay_distinct(one: str, two: str) -> None:
    try:
        first, second = message_id(one), message_id(two)
    except UnicodeEncodeError:  # lone surrogates are no text
        return
    assert sign(SECRET, first, TIME, BODY)
    assert (first == second) == (one == two)


def test_a_secret_without_prefix_is_its_text() -> None:
    assert key("correct horse") == b"correct horse"
    assert key("ключ") == "ключ".encode()
    assert key("\udcff") == b"\xff"


def test_base64_padding_may_be_missing() -> None:
    assert key("whsec_YWJjZA") == key("whsec_YWJjZA==") == b"abcd"


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_hunter2-x", "whsec_hunter2\n", "whsec_Y", "whsec_é"]
)
def test_unreadable_secrets_are_refused_without_quoting_them(secret: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        key(secret)
    assert "hunter2" not in str(caught.value)
