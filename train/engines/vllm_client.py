"""HTTP to a vLLM server: token ids in, token ids with log-probabilities and weight labels out."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from train.errors import TrainError

POLL_S = 0.2
JSON = {"content-type": "application/json"}


class ServerError(Exception):
    """One answer that did not come, or not as it should."""


class ServerRefusalError(TrainError):
    """The server finds fault with a request, as it would again."""


@dataclass(slots=True)
class Choice:
    """One completion, as far as it has come."""

    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    labels: frozenset[str] = frozenset()  # of the weights, known at the end


@dataclass(slots=True)
class Answer:
    """What came of one request."""

    finished: dict[int, Choice] = field(default_factory=dict)  # by place among the n
    trouble: str | None = None  # why the rest did not come


class VllmClient:
    """Requests to one server; may be used by several threads at once.

    Parameters
    ----------
    url : str
        ``http://HOST:PORT``.
    limit_s : float
        For an answer to :meth:`call`, and for a connection.
    """

    def __init__(self, url: str, limit_s: float) -> None:
        self.url = url
        self._limit_s = limit_s
        self._open: set[socket.socket] = set()

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The JSON of one answer; empty if it has none.

        Raises
        ------
        ServerError
            If it does not come, or is not good.
        ServerRefusalError
            If the server knows no such request.
        """
        connection = self._connection(self._limit_s)
        try:
            connection.request(method, path, json.dumps(body), JSON)
            response = connection.getresponse()
            content = response.read()
            if response.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
                raise ServerRefusalError(_refusal(f"{method} {path}", response.status, content))
            if response.status != HTTPStatus.OK:
                raise ServerError(f"{method} {path} says {response.status}: {_text(content)}")
            return json.loads(content) if content else {}
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerError(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def complete(self, tokens: list[int], fields: dict[str, Any], deadline: float | None) -> Answer:
        """Completions of one prompt; those that ended before any trouble are kept.

        Parameters
        ----------
        tokens : list of int
        fields : dict
            Of vLLM's ``SamplingParams``.
        deadline : float, optional
            On the clock of ``time.monotonic``.

        Raises
        ------
        ServerRefusalError
            If the request is at fault.
        """
        answer = Answer()
        try:
            with self._streaming(tokens, fields, deadline) as (response, connected):
                if response.status != HTTPStatus.OK:
                    if HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.TOO_MANY_REQUESTS:
                        content = response.read()
                        raise ServerRefusalError(_refusal("completions", response.status, content))
                    answer.trouble = f"server error {response.status}"
                    return answer
                _read(response, answer, connected, deadline)
        except TimeoutError:
            answer.trouble = "time limit" if deadline is not None else "server lost"
        except (OSError, http.client.HTTPException, ValueError):
            answer.trouble = "server lost"
        return answer

    @contextlib.contextmanager
    def _streaming(
        self, tokens: list[int], fields: dict[str, Any], deadline: float | None
    ) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
        body = {"token_ids": tokens, "sampling_params": fields, "stream": True}
        with contextlib.ExitStack() as stack:
            connection = self._connection(_left(deadline) or self._limit_s)
            stack.callback(connection.close)
            connection.connect()
            connected = connection.sock
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connected.settimeout(_left(deadline))
            self._open.add(connected)
            stack.callback(self._open.discard, connected)
            connection.request("POST", "/inference/v1/generate", json.dumps(body), JSON)
            response = connection.getresponse()
            stack.callback(response.close)
            yield response, connected

    def hang_up(self) -> None:
        """End all completions that are on their way, here and on the server."""
        for connected in tuple(self._open):
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def wait_until_healthy(self, limit_s: float, is_alive: Callable[[], bool]) -> None:
        """Wait for the server's first good word.

        Parameters
        ----------
        limit_s : float
        is_alive : callable
            Whether waiting makes sense.

        Raises
        ------
        ServerError
            If it does not come.
        """
        end = time.monotonic() + limit_s
        while True:
            try:
                self.call("GET", "/health")
                return
            except ServerError:
                if time.monotonic() > end or not is_alive():
                    raise
            time.sleep(POLL_S)

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        address = urlsplit(self.url)
        is_secret = address.scheme == "https"
        kind = http.client.HTTPSConnection if is_secret else http.client.HTTPConnection
        return kind(address.hostname or "", address.port, timeout=timeout_s)


def _left(deadline: float | None) -> float | None:
    """Seconds until then; TimeoutError if there are none."""
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0.0:
        raise TimeoutError
    return left


def _refusal(what: str, status: int, content: bytes) -> str:
    return (
        f"vllm-server: {what} refused with {status}: {_text(content)}; it has to be vLLM 0.32, "
        "started with VLLM_SERVER_DEV_MODE=1 and --enable-scale-out"
    )


def _text(content: bytes) -> str:
    return " ".join(content.decode(errors="replace").split())[:500]


def _read(
    response: http.client.HTTPResponse,
    answer: Answer,
    connected: socket.socket,
    deadline: float | None,
) -> None:
    """Server-sent events: parts of completions in any order, and a last word."""
    growing: dict[int, Choice] = {}
    answer.trouble = "server lost"  # unless the last word comes
    for line in response:
        connected.settimeout(_left(deadline))
        if line.startswith(b"data: [DONE]"):
            answer.trouble = None
        elif line.startswith(b"data: "):
            message = json.loads(line.removeprefix(b"data: "))
            if "choices" not in message:
                answer.trouble = f"server error: {message}"[:200]
                return
            for part in message["choices"]:
                choice = growing.setdefault(part["index"], Choice())
                choice.tokens += part["token_ids"] or []
                content = (part["logprobs"] or {}).get("content") or []
                # what is not a number comes as null
                choice.log_probs += [
                    math.nan if each["logprob"] is None else each["logprob"] for each in content
                ]
                if part["finish_reason"] in ("stop", "length"):
                    choice.labels = frozenset(v["version"] for v in part["weight_versions"])
                    answer.finished[part["index"]] = choice
