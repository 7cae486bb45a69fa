"""vLLM in a server process on devices of its own, spoken to over HTTP.

The server is vLLM's own, with the API of OpenAI; used are its neighbours that take and return token
ids: no tokenizer is involved, a forbidden token is really forbidden, and every completion says which
weights sampled it. Weights go through a folder. Those written last are what the server has to hold: one
that died is started with them, one that somebody else restarted is given them.

A server that dies or is late costs rows, not the run, unless it happens again and again.
"""

from __future__ import annotations

import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cures.checks import IntArray, fail
from train.engines.engine_config import VllmConfig
from train.engines.protocol import Completions, Decoding, StaleEngineError, check_call
from train.engines.published import publish
from train.engines.rows import Rows
from train.engines.server_process import ServerProcess
from train.engines.vllm_client import Answer, Choice, ServerError, VllmClient
from train.engines.vllm_sampling import (
    architecture,
    check_request,
    model_length,
    request_seed,
    sampling_fields,
)
from train.engines.weights import WeightNames
from train.errors import TrainError
from train.prompts import Prompts
from train.world import World

CONNECTIONS = 256  # requests on their way at once


class EngineLostError(TrainError):
    """There is no server to sample from, and trying again did not help."""


class VllmServerEngine:
    """Samples on a server; a prompt's tokens do not depend on the other prompts of the call.

    Parameters
    ----------
    model : PreTrainedModel
        Whose architecture and weight names the engine takes; not kept.
    options : VllmConfig
    folder : Path
        For weights and the server's log; ``options.weights_folder`` takes its place for the weights.
    world : World
        Every rank has an engine, with a server of its own.

    Attributes
    ----------
    lost : Counter
        Rows missing since the engine was made, by reason.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        options: VllmConfig,
        folder: Path,
        world: World = World(),  # noqa: B008  frozen
    ) -> None:
        self.lost: Counter[str] = Counter()
        root = folder if options.weights_folder is None else Path(options.weights_folder)
        self._folder = root.absolute() / f"weights-{world.rank}"
        self._options = options
        self._names = WeightNames(model)
        self._config = architecture(model)
        self._length = model_length(model, options)
        url = _of_rank("server_url", options.server_url, world)
        devices = _of_rank("server_devices", options.server_devices, world)
        if url is None and devices is None and world.size > 1 and torch.cuda.is_available():
            legal = f"{world.size} lists separated by ;, one per rank"
            fail("[vllm]", "server_devices", legal, None)
        self._client = VllmClient(url or "", options.update_limit_s)
        self._own: ServerProcess | None = None
        if url is None:
            log = folder.absolute() / f"server-{world.rank}.log"
            self._own = ServerProcess(options, self._length, devices, world.rank, log)
        self._run = secrets.token_hex(8)  # tells our labels from those of another trainer
        shutil.rmtree(self._folder, ignore_errors=True)  # of a run that was killed
        self._published = 0
        self._held: Path | None = None  # weights that the server has, or is to be given
        self._version: int | None = None
        self._failures = 0  # of the server, since it last finished a completion

    @property
    def version(self) -> int | None:
        """See :class:`train.engines.protocol.Engine`."""
        return self._version

    def load_weights(self, named: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See :class:`train.engines.protocol.Engine`; the first call starts the server.

        Raises
        ------
        EngineLostError
            If no server takes them.
        ValueError
            If names or shapes are not the model's.
        """
        self._version = None
        self._published += 1
        held = self._folder / f"{self._run}-{self._published}"
        dtype = getattr(torch, self._options.dtype)
        publish(held, self._config, self._names.untied(named), dtype)
        before, self._held = self._held, held
        self._serve(held)
        if before is not None:
            shutil.rmtree(before)
        self._version = version

    def generate(
        self,
        prompts: Prompts,
        quota_P: IntArray,
        seed_P: IntArray,
        decoding: Decoding,
        *,
        version: int,
        time_limit_s: float | None = None,
        keeps_hidden: bool = False,
    ) -> Completions:
        """See :class:`train.engines.protocol.Engine`.

        Raises
        ------
        EngineLostError
            If there is no server before the call and none can be had, or if nothing came of several
            calls in a row. One that is lost amid a call costs its rows alone.
        ServerRefusalError
            If the server finds fault with a request.
        """
        check_call(self, prompts, quota_P, seed_P, version)
        check_request(prompts, decoding, int(self._config.vocab_size), self._length)
        assert self._held is not None  # there is a version
        self._serve(self._held)
        deadline = None if time_limit_s is None else monotonic() + time_limit_s
        rows = Rows(int(quota_P.sum()), decoding)
        requests = list(_requests(prompts, quota_P, seed_P, decoding, self._options.max_rows))
        answers = self._ask(requests, deadline)
        for request, answer in zip(requests, answers, strict=True):
            for row in request.rows:
                said = answer.finished.get((row - request.rows.start) % request.fields["n"])
                if said is None:
                    self.lost[answer.trouble or "aborted by the server"] += 1
                else:
                    self._enter(rows, row, said, self._held.name)
        if any(answer.finished for answer in answers):
            self._failures = 0
        elif faults := {answer.trouble for answer in answers} - {None, "time limit"}:
            self._fail(ServerError(f"nothing finished: {sorted(map(str, faults))}"))
        return rows.completions

    def _ask(self, requests: list[_Request], deadline: float | None) -> list[Answer]:
        pool = ThreadPoolExecutor(CONNECTIONS)
        try:
            ask = self._client.complete
            return list(pool.map(lambda r: ask(r.tokens, r.fields, deadline), requests))
        finally:
            self._client.hang_up()
            pool.shutdown(cancel_futures=True)

    def _enter(self, rows: Rows, row: int, said: Choice, label: str) -> None:
        if said.labels != {label}:
            raise StaleEngineError(
                f"generate: asked for the weights of update {self._version}, labelled {label}; "
                f"the server sampled with {sorted(said.labels)}"
            )
        rows.fill(row, said.tokens, said.log_probs)

    def close(self) -> None:
        """See :class:`train.engines.protocol.Engine`: ends a server that this engine started."""
        self._version = None
        if self._own is not None:
            self._own.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_alive(self) -> bool:
        return self._own is None or self._own.is_running

    def _serve(self, held: Path) -> None:
        """See to it that there is a server and that it holds these weights."""
        end = monotonic() + self._options.start_limit_s
        while True:
            starts = not self._is_alive()
            try:
                if self._own is not None and starts:
                    self._client.url = self._own.start(held)
                    self._client.wait_until_healthy(self._options.start_limit_s, self._is_alive)
                    self._label(held.name)
                    return
                self._client.wait_until_healthy(end - monotonic(), self._is_alive)
                if self._client.call("GET", "/weight_info")["weight_version"] != held.name:
                    self._hand_over(held)
                return
            except ServerError as error:
                if (
                    starts or self._is_alive()
                ):  # one that has just ended is started in the next turn
                    self._fail(error)
                if self._own is not None:
                    self._own.stop()

    def _fail(self, error: ServerError) -> None:
        self._failures += 1
        if self._failures > self._options.max_restarts:
            words = "" if self._own is None else f"; its log ends:\n{self._own.last_words()}"
            raise EngineLostError(
                f"vllm-server: no use after {self._failures} failures in a row, the last: "
                f"{error}{words}"
            ) from error

    def _hand_over(self, held: Path) -> None:
        """Have the server take other weights, with nothing on its way meanwhile."""
        call = self._client.call
        call("POST", "/pause?mode=abort")
        self._label("none")
        path = {"weights_path": str(held)}
        call("POST", "/collective_rpc", {"method": "reload_weights", "kwargs": path})
        if not call("POST", "/reset_prefix_cache")["success"]:
            raise ServerError("it keeps the cache of the weights before")
        self._label(held.name)
        call("POST", "/resume")

    def _label(self, label: str) -> None:
        self._client.call("POST", "/update_weight_version", {"new_version": label})


@dataclass(frozen=True, slots=True)
class _Request:
    """Rows of one prompt."""

    tokens: list[int]
    fields: dict[str, Any]
    rows: range


def _requests(
    prompts: Prompts, quota_P: IntArray, seed_P: IntArray, decoding: Decoding, most: int
) -> Iterator[_Request]:
    """At most ``most`` rows each, seeded as if they were one request."""
    # one message for all of a completion
    fields = {**sampling_fields(decoding), "stream_interval": decoding.max_new_tokens}
    first = 0
    for i, quota in enumerate(quota_P.tolist()):
        tokens, seed = prompts.row(i).tolist(), request_seed(int(seed_P[i]))
        for slot in range(0, quota, most):
            rows = range(first + slot, first + min(slot + most, quota))
            n = len(rows) if decoding.temperature > 0.0 else 1  # at 0 one completion stands for all
            yield _Request(tokens, {**fields, "n": n, "seed": seed + slot}, rows)
        first += quota


def _of_rank(name: str, text: str | None, world: World) -> str | None:
    """This rank's part of an option that has one part per rank."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(";")]
    if len(parts) != world.size or not all(parts):
        fail("[vllm]", name, f"of {world.size} parts separated by ;, one per rank", text)
    return parts[world.rank]
