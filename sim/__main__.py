"""``python -m sim``."""

import os
import sys

# Assigned, whatever the shell says, and before numpy is imported, which reads them once: the number
# of BLAS threads changes the order of sums, hence last bits, hence sampled answers, so a run folder
# could not go on elsewhere with the same numbers. Matrices here are too small to gain from threads.
# Worker processes inherit the environment.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

from sim.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
