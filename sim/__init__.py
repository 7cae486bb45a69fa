"""A CPU host for the schedulers: toy policies with success rates known in closed form.

Reading order: ``policy`` (what a policy is), ``item_response``, ``tabular``, ``skills`` (three of
them), ``populations`` (prompts to train on), ``host`` (rollouts and updates), ``arm`` (one run,
resumable), ``compare`` (paired seeds), ``analysis`` (statistics), ``until_decided`` (how many seeds),
``arguments`` and ``cli`` (the command), ``wording`` and ``picture`` (one way to say and draw it).

Nothing here decides which prompts are rolled out or what advantage a rollout gets: that is
``cures``, the same objects that drive a real trainer.
"""
