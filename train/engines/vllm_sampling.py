"""What vLLM is asked for, in this process and on a server alike.

Needs no vLLM: a server may live in an environment of its own.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from cures.checks import fail
from train.engines.engine_config import VllmConfig
from train.engines.protocol import Decoding
from train.prompts import Prompts

# Added to a forbidden logit. Finite, because it travels as JSON; the API of OpenAI would cut it at -100,
# which a temperature of 2 can make likely again.
FORBIDDEN_BIAS = -1e30
# vLLM's own range; below it would warn and sample at the lower end all the same
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 2.0
# Set by torchrun for the trainer, and taken by vLLM for its own.
LAUNCHER_VARIABLES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
    "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip


def request_seed(seed: int) -> int:
    """Seed of a prompt's first row; row r has this plus r.

    vLLM numbers the rows of a request that way itself. Scattered over 62 bits, because row 1 of a prompt
    with seed 7 would else be row 0 of the prompt with seed 8.
    """
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(2))


def sampling_fields(decoding: Decoding) -> dict[str, Any]:
    """Fields of vLLM's ``SamplingParams`` other than seed and n."""
    return {
        "temperature": decoding.temperature,
        "max_tokens": decoding.max_new_tokens,
        "stop_token_ids": list(decoding.end_tokens),
        "ignore_eos": True,  # that of the model's files; end_tokens alone end a completion
        "detokenize": False,
        "logprobs": 0,  # of the sampled token
        "logit_bias": dict.fromkeys(decoding.forbidden_tokens, FORBIDDEN_BIAS) or None,
    }


def engine_options(options: VllmConfig, model_len: int) -> dict[str, Any]:
    """Keywords of ``LLM``; with dashes, the options of the server.

    Log-probabilities are those of the sampling policy (vLLM's default is temperature 1), and the
    published sampling defaults of a model are ignored.
    """
    fields = {
        "dtype": options.dtype,
        "max_model_len": model_len,
        "max_num_seqs": options.max_rows,
        "enforce_eager": options.enforce_eager,
        "tensor_parallel_size": options.tensor_parallel,
        "distributed_executor_backend": "uni" if options.tensor_parallel == 1 else "mp",
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "skip_tokenizer_init": True,
        "gpu_memory_utilization": options.gpu_memory_share,
        "kv_cache_memory_bytes": None
        if options.cache_gib is None
        else int(options.cache_gib * 2**30),
        "block_size": options.block_size,
        # a seeded request whose prompt is read in two steps needs a generator that can be set back,
        # which torch has on GPUs alone
        "enable_chunked_prefill": None if torch.cuda.is_available() else False,
    }
    return {key: value for key, value in fields.items() if value is not None}


def model_length(model: PreTrainedModel, options: VllmConfig) -> int:
    """Longest prompt and completion together."""
    places = int(model.config.max_position_embeddings)
    length = places if options.max_model_len is None else options.max_model_len
    if length > places:
        fail("[vllm]", "max_model_len", f"at most {places}, the model's positions", length)
    return length


def check_request(prompts: Prompts, decoding: Decoding, vocabulary: int, length: int) -> None:
    """Refuse what vLLM would change in silence or die of.

    Raises
    ------
    ValueError
        Naming the temperature, a token or a length.
    """
    legal = f"0 or in [{LOWEST_TEMPERATURE}, {HIGHEST_TEMPERATURE}] with vLLM"
    if decoding.temperature and not (
        LOWEST_TEMPERATURE <= decoding.temperature <= HIGHEST_TEMPERATURE
    ):
        fail("generate", "temperature", legal, decoding.temperature)
    if len(prompts) == 0:
        return
    for token in (int(prompts.token_F.min()), int(prompts.token_F.max())):
        if not 0 <= token < vocabulary:
            fail("generate", "prompts", f"of tokens in [0, {vocabulary})", token)
    longest = int(prompts.length_N.max()) + decoding.max_new_tokens
    if longest > length:
        fail("generate", "prompts", f"with max_new_tokens at most {length} long", longest)


def architecture(model: PreTrainedModel) -> Any:
    """The model's configuration as vLLM is to read it: with the class's name, and nothing tied.

    vLLM's head keeps a packed copy of a tied embedding on CPUs, which a change of weights passes by.
    """
    config = type(model.config).from_dict(model.config.to_dict())
    config.architectures = config.architectures or [type(model).__name__]
    config.tie_word_embeddings = False
    return config


def environment() -> dict[str, str]:
    """Of a server: this one's without the launcher's variables, and without telemetry."""
    own = {key: value for key, value in os.environ.items() if key not in LAUNCHER_VARIABLES}
    own = {key: value for key, value in own.items() if not key.startswith("TORCHELASTIC_")}
    return {**own, **QUIET}


QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
