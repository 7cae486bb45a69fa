"""In place of a language model and a verifier: rewards by rule, behind verl's own agent loop."""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics

from tests.told_rewards import told


class ToldAgentLoop:
    """What verl instantiates for every rollout."""

    def __init__(self, **_: Any) -> None:
        pass

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
        info, rollout = row["extra_info"], row["session_id"]
        if rollout < info["failing"]:
            raise RuntimeError("this rollout fails, as it should")
        alone = 1000 * row["global_steps"] + info["index"]  # where no scheduler has given groups
        reward = told(row.get("cures_group", alone), info["index"], rollout)
        length = 1 + rollout % 3
        outputs = [
            AgentLoopOutput(
                prompt_ids=[1, 3, 4],
                response_ids=[3] * length,
                response_mask=[1] * length,
                response_logprobs=[-1.0] * length,
                reward_score=reward if last else None,
                num_turns=2,
                extra_fields={"reward_extra_info": {}},
                metrics=AgentLoopMetrics(),
            )
            for last in [False] * (info["outputs"] - 1) + [True]
        ]
        return outputs if len(outputs) > 1 else outputs[0]
