"""``python -m sim``."""

import os
import sys

# Before numpy is imported: matrices here are small, threads would only slow them down and could
# change the order of sums from one machine to the next.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from sim.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
