"""vLLM inside the trainer's process, on the trainer's device.

Weights change by ``reload_weights``, the only way that vLLM's packed layers survive, and every change
drops the prefix cache: keys and values of old weights would be taken for those of new ones. vLLM labels
every token with the version that sampled it, and a label that is not the one asked for is an error.

One such engine per process. Under ``torchrun`` every rank has its own, for its share of the prompts.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from transformers import PreTrainedModel

from cures.checks import IntArray, fail
from train.engines.engine_config import VllmConfig
from train.engines.protocol import Completions, Decoding, StaleEngineError, check_call
from train.engines.rows import Rows
from train.engines.vllm_sampling import (
    QUIET,
    architecture,
    check_request,
    engine_options,
    model_length,
    request_seed,
    sampling_fields,
)
from train.engines.weights import WeightNames
from train.errors import TrainError
from train.prompts import Prompts


class VllmEngine:
    """Samples with vLLM; a prompt's tokens do not depend on the other prompts of the call.

    Parameters
    ----------
    model : PreTrainedModel
        Whose architecture and weight names the engine takes; not kept.
    options : VllmConfig

    Attributes
    ----------
    lost : Counter
        Rows missing since the engine was made, by reason.

    Raises
    ------
    ValueError
        If an option is not for this engine or this device.
    TrainError
        If vLLM is not installed.
    """

    def __init__(self, model: PreTrainedModel, options: VllmConfig) -> None:
        if options.tensor_parallel != 1:
            legal = "1 with engine vllm, where every process has one GPU; use vllm-server"
            fail("[vllm]", "tensor_parallel", legal, options.tensor_parallel)
        if options.sleep and not torch.cuda.is_available():
            fail("[vllm]", "sleep", "false without a GPU", options.sleep)
        self.lost: Counter[str] = Counter()
        self._names = WeightNames(model)
        self._vocabulary = int(model.config.vocab_size)
        self._length = model_length(model, options)
        self._sleeps = options.sleep
        self._version: int | None = None
        self._calls = 0
        keywords = engine_options(options, self._length)
        self._joins = distributed.is_initialized()  # the trainer's groups instead of its own
        if self._joins:
            keywords["distributed_executor_backend"] = "external_launcher"
        with tempfile.TemporaryDirectory() as folder, _own_generators():
            architecture(model).save_pretrained(folder)
            self._llm = _import_vllm().LLM(
                model=folder, load_format="dummy", enable_sleep_mode=options.sleep, **keywords
            )
        self._rest()

    @property
    def version(self) -> int | None:
        """See :class:`train.engines.protocol.Engine`."""
        return self._version

    def load_weights(self, named: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See :class:`train.engines.protocol.Engine`; other names or shapes are refused."""
        self._version = None
        self._wake()
        self._llm.update_weight_version("none")
        trouble: list[Exception] = []
        weights = self._to_the_end(named, trouble)
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if trouble:
            raise trouble[0]
        if not self._llm.reset_prefix_cache():
            raise StaleEngineError("load_weights: vLLM keeps the cache of the weights before")
        self._llm.update_weight_version(str(version))
        self._version = version
        self._rest()

    def _to_the_end(
        self, named: Iterable[tuple[str, Tensor]], trouble: list[Exception]
    ) -> Iterator[tuple[str, Tensor]]:
        """All weights, with zeros after the first error: vLLM can load no more weights after an
        iterator that raised."""
        given: set[str] = set()
        try:
            for name, value in self._names.untied(named):
                given.add(name)
                yield name, value.detach()
        except Exception as error:
            trouble.append(error)
        for name, shape in self._names.shape.items():
            if name not in given:
                yield name, torch.zeros(shape)

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
        """See :class:`train.engines.protocol.Engine`."""
        check_call(self, prompts, quota_P, seed_P, version)
        check_request(prompts, decoding, self._vocabulary, self._length)
        deadline = None if time_limit_s is None else monotonic() + time_limit_s
        rows = Rows(int(quota_P.sum()), decoding)
        waiting: dict[str, int] = {}  # row of each request
        self._wake()
        try:
            with _own_generators():
                self._submit(waiting, prompts, quota_P, seed_P, decoding)
                while waiting:
                    if deadline is not None and monotonic() > deadline:
                        self.lost["time limit"] += len(waiting)
                        break
                    for output in self._llm.llm_engine.step():
                        if output.finished:
                            self._enter(rows, waiting.pop(output.request_id), output.outputs[0])
        finally:
            self._llm.llm_engine.abort_request(list(waiting))
        self._rest()
        return rows.completions

    def _submit(
        self,
        waiting: dict[str, int],
        prompts: Prompts,
        quota_P: IntArray,
        seed_P: IntArray,
        decoding: Decoding,
    ) -> None:
        """One request per row."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        fields = sampling_fields(decoding)
        self._calls += 1
        for i, quota in enumerate(quota_P.tolist()):
            tokens = prompts.row(i).tolist()
            seed = request_seed(int(seed_P[i]))
            for slot in range(quota):
                wanted = SamplingParams(
                    seed=seed + slot, output_kind=RequestOutputKind.FINAL_ONLY, **fields
                )
                name = f"{self._calls}-{len(waiting)}"
                self._llm.llm_engine.add_request(name, {"prompt_token_ids": tokens}, wanted)
                waiting[name] = len(waiting)

    def _enter(self, rows: Rows, row: int, output: Any) -> None:
        if output.finish_reason not in ("stop", "length"):
            self.lost[f"vLLM: {output.finish_reason}"] += 1
            return
        if any(span.version != str(self._version) for span in output.weight_versions):
            raise StaleEngineError(
                f"generate: asked for the weights of update {self._version}, "
                f"vLLM sampled with {[span.version for span in output.weight_versions]}"
            )
        tokens = list(output.token_ids)
        pairs = zip(tokens, output.logprobs, strict=True)
        rows.fill(row, tokens, [found[token].logprob for token, found in pairs])

    def _wake(self) -> None:
        if self._sleeps:
            self._llm.wake_up()

    def _rest(self) -> None:
        if self._sleeps:
            self._llm.sleep(level=1)

    def close(self) -> None:
        """See :class:`train.engines.protocol.Engine`; another engine may follow in this process."""
        self._version = None
        with _keeping_groups() if self._joins else nullcontext():
            self._llm.llm_engine.engine_core.shutdown()


def _import_vllm() -> Any:
    """vLLM with its engine in this process, so that weights are handed over as they are."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    for name, value in {**QUIET, "VLLM_LOGGING_LEVEL": "ERROR"}.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
    except ImportError as error:
        raise TrainError(
            f'engine vllm: vLLM cannot be imported ({error}); pip install "cures[vllm]" on Linux '
            "with a GPU"
        ) from error
    return vllm


@contextmanager
def _own_generators() -> Iterator[None]:
    """vLLM seeds every global generator when it starts and draws from torch's; they are put back."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _keeping_groups() -> Iterator[None]:
    """vLLM's shutdown destroys all process groups of torch, whoever made them."""
    from vllm.distributed import parallel_state

    ending = parallel_state.destroy_distributed_environment
    parallel_state.destroy_distributed_environment = lambda: None
    try:
        yield
    finally:
        parallel_state.destroy_distributed_environment = ending
