"""Signatures of Standard Webhooks 1.0: what the webhook signs and its receivers verify.

The scheme is the symmetric one of the specification (HMAC-SHA256, identifier `v1`) over
`{id}.{timestamp}.{body}`: https://www.standardwebhooks.com, spec/standard-webhooks.md. Any library
of that specification verifies what is signed here.
"""

import base64
import hashlib
import hmac
import re
from urllib.parse import quote


TOLERANCE = 300.0
"""Seconds by which a message's time and the receiver's may differ: the specification's five minutes."""

PREFIX = "whsec_"
_VERSION = "v1"
# The full stop separates the signed parts: an identifier holding one could move the boundary
# between identifier, time and body without changing what was signed.
_MESSAGE_ID = re.compile(r"[!-\-/-~]+")
_TIMESTAMP = re.compile(r"[0-9]{1,15}")


def key(secret: str) -> bytes:
    """Read the bytes of a shared secret: base64 after `whsec_`, otherwise the text in UTF-8.

    Raises ValueError, which does not quote the secret, where it is empty or not base64. Reference
    libraries read base64 without the prefix too; give a receiver that uses one with a raw secret
    the bytes.
    """
    if not secret.startswith(PREFIX):
        # An environment variable that is not UTF-8 gives back its bytes.
        found = secret.encode("utf-8", "surrogateescape")
    else:
        text = secret.removeprefix(PREFIX).rstrip("=")
        try:
            # Strict: dropping characters that are not base64 would silently give another key.
            found = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError:
            raise ValueError(f"expected base64 after {PREFIX!r} in the webhook's secret") from None
    if not found:
        raise ValueError("expected a webhook secret, got an empty one")
    return found


def message_id(text: str) -> str:
    """Write any identifier so that headers can carry it and `sign` takes it: percent-encoded.

    Letters, digits and `-_~:/` stay as they are, a full stop does not. Distinct ones stay distinct.

    >>> message_id("offers:ranker-v2:7"), message_id("offers:v2.1")
    ('offers:ranker-v2:7', 'offers:v2%2E1')
    """
    return quote(text, safe=":/").replace(".", "%2E")


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Make the value of `webhook-signature`, such as `v1,g0hM9SsE+OTP…`.

    `timestamp` is the attempt's time in whole seconds since 1970. Raises ValueError where the
    secret cannot be read or `message_id` is not visible ASCII without a full stop.

    >>> sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek",
    ...      1614265330, b'{"test": 2432232314}')
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError(
            f"message id {message_id!r}: expected visible ASCII characters without a full stop"
        )
    content = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(key(secret), content, hashlib.sha256).digest()
    return f"{_VERSION},{base64.b64encode(digest).decode()}"


def verify(
    secret: str,
    message_id: str,
    timestamp: str,
    body: bytes,
    signatures: str,
    *,
    now: float,
    tolerance: float = TOLERANCE,
) -> bool:
    """Whether a received message was signed with `secret` and is not a replay of an old one.

    `message_id`, `timestamp` and `signatures` are the headers `webhook-id`, `webhook-timestamp` and
    `webhook-signature` as they came (`""` where one is missing), `body` the bytes as they came: JSON
    that was parsed and written again has another signature. `signatures` may list several, separated
    by spaces, of which one has to match (so that secrets can be rotated). Nothing received raises;
    ValueError only where the receiver's own `secret` cannot be read.

    A message stays valid for `tolerance` seconds: remember the identifiers seen for as long.
    """
    known = key(secret)
    if not _MESSAGE_ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
        return False
    if not abs(now - int(timestamp)) <= tolerance:
        return False
    content = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(known, content, hashlib.sha256).digest()
    expected = f"{_VERSION},".encode() + base64.b64encode(digest)
    # In constant time, or an attacker learns a signature byte by byte. What cannot be encoded
    # (lone surrogates of a header that is not UTF-8) becomes "?", which base64 does not have.
    return any(
        hmac.compare_digest(expected, candidate.encode("utf-8", "replace"))
        for candidate in signatures.split(" ")
    )
