"""A real trainer of language models by policy gradients, the second host of the `cures` schedulers.

Reading order, which is also the order of the data flow::

    config          what a run is: frozen, validated records     section, *_config, config_file, tuned
    tasks/          questions to train on and held out: arithmetic, data sets, generated ones
    prompts         ragged token ids of prompts                  seeds: of every random number
    verifiers/      completion, reference -> right or not        hub: data sets of the Hub
    model           a new causal language model, or one of the Hub    policy: logits -> log-probabilities
    warm_start      supervised steps, so that rewards are mixed from the start     warm_start_cache
    engines/        prompts -> sampled tokens: one protocol, five engines
    answers         questions -> judged completions              rollouts: what waits for its update
    gradient_moments    moments of scores for Eq. 21             moments/: scores as inner products
    loss            clipped policy-gradient loss                 sequences: padded rows; loss_kinds
    learner         minibatches, passes, AdamW                   learning_rate, tensors, hooks
    world           several processes                            sharding: FSDP2
    host            all of the above as a `cures.loop.Host`      oracle: for the reference arm
    evaluation      held-out success                             curve: the same as a picture
    checkpoint      atomic, nothing pickled                      folder, lock: whose a run folder is
    logs            what is written of a run                     progress, trackers: what people see
    population_watch    have outcomes left what settings were tuned on?
    building        configuration -> host, scheduler
    run             the loop, resuming                           stopping: SIGTERM; errors
    __main__        the command line                             dry_run/: what a run would need
    benchmarks/     the paper's benchmarks, answered, judged and tabulated

Which prompts are rolled out, how often, and what advantage a rollout gets is decided by `cures`
alone; nothing here repeats that arithmetic.
"""
