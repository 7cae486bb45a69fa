"""A real GRPO trainer for a small language model, the second host of the `cures` schedulers.

Reading order, which is also the order of the data flow::

    config        what a run is: frozen, validated records       section, scheduler_config,
                                                                 config_file
    tasks         arithmetic prompts, answers, held-out set      tokenizer, seeds
    model         a Qwen2 causal language model                  policy: logits -> log-probabilities
    warm_start    supervised steps, so that rewards are mixed from the start     warm_start_cache
    native        generation                                     verifier: completion -> 0 or 1
    rollouts      what is kept between a plan and its update
    loss          clipped policy-gradient loss                   learner: minibatches, optimiser
    gradient_moments   score norms of the last layer (Eq. 21)
    host          all of the above as a `cures.loop.Host`        oracle: for the reference arm
    evaluation    held-out success                               curve: the same as a picture
    checkpoint    atomic, nothing pickled                        folder, logs, progress
    run           the loop, resuming                             __main__: the command line

Which prompts are rolled out, how often, and what advantage a rollout gets is decided by `cures`
alone; nothing here repeats that arithmetic.
"""
