"""A CPU host for the schedulers: toy policies with success rates known in closed form.

Reading order:

- ``policy`` (what a policy is), ``item_response``, ``tabular``, ``skills`` (three of them)
- ``prompts``, ``populations``, ``population_file`` (what there is to train on), ``drift``
- ``host`` (rollouts and updates), ``optimiser``, ``moments`` (of scores), ``ratio``
- ``settings`` (of a comparison), ``task`` (scheduler and host at their start), ``arm`` (one run,
  resumable), ``watch`` (what is recorded on the way)
- ``compare`` (paired seeds), ``grid`` (several comparisons), ``workers`` (processes), ``run_folder``
- ``analysis`` (statistics), ``diagnosis`` (what was sampled and known), ``until_decided`` (how many
  seeds)
- ``report``, ``plot``, ``wording``, ``picture`` (one way to say and draw it), ``strict_json``
- ``validation`` (the simulator against the theory), ``calibration`` (populations of real models),
  ``tuning`` (settings of a scheduler), ``planning`` (what a schedule costs)
- ``commands``, one module each, and ``cli``, which picks one

Nothing here decides which prompts are rolled out or what advantage a rollout gets: that is
``cures``, the same objects that drive a real trainer.
"""
