"""From rollouts of a real model to a population that the simulator can run on.

Reading order: ``evidence`` (the file); ``mixture`` (best-fitting population), ``compatible`` (all
populations that fit), ``bootstrap``, ``smooth`` (the one that is simulated), ``pilots`` (these four
together); ``visits``, ``state_space``, ``dynamics`` (how success rates move while training),
``learning`` (how fast the simulated policy must learn); ``study`` (all of it), ``folder`` (to files).

Additional axis suffixes: ``_V`` visits (lines of ``outcomes.jsonl``), ``_C`` cells (distinct pairs of
successes and trials), ``_K`` points of the grid of success rates, ``_E`` events or points of a curve.
"""
