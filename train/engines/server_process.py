"""A vLLM server as a child of the trainer, on devices of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from train.engines import guard
from train.engines.engine_config import VllmConfig
from train.engines.vllm_sampling import engine_options, environment

LAST_BYTES = 2000


class ServerProcess:
    """Started as often as needed; ends with this process, however that ends (train/engines/guard.py).

    Parameters
    ----------
    options : VllmConfig
    model_len : int
        Longest prompt and completion together.
    devices : str, optional
        Its ``CUDA_VISIBLE_DEVICES``.
    rank : int
        Of this process.
    log : Path
        What it says.
    """

    def __init__(
        self, options: VllmConfig, model_len: int, devices: str | None, rank: int, log: Path
    ) -> None:
        self._options, self._model_len = options, model_len
        self._devices, self._rank, self._log = devices, rank, log
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._guard is not None and self._guard.poll() is None

    def start(self, model: Path) -> str:
        """Start it with a model's folder; its url, which does not answer yet."""
        port = self._options.server_port + self._rank if self._options.server_port else _free_port()
        python = self._options.server_python or sys.executable
        command = [
            python, "-m", "vllm.entrypoints.openai.api_server",
            "--model", str(model), "--served-model-name", "policy",
            "--host", "127.0.0.1", "--port", str(port),
            "--uvicorn-log-level", "warning", "--enable-scale-out",
            *_flags(self._options, self._model_len),
        ]  # fmt: skip
        # without the first, no weights can be given to it
        variables = {**environment(), "VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1"}
        if self._devices is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self._devices
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with open(self._log, "ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, guard.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the trainer, which may want to save first
                env=variables,
            )
        return f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """End it and everything that it started; on return it is gone."""
        if self._guard is not None:
            self._guard.terminate()
            self._guard.wait()

    def last_words(self) -> str:
        """The end of its log."""
        content = self._log.read_bytes() if self._log.exists() else b""
        return content[-LAST_BYTES:].decode(errors="replace").strip()


def _flags(options: VllmConfig, model_len: int) -> list[str]:
    flags: list[str] = []
    for key, value in engine_options(options, model_len).items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        else:
            flags += [f"--{name}", str(value)]
    return flags


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
