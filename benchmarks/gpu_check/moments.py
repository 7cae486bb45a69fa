"""What gradient moments cost: beside generating the pilots, beside a step, beside a loop of backward
passes. The arms are those of ``benchmarks/gradient_moments.py``, on this device, in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import gradient_moments as on_cpu
from benchmarks.gpu_check.clock import once, seconds
from benchmarks.gpu_check.material import Setting, Subject, config_of, native
from train.policy import Policy


def moments(setting: Setting) -> dict[str, Any]:
    """Seconds of every arm, and the moments' agreement with those of the loop."""
    device, rounds = setting.device, setting.profile.rounds
    subject = Subject.short(setting, ends=False)
    config = config_of(setting.profile, pass_tokens=setting.profile.pass_tokens)
    engine = native(subject.model)
    pilots = subject.generate(engine, keeps_hidden=True)
    assert pilots.hidden_R_T_h is not None
    batch = subject.batch(pilots)
    policy = Policy(subject.model, subject.decoding)
    case = on_cpu.Case(config, policy, batch.prompts, batch.rollouts, pilots.hidden_R_T_h)
    learner = subject.learner(config)
    arms: dict[str, Callable[[], object]] = {
        on_cpu.GENERATION: lambda: subject.generate(engine),
        on_cpu.KEEPING: lambda: subject.generate(engine, keeps_hidden=True),
        on_cpu.KEPT: lambda: case.moments("head", case.hidden_R_T_h),
        on_cpu.HEAD: lambda: case.moments("head"),
        on_cpu.BLOCK: lambda: case.moments("last-block"),
        on_cpu.ALL: lambda: case.moments("linear"),
    }
    found = {name: float(np.median(seconds(call, device, rounds))) for name, call in arms.items()}
    one_R = [case.sequences(torch.tensor([row])).to(device) for row in range(len(batch.rollouts))]
    by_loop = case.full_backward(one_R)  # warms up as well
    found[on_cpu.FULL] = once(lambda: case.full_backward(one_R), device)
    try:
        on_cpu.require_agreement(case.moments("head"), by_loop)
        agreement = "yes, to 1e-4"
    except RuntimeError as error:
        agreement = f"no: {error}"
    # last: it changes the weights
    found["update"] = float(np.median(seconds(lambda: batch.update(learner), device, rounds)))
    # keeping the states costs something, too
    overhead = found[on_cpu.KEPT] + found[on_cpu.KEEPING] - found[on_cpu.GENERATION]
    return {
        "rows": [{"arm": name, "ms": 1e3 * took} for name, took in found.items()],
        "rollouts": len(batch.rollouts),
        "agrees": agreement,
        "of_generation": overhead / found[on_cpu.GENERATION],
        "of_step": overhead / (found[on_cpu.GENERATION] + found["update"]),
        "of_loop": overhead / found[on_cpu.FULL],
    }
