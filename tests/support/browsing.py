"""Asking a service's web page as a program would."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urljoin, urlsplit

PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def connection(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    return HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE_S)


def ask(
    page: str, path: str = "", headers: Mapping[str, str] | None = None, method: str = "GET"
) -> Answer:
    """The answer to one request; `path` is relative to the page."""
    url = urlsplit(urljoin(page, path))
    client = connection(page)
    try:
        client.request(method, f"{url.path}?{url.query}".rstrip("?"), headers=dict(headers or {}))
        answer = client.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        client.close()


@dataclass(slots=True)
class Events:
    """The event stream of one viewer."""

    answer: HTTPResponse

    def next(self) -> tuple[str, Any]:
        """The name and the document of the next event. Raises EOFError at the end."""
        name, data = "", ""
        while line := self.answer.readline().decode():
            field, _, value = line.rstrip("\n").partition(": ")
            if not field:
                return name, json.loads(data)
            name, data = (value, data) if field == "event" else (name, value)
        raise EOFError

    def until(self, name: str, **values: Any) -> Any:
        """The first document of that name whose fields have these values."""
        while True:
            got, document = self.next()
            if got == name and all(document[key] == value for key, value in values.items()):
                return document


@contextmanager
def looking_on(page: str) -> Generator[Events]:
    client = connection(page)
    try:
        client.request("GET", "/api/events")
        yield Events(client.getresponse())
    finally:
        client.close()
