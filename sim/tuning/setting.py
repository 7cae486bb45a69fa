"""One setting of a scheduler: what a trial tries and a recommendation names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from sim.settings import REFERENCE, Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """Scheduler, group size and keywords.

    Attributes
    ----------
    scheduler : str
    group_size : int
        n; an update of ``budget`` rollouts has ``budget / n`` draws.
    options : dict
        Keywords beyond those that the protocol fixes.
    """

    scheduler: str
    group_size: int
    options: dict[str, Any]

    @property
    def key(self) -> str:
        """Name of its folder: equal settings share their runs, whoever asks for them."""
        content = json.dumps([self.group_size, self.options], sort_keys=True)
        return f"{self.scheduler}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def under(self, protocol: Settings) -> Settings:
        """The protocol with this setting, at the protocol's rollouts per update.

        Arms are not labelled: all settings have the scheduler seed, population and host seed of their
        index in common.
        """
        return replace(
            protocol,
            arms=tuple(dict.fromkeys((REFERENCE, self.scheduler))),
            options={self.scheduler: self.options} if self.options else {},
            batch_size=protocol.budget // self.group_size,
            group_size=self.group_size,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "scheduler": self.scheduler,
            "group_size": self.group_size,
            "options": self.options,
        }
