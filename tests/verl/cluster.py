"""Ray, verl's TransferQueue and its agent loop workers on this machine, for a whole session."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

NODES = 2


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


@contextmanager
def _named_ports() -> Iterator[dict[str, int]]:
    """Ports for a node that is started meanwhile.

    Ray gives its agents 15 s to say which they have found, not enough on a busy machine. For one of
    them its own start has no argument, though the process has.
    """
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

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "start_ray_process", named)
        yield ports


@pytest.fixture(scope="session")
def cluster() -> Any:
    """Ray of two nodes, both on this machine; trainer and scheduler are on the first one."""
    found = Cluster()
    node = {"num_cpus": 8, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    for _ in range(NODES):
        with _named_ports() as ports:
            found.add_node(**node, **ports)
    ray.init(found.address, log_to_driver=False)
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="session")
def manager(cluster: Any, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """verl's own dispatch, to a worker on each node."""
    workers = f"actor_rollout_ref.rollout.agent.num_workers={NODES}"
    config = configuration(model, tmp_path_factory.mktemp("unused"), workers)
    transfer_queue.init(config.transfer_queue)
    yield AgentLoopManagerTQ.create(config=config, llm_client=None)
    transfer_queue.close()
