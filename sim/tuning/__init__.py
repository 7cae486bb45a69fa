"""Tuning a scheduler on a population: which settings, how much they gain, how much it matters.

Reading order: ``setting``, ``knobs``, ``space`` and ``restriction`` (what may vary), ``protocol`` (what
a study is), ``runs`` (one setting on one seed, in parallel), ``objective``, ``search`` (Optuna),
``confirmation`` (fresh seeds), ``sensitivity``, ``exposure`` (which success rates the tuned run meets),
``tune``, which strings them together; then what is made of the results: ``recommendation`` (the TOML for
``train/``), ``report``, ``picture``.

Runs go through joblib, so that whatever backend is active carries them. On a Ray cluster::

    from ray.util.joblib import register_ray; register_ray()
    with joblib.parallel_config(backend="ray"): tune(study, folder, jobs=None)

and on a Dask cluster::

    client = dask.distributed.Client("scheduler:8786")
    with joblib.parallel_config(backend="dask"): tune(study, folder, jobs=None)

where ``tune`` is :func:`sim.tuning.tune.tune`. Results come back through the backend; the run folder
has to be shared between machines only so that runs can go on after a kill. Start workers with
``OMP_NUM_THREADS=1``: the last bits of a run depend on it.
"""
