"""A population of success rates on disk: what was estimated of a real model, for the simulator.

Written by a calibration or by hand, read by every command that takes ``--population PATH.json``. One
JSON object::

    {
      "format": "cures-population-1",
      "name": "my-model",
      "success_rate": [0.05, 0.4, 0.9],
      "weight": [0.5, 0.3, 0.2],
      "never": 0.1, "always": 0.0, "coin": 0.0,
      "drift_sd": 0.0,
      "transfer": null,
      "policy": "item_response",
      "learning_rate": null,
      "source": {"pilots per prompt": 8}
    }

``format``, ``name``, ``success_rate`` and ``weight`` are required; the others are shown with their
defaults (``never``: 0.0, ``source``: {}).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

from cures.checks import FloatArray, InWords, as_choice, as_float, as_float_array, fail, frozen
from cures.storage import write_json
from sim import strict_json

FORMAT = "cures-population-1"
POLICIES = ("skills", "item_response", "tabular")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
REQUIRED = ("format", "name", "success_rate", "weight")
_SUM_TOLERANCE = 1e-8  # what numpy's draws accept; a writer that rounds to fewer digits is told


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EmpiricalLaw:
    """Success rates of a real model's prompts, as a discrete mixture; validated at birth.

    Extra axis suffix: ``_K`` support points of the mixture.

    Attributes
    ----------
    name : str
        Letters, digits, ``.``, ``_`` and ``-``: it names run folders.
    success_rate_K, weight_K : array_like of float64, shape (K,)
        Support in [0, 1] and weights >= 0 that sum to 1: the law of the *learnable* prompts.
    never, always, coin : float in [0, 1]
        Shares of the pool whose reward does not depend on the answer: always 0, always 1, a fair
        coin. They sum to at most 1. Held-out prompts are learnable.
    drift_sd : float, >= 0
        Standard deviation of a random walk of every pool prompt's logit, per update, on top of
        learning.
    transfer : float in [0, 1], optional
        How far a step on one prompt carries to another: the mean inner product of the gradients of
        two prompts' logits over their mean square. ``None``: that of the policy as it comes.
    policy : {'item_response', 'skills', 'tabular'}
        How prompts depend on parameters.
    learning_rate : float, > 0, optional
        Suggestion for Adam; ``None``: the command's default for the policy.
    source : dict
        Free facts about where it comes from.

    Raises
    ------
    ValueError
        Naming the field that is out of its range.
    """

    name: str
    success_rate_K: FloatArray
    weight_K: FloatArray
    never: float = 0.0
    always: float = 0.0
    coin: float = 0.0
    drift_sd: float = 0.0
    transfer: float | None = None
    policy: str = "item_response"
    learning_rate: float | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._validate("EmpiricalLaw")

    def _validate(self, where: str) -> None:
        set_ = object.__setattr__
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            fail(where, "name", "1 to 64 letters, digits, '.', '_' or '-'", self.name)
        rate = _floats(where, "success_rate", self.success_rate_K)
        if rate.size == 0:
            fail(where, "success_rate", "at least one support point", [])
        weight = _floats(where, "weight", self.weight_K, length=rate.size)
        if abs(float(weight.sum()) - 1.0) > _SUM_TOLERANCE:
            fail(where, "weight", "of sum 1 (to 1e-8)", float(weight.sum()))
        for array in (rate, weight):
            frozen(array)
        set_(self, "success_rate_K", rate)
        set_(self, "weight_K", weight)
        for share in ("never", "always", "coin"):
            set_(self, share, as_float(where, share, getattr(self, share), 0.0, 1.0))
        dead = self.never + self.always + self.coin
        if dead > 1.0 + _SUM_TOLERANCE:
            fail(where, "never + always + coin", "at most 1", dead)
        set_(self, "drift_sd", as_float(where, "drift_sd", self.drift_sd, 0.0))
        as_choice(where, "policy", self.policy, POLICIES)
        if self.transfer is not None:
            set_(self, "transfer", as_float(where, "transfer", self.transfer, 0.0, 1.0))
        if self.learning_rate is not None:
            rate_ = as_float(where, "learning_rate", self.learning_rate, 0.0, open_low=True)
            set_(self, "learning_rate", rate_)
        if not isinstance(self.source, Mapping):
            fail(where, "source", "an object of facts", self.source)
        set_(self, "source", dict(self.source))

    def as_json(self) -> dict[str, Any]:
        """What the file holds; :func:`law_from_json` is the inverse."""
        content: dict[str, Any] = {"format": FORMAT}
        for attribute in fields(self):
            value = getattr(self, attribute.name)
            key = attribute.name.removesuffix("_K")
            content[key] = value.tolist() if attribute.name.endswith("_K") else value
        return content


def law_from_json(content: object, where: str = "population") -> EmpiricalLaw:
    """Validate a parsed population file.

    Parameters
    ----------
    content : object
        Parsed JSON.
    where : str
        What an error sentence begins with: the file.

    Raises
    ------
    ValueError
        If it is no such object, lacks a field, has an unknown one or one out of range.

    Examples
    --------
    >>> law = law_from_json({"format": "cures-population-1", "name": "half",
    ...                      "success_rate": [0.5], "weight": [1.0]})
    >>> law.policy, law.drift_sd
    ('item_response', 0.0)
    """
    if not isinstance(content, Mapping):
        fail(where, "content", "a JSON object", content)
    if content.get("format") != FORMAT:
        fail(where, "format", repr(FORMAT), content.get("format"))
    keys = {"format": "format"} | {f.name.removesuffix("_K"): f.name for f in fields(EmpiricalLaw)}
    for key in REQUIRED:
        if key not in content:
            fail(where, key, "given", InWords("nothing"))
    for key in content:
        if key not in keys:
            fail(where, "field", f"one of {list(keys)}", key)
    arguments = {keys[key]: value for key, value in content.items() if key != "format"}
    try:
        return EmpiricalLaw(**arguments)
    except ValueError as error:  # the sentence begins with the file, not with a class
        raise ValueError(f"{where}:{str(error).partition(':')[2]}") from error


def read_population(path: str | PathLike[str]) -> EmpiricalLaw:
    """Read and validate a population file.

    Raises
    ------
    ValueError
        Naming file and field: no such file, not UTF-8, no JSON (NaN and doubled fields included),
        or refused by :func:`law_from_json`.
    """
    where = f"population file {Path(path)}"
    if not Path(path).is_file():
        raise ValueError(f"{where}: path must be an existing file, got {str(path)!r}")
    try:
        content = strict_json.parse(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: text must be UTF-8, got {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: content must be JSON ({error})") from error
    return law_from_json(content, where)


def write_population(path: str | PathLike[str], law: EmpiricalLaw) -> None:
    """Write a population file, whole or not at all.

    Parameters
    ----------
    path : path-like
        Should end in ``.json``: the commands take any other name for a built-in population.
    law : EmpiricalLaw
    """
    if Path(path).suffix != ".json":
        fail("write_population", "path", "a file name that ends in .json", str(path))
    write_json(path, law.as_json())


def _floats(where: str, name: str, value: Any, *, length: int | None = None) -> FloatArray:
    """Numbers in [0, 1] under the name that the file gives them."""
    if isinstance(value, list | tuple) and any(isinstance(x, bool) or x is None for x in value):
        fail(where, name, "a list of numbers in [0, 1]", value)
    return as_float_array(where, name, value, length=length, low=0.0, high=1.0)
