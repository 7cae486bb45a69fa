"""A server with the few words of vLLM's that the trainer uses, and with faults on demand.

Standard library alone. As a program, with ``--model FOLDER --port PORT``, it says token 7 all the time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Completion = tuple[list[int], list[float]]
Sample = Callable[[list[int], dict[str, Any]], list[Completion]]


def sevens(tokens: list[int], fields: dict[str, Any]) -> list[Completion]:
    """All the completions that a prompt of anything gets."""
    length = fields["max_tokens"]
    return [([7] * length, [-1.0] * length)] * fields["n"]


class FakeVllm(ThreadingHTTPServer):
    """Answers what it is told to.

    Attributes
    ----------
    fault : str
        What goes wrong with completions: nothing, "status 500", "status 400", "silence", "cut",
        "event", "abort", "null" (log-probabilities that are no numbers) or "death".
    paths : list of str
        Everything asked for so far, in order.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(
        self,
        port: int = 0,
        *,
        sample: Sample = sevens,
        load: Callable[[str], None] = lambda path: None,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.sample, self.load = sample, load
        self.fault = ""
        self.resets = True
        self.is_paused = False
        self.label = "default"
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeVllm

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._read()
        self.server.paths.append(self.path)
        if self.path == "/health":
            self._say(b"")
        elif self.path == "/weight_info":
            self._say_json({"weight_version": self.server.label})
        else:
            self._say_json({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        body, server = self._read(), self.server
        path = urlsplit(self.path).path
        server.paths.append(path)
        if path == "/inference/v1/generate":
            self._complete(body)
        elif path == "/pause":
            server.is_paused = True
            self._say_json({"status": "paused"})
        elif path == "/resume":
            server.is_paused = False
            self._say_json({"status": "resumed"})
        elif path == "/collective_rpc":
            assert body["method"] == "reload_weights"
            assert server.is_paused
            server.load(body["kwargs"]["weights_path"])
            self._say_json({"results": [None]})
        elif path == "/reset_prefix_cache":
            self._say_json({"success": server.resets})
        elif path == "/update_weight_version":
            server.label = body["new_version"]
            self._say_json({"success": True})
        else:
            self._say_json({"detail": "Not Found"}, 404)

    def _complete(self, body: dict[str, Any]) -> None:
        fault, server = self.server.fault, self.server
        assert not server.is_paused
        if fault.startswith("status"):
            self._say_json({"error": {"message": "as told"}}, int(fault.split()[1]))
            return
        if fault == "silence":
            time.sleep(30.0)
        if fault == "death":
            os._exit(1)
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        fields = {"n": 1, "logit_bias": None, **body["sampling_params"]}
        for index, (tokens, log_probs) in enumerate(server.sample(body["token_ids"], fields)):
            self._event(self._choice(index, tokens[:1], log_probs[:1], None))
            if fault == "event":
                self._chunk(b'data: {"error": {"message": "as told", "code": 500}}\n\n')
                break
            if fault == "cut" and index == 1:
                self.close_connection = True
                return
            last = tokens[-1] in fields["stop_token_ids"]
            reason = "abort" if fault == "abort" else "stop" if last else "length"
            self._event(self._choice(index, tokens[1:], log_probs[1:], reason))
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _choice(
        self, index: int, tokens: list[int], log_probs: list[float], reason: str | None
    ) -> dict[str, Any]:
        is_null = self.server.fault == "null"
        content = [{"logprob": None if is_null else value} for value in log_probs]
        spans = [{"version": self.server.label, "start": 0, "end": 1}]
        return {
            "index": index,
            "token_ids": tokens,
            "logprobs": {"content": content},
            "finish_reason": reason,
            "weight_versions": spans if reason else None,
        }

    def _event(self, choice: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _read(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["content-length"])))

    def _say_json(self, content: Any, status: int = 200) -> None:
        self._say(json.dumps(content).encode(), status)

    def _say(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
    print("serving", arguments["--model"], flush=True)
    FakeVllm(int(arguments["--port"])).serve_forever()
