"""What a schedule costs before it is run: rollouts, tokens, GPU-hours, for every scheduler alike.

Reading order: ``tally`` (what is counted), ``frozen_host`` (answers plans at fixed success rates),
``measure`` (runs the real schedulers: what an update and a pilot cost), ``schedule`` (from one update
to a run), ``models`` and ``hardware`` (the tables), ``workload`` (lengths and habits of the trainer),
``generation`` and ``training`` (the cost model), ``settings`` and ``plan`` (all of it together),
``report`` and ``picture`` (screen, figure).

How many rollouts a method needs is never computed from a formula here: the scheduler itself is run,
and asked.
"""
