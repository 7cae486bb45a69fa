"""Other people's trainers, no fork: the scheduler decides, they generate and learn (docs/integrate.md).

A trainer's adapter is imported by its own name (``cures.integrations.trl``) and needs that trainer;
the rest needs numpy and scipy alone. Reading order: ``generation_batch`` (a plan as rows, rewards as
advantages), ``shadow`` (a scheduler beside a training that it does not touch), ``evidence`` (files of a
run), ``supported`` (versions), then the adapter.
"""
