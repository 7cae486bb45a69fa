"""CPU seconds of ``import cures`` beyond numpy's and scipy's own import, each in a fresh process.

make bench      or      python benchmarks/import_time.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

PROGRAM = """
import time
import numpy, scipy
before = time.process_time()
import cures
print(time.process_time() - before)
"""


def main() -> None:
    """Print the median and the largest of the repeats."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="processes (7)")
    repeats = parser.parse_args().repeats
    times_s = [
        float(
            subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout
        )
        for _ in range(repeats)
    ]
    print(
        f"import cures beyond numpy and scipy: median {statistics.median(times_s):.3f} CPU seconds, "
        f"largest {max(times_s):.3f}, {repeats} fresh processes"
    )


if __name__ == "__main__":
    main()
