"""What only a GPU can show, in one command of at most eight minutes: ``make gpu-check``.

    python -m benchmarks.gpu_check --out runs/gpu_check [--profile gpu|cpu] [--minutes 8]

Needs one GPU and no network: models are made from scratch, questions are arithmetic. Parts measure one
after the other; one that fails is reported with its sentence and the others go on. What the machine
lacks is said. A folder of the profile's name below the output folder holds ``gpu_check.json`` (every
number) and ``gpu_check.md``, written anew after each part, and pictures. Given again, the command
measures anew, but for the curriculum: its warm start and finished runs are kept, and their seeds add up.
At another commit it refuses, and all stays, until the folder ``curriculum`` in there is removed.

The profile ``cpu`` is the same program with a tiny model: it shows that the program works, and its times
mean nothing.

Exit status: 0, every correctness part holds; 1, one does not or is missing, or a call did not come back
before the time was over (a traceback says where); 2, a wrong option.
"""
