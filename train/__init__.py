"""A real GRPO trainer for a small language model, the second host of the `cures` schedulers.

Reading order, which is also the order of the data flow::

    config      what a run is: a TOML file as frozen, validated records
    tasks       arithmetic prompts, their answers, held-out set        tokenizer  characters <-> ids
    model       a Qwen2 causal language model of 0.2 million parameters
    warm_start  supervised steps on worked examples, so that rewards are mixed from the start
    policy      logits -> log-probabilities, the one definition that sampler and loss share
    native      generation                   verifier   completion -> reward 0 or 1
    rollouts    what is kept between a plan and its update
    loss        clipped policy-gradient loss  learner    minibatches, optimiser, learning rate
    host        all of the above as a `cures.loop.Host`
    evaluation  held-out success              checkpoint  atomic, nothing pickled
    run         the loop, the logs, resuming

Which prompts are rolled out, how often, and what advantage a rollout gets is decided by `cures`
alone; nothing here repeats that arithmetic.
"""
