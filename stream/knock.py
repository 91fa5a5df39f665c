"""Why Kafka does not let us in: one attempt at each server, told in words. This module does I/O.

The client libraries keep the reason to their logs, and say only that they could not connect.
"""

import asyncio
import ssl
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from aiokafka.protocol.metadata import MetadataRequest

from stream.brokers import Brokers


TIMEOUT_S = 5.0


async def explain(brokers: Brokers, error: BaseException) -> str:
    """What a client's `error` means, found out by trying; names servers and user, never a secret."""
    found = await refusals(brokers)
    return "\n".join(found) or f"Kafka at {brokers}: {str(error) or type(error).__name__}"


async def refusals(brokers: Brokers, patience_s: float = TIMEOUT_S) -> list[str]:
    """A line for each server that cannot be used, empty when all can.

    `patience_s` is for each step at a server. Raises stream.brokers.CertificateError.
    """
    arguments = brokers.aiokafka()
    del arguments["bootstrap_servers"]
    tried = [_try(server, arguments, patience_s) for server in brokers.servers]
    reasons = await asyncio.gather(*tried)
    told = zip(brokers.servers, reasons, strict=True)
    return [
        f"Kafka at {brokers.at(server)}: {_hint(brokers, reason)}"
        for server, reason in told
        if reason is not None
    ]


async def _try(server: str, arguments: dict[str, Any], patience_s: float) -> BaseException | None:
    """What happens when somebody goes in and asks for something."""
    host, _, port = server.rpartition(":")
    begun: list[object] = []
    connection = AIOKafkaConnection(
        host.strip("[]"),
        int(port),
        request_timeout_ms=int(patience_s * 1000),
        on_close=lambda *told: begun.append(told),
        **arguments,
    )
    try:
        try:
            await connection.connect()
            # With a bad token the library believes to be in, and takes the refusal for an empty answer.
            known = await connection.send(MetadataRequest([]))
        finally:
            closed = connection.close()
            if begun:  # also one that was refused has a socket, which takes a moment to close
                await asyncio.wait([closed], timeout=patience_s)
    except (OSError, KafkaError) as error:
        return error
    return None if known.brokers else KafkaError("it names no broker")


def _hint(brokers: Brokers, error: BaseException) -> str:
    match error:
        case SaslAuthenticationFailed():
            hint = f"the user or the password is wrong: {_words(error)}"
        case UnsupportedSaslMechanismError():
            hint = f"expected another mechanism: {_words(error)}"
        case ssl.SSLCertVerificationError():
            hint = (
                f"its certificate is not trusted ({error.verify_message});"
                " expected one for this host, signed by one of `ca`"
            )
        case ssl.SSLError():
            hint = f"no TLS there ({error.reason}); expected another protocol or port"
        case TimeoutError():
            hint = "no answer in time; is the protocol right?"
        case OSError():
            hint = f"cannot be reached: {error}"
        case _ if brokers.mechanism == "oauthbearer":
            hint = "it closed the connection; is the token still valid?"
        case _:
            hint = "it closed the connection; is the protocol right, does it demand a certificate?"
    return hint


def _words(error: KafkaError) -> str:
    """What the broker said, without the library's name for it."""
    return str(error.args[0]) if error.args and error.args[0] else type(error).__name__
