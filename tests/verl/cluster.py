"""Ray on this machine, verl's TransferQueue and one of its agent loop workers, for a whole session."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import ray
import transfer_queue
from ray._private import services
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster
from transformers import Qwen2Config
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ

from tests.verl.tiny import configuration
from train.tasks.characters import BOS, EOS, PAD, VOCABULARY_SIZE, save_tokenizer


def save_model(folder: Path) -> None:
    """Tokenizer and configuration of a tiny Qwen2; no weights, nothing loads them."""
    save_tokenizer(folder)
    Qwen2Config(
        vocab_size=VOCABULARY_SIZE, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, architectures=["Qwen2ForCausalLM"],
    ).save_pretrained(folder)  # fmt: skip


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder)
    (folder / "loops.yaml").write_text("- name: told\n  _target_: tests.verl.told.ToldAgentLoop\n")
    return folder


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in found]


@pytest.fixture(scope="session")
def cluster() -> Any:
    """Ray on this machine."""
    # Named ports: Ray gives its agents 15 s to say which they have found, not enough on a busy machine;
    # for the last one its own start has no argument, though the process has.
    names = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
    ports = {
        f"{name}_port": port for name, port in zip(names, _free_ports(len(names)), strict=True)
    }
    start = services.start_ray_process

    def named(command: list[str], kind: str, *args: Any, **kwargs: Any) -> Any:
        if kind == PROCESS_TYPE_RAYLET:
            name = "dashboard_agent_listen_port"
            command = [*command, f"--{name}={ports[name]}"]
        return start(command, kind, *args, **kwargs)

    node = {"num_cpus": 16, "object_store_memory": 200 * 2**20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "start_ray_process", named)
        found = Cluster(initialize_head=True, head_node_args={**node, **ports})
    ray.init(found.address, log_to_driver=False)
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="session")
def manager(cluster: Any, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """verl's own dispatch, to one worker in a process of its own."""
    config = configuration(model, tmp_path_factory.mktemp("unused"))
    transfer_queue.init(config.transfer_queue)
    yield AgentLoopManagerTQ.create(config=config, llm_client=None)
    transfer_queue.close()
