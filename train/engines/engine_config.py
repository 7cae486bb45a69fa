"""Section ``[vllm]``: the engines ``vllm`` (in this process) and ``vllm-server``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from cures.checks import fail
from train.section import MAX_COUNT, MAX_SIZE, Section, option

DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, kw_only=True)
class VllmConfig(Section):
    """vLLM (train/engines/vllm_engine.py, vllm_server.py)."""

    TITLE = "vllm"

    dtype: str = option("of the engine's weights and cache", "choice", "bfloat16", choices=DTYPES)
    gpu_memory_share: float = option(
        "of a GPU's memory, weights included", "float", 0.4, low=0.0, high=1.0, open_low=True
    )
    cache_gib: float | None = option(
        "GiB of keys and values instead of what that share leaves; to be given on a CPU", "float",
        None, low=0.0, high=1e6, open_low=True, is_optional=True,
    )  # fmt: skip
    max_model_len: int | None = option(
        "longest prompt and completion together; absent: the model's positions", "int", None,
        low=2, high=MAX_COUNT, is_optional=True,
    )  # fmt: skip
    max_rows: int = option("rollouts computed at once", "int", 256, low=1, high=MAX_SIZE)
    block_size: int | None = option(
        "tokens of a cache block; absent: vLLM's own", "int", None,
        low=1, high=MAX_SIZE, is_optional=True,
    )  # fmt: skip
    enforce_eager: bool = option("neither compile nor capture graphs", "bool", False)
    sleep: bool = option(
        "vllm: give the GPU's memory back between calls; weights wait in main memory", "bool", False
    )
    tensor_parallel: int = option("vllm-server: GPUs per model", "int", 1, low=1, high=1024)
    server_url: str | None = option(
        "vllm-server: one that runs already, http://HOST:PORT; absent: start one; with several "
        "ranks one per rank, separated by ;", "text", None, is_optional=True,
    )  # fmt: skip
    server_devices: str | None = option(
        "vllm-server: its CUDA_VISIBLE_DEVICES, such as 4,5; with several ranks one list per rank, "
        "separated by ;", "text", None, is_optional=True,
    )  # fmt: skip
    server_python: str | None = option(
        "vllm-server: interpreter of an environment with vLLM; absent: this one", "text", None,
        is_optional=True,
    )  # fmt: skip
    server_port: int = option(
        "vllm-server: of the one to start, plus the rank; 0: a free one",
        "int",
        0,
        low=0,
        high=65535,
    )
    start_limit_s: float = option(
        "vllm-server: until it answers", "float", 900.0, low=0.0, high=1e6, open_low=True
    )
    update_limit_s: float = option(
        "vllm-server: for one answer about weights", "float", 300.0,
        low=0.0, high=1e6, open_low=True,
    )  # fmt: skip
    max_restarts: int = option(
        "vllm-server: in a row, without a finished rollout between them", "int", 3,
        low=0, high=MAX_SIZE,
    )  # fmt: skip
    weights_folder: str | None = option(
        "vllm-server: where weights are handed over, this run's alone, seen by both sides under "
        "this path; absent: in the run folder", "text", None, is_optional=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server_url is not None:
            for url in self.server_url.split(";"):
                address = urlsplit(url.strip())
                if address.scheme not in ("http", "https") or not address.hostname:
                    fail("[vllm]", "server_url", "of the form http://HOST:PORT", url)
            for name in ("server_devices", "server_python"):
                if getattr(self, name) is not None:
                    fail("[vllm]", name, "left out with server_url", getattr(self, name))
