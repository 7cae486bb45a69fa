"""verl: three hooks named in its configuration, nothing forked. How to: docs/integrate.md.

::

    data.custom_cls.path=pkg://cures.integrations.verl data.custom_cls.name=CuresDataset
    trainer.v1.sampler.custom_sampler.path=pkg://cures.integrations.verl
    trainer.v1.sampler.custom_sampler.name=CuresReplayBuffer
    trainer.checkpoint_callback_class=cures.integrations.verl.CuresCheckpoint

and, for weights as in Eq. 16 and all estimators, ``algorithm.adv_estimator=cures``. The hooks live in
the one process that runs verl's trainer and share a :class:`Session`. Reading order: ``agreement``,
``session``, ``hooks``.
"""

from cures.integrations.supported import require

OLDEST, NEWEST = "0.9.1", "0.9"  # 0.9.0 has no checkpoint callback
require("cures.integrations.verl", "verl", OLDEST, NEWEST)

from cures.integrations.verl.hooks import (  # noqa: E402
    CuresCheckpoint,
    CuresDataset,
    CuresReplayBuffer,
)
from cures.integrations.verl.session import Session  # noqa: E402

__all__ = ["CuresCheckpoint", "CuresDataset", "CuresReplayBuffer", "Session"]
