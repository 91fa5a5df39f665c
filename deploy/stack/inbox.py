"""The demo's chat, pager and watchdog: takes what Alertmanager sends, and shows it. This script does I/O (HTTP).

    python inbox.py --host HOST --port PORT

`POST /chat` (or any other name) leaves a JSON message; `GET /` shows the newest of each name to people, and `GET /messages`
to programs, oldest first: `[{"to": "chat", "at": 1767225600.0, "message": {…}}, …]`.
"""

import argparse
import json
import threading
import time
from collections import deque
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


KEPT = 200
"""Messages that are remembered."""

LARGEST = 1 << 20
"""Bytes that a message may have."""


class Messages:
    """The newest messages."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def add(self, to: str, message: dict[str, Any]) -> None:
        """Keep one; the oldest goes when there are too many."""
        with self._lock:
            self._kept.append({"to": to, "at": time.time(), "message": message})

    def all(self) -> list[dict[str, Any]]:
        """All of them, oldest first."""
        with self._lock:
            return list(self._kept)


class Inbox(BaseHTTPRequestHandler):
    """One request."""

    messages = Messages()
    timeout = 10

    def do_POST(self) -> None:
        """Take a message."""
        size = int(self.headers.get("Content-Length") or 0)
        if size > LARGEST:
            self._skip(size)  # whoever still sends does not hear
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", "too large\n")
            return
        message = parsed(self.rfile.read(size))
        if message is None:
            self._answer(HTTPStatus.BAD_REQUEST, "text/plain", "expected a JSON object\n")
            return
        to = self.path.strip("/")
        self.messages.add(to, message)
        print(f"{to}: {headline(message)}", flush=True)
        self._answer(HTTPStatus.OK, "text/plain", "ok")  # Slack's own answer, and no other does

    def do_GET(self) -> None:
        """Show messages."""
        found = self.messages.all()
        if self.path == "/messages":
            self._answer(HTTPStatus.OK, "application/json", json.dumps(found))
        elif self.path == "/healthz":
            self._answer(HTTPStatus.OK, "text/plain", "ok\n")
        elif self.path == "/":
            lines = (line(each) for each in reversed(found) if each["to"] != "watchdog")
            text = "".join(lines) or "nobody was told of anything yet\n"
            self._answer(HTTPStatus.OK, "text/plain", text)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "nothing here: look at /\n")

    def _skip(self, size: int) -> None:
        """Take a body, and keep nothing of it."""
        while size > 0 and (part := self.rfile.read(min(size, 1 << 16))):
            size -= len(part)

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class calls it
        """Say nothing of requests: what is told stands in the log already."""


def parsed(body: bytes) -> dict[str, Any] | None:
    """A message; None where it is none."""
    try:
        message = json.loads(body)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def headline(message: dict[str, Any]) -> str:
    """What a message is about: the title of Slack's form, or the alerts of a webhook."""
    for part in attachments(message):
        return str(part.get("title") or part.get("fallback") or "")
    alerts = message.get("alerts")
    if isinstance(alerts, list):
        return ", ".join(str(each["labels"]["alertname"]) for each in alerts)
    return str(message.get("text", message))


def attachments(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a message in Slack's form."""
    found = message.get("attachments")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def line(kept: dict[str, Any]) -> str:
    """A kept message for people."""
    when = time.strftime("%H:%M:%S", time.gmtime(kept["at"]))
    details = [str(part.get("text") or "").strip() for part in attachments(kept["message"])]
    below = "".join(f"    {row}\n" for text in details for row in text.splitlines())
    return f"{when} UTC  {kept['to']:8} {headline(kept['message'])}\n{below}\n"


def main() -> None:
    """Serve until the process is ended."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=9094)
    given = arguments.parse_args()
    ThreadingHTTPServer((given.host, given.port), Inbox).serve_forever()


if __name__ == "__main__":
    main()
