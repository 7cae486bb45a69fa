"""TRL: :class:`CuresGRPOTrainer` in the place of ``GRPOTrainer``. How to: docs/integrate.md.

::

    from cures.integrations.trl import CuresGRPOTrainer

    trainer = CuresGRPOTrainer(..., scheduler="adaptive")  # the rest as for GRPOTrainer

A class of one's own takes the mixin: ``class Mine(CuresMixin, MyGRPOTrainer)``.
"""

from cures.integrations.supported import require

OLDEST, NEWEST = "0.25", "1.16"  # what tests/trl were run with, docs/integrate.md says how
require("cures.integrations.trl", "trl", OLDEST, NEWEST)

from cures.integrations.trl.trainer import CuresGRPOTrainer, CuresMixin  # noqa: E402

__all__ = ["CuresGRPOTrainer", "CuresMixin"]
