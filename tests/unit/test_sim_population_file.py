"""Population files: what is written is read, and every refusal names file and field."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim import populations
from sim.population_file import (
    FORMAT,
    POLICIES,
    EmpiricalLaw,
    law_from_json,
    read_population,
    write_population,
)

LEAST = {"format": FORMAT, "name": "m", "success_rate": [0.0, 0.4, 1.0], "weight": [0.5, 0.3, 0.2]}
FULL = {
    **LEAST, "never": 0.1, "always": 0.05, "coin": 0.02, "drift_sd": 0.03, "transfer": 0.4,
    "policy": "item_response", "learning_rate": 0.01, "source": {"file": "outcomes.jsonl", "N": 8},
}  # fmt: skip


def test_what_is_written_is_read_to_the_last_bit(tmp_path):
    rate = np.random.default_rng(0).random(7)
    weight = np.full(7, 1 / 7)
    law = EmpiricalLaw(name="a.b-c_1", success_rate_K=rate, weight_K=weight, transfer=1 / 3)
    write_population(tmp_path / "p.json", law)
    again = read_population(tmp_path / "p.json")
    np.testing.assert_array_equal(again.success_rate_K, rate)
    np.testing.assert_array_equal(again.weight_K, weight)
    assert again.as_json() == law.as_json()
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]  # nothing half-written beside it


def test_a_full_file_keeps_every_field_and_a_short_one_gets_the_documented_defaults():
    assert law_from_json(FULL).as_json() == FULL
    assert law_from_json(LEAST).as_json() == {
        **LEAST, "never": 0.0, "always": 0.0, "coin": 0.0, "drift_sd": 0.0, "transfer": None,
        "policy": "item_response", "learning_rate": None, "source": {},
    }  # fmt: skip


def test_a_law_is_a_value():
    rate = np.array([0.2, 0.4])
    law = EmpiricalLaw(name="m", success_rate_K=rate, weight_K=[0.5, 0.5])
    rate[0] = 0.9
    assert law.success_rate_K.tolist() == [0.2, 0.4]
    with pytest.raises(ValueError, match="read-only"):
        law.weight_K[0] = 1.0


def test_the_policies_are_those_of_the_simulator():
    assert POLICIES == populations.POLICIES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "cures-population-2"}, "format must be 'cures-population-1', got 'cures-popul"),
        ({"name": "../x"}, "name must be 1 to 64 letters"),
        ({"name": 3}, "name must be 1 to 64 letters"),
        ({"success_rate": [], "weight": []}, "success_rate must be at least one support point"),
        (
            {"success_rate": [0.1, 0.2, 1.5]},
            r"success_rate must be in \[0.0, 1.0\], got 1.5 at ind",
        ),
        ({"success_rate": ["a", 0.2, 0.5]}, "success_rate must be an array of real numbers"),
        ({"success_rate": [True, 0.2, 0.5]}, "success_rate must be a list of numbers"),
        ({"success_rate": [None, 0.2, 0.5]}, "success_rate must be a list of numbers"),
        ({"success_rate": [[0.1], [0.2], [0.5]]}, "success_rate must be one-dimensional"),
        ({"weight": [0.5, 0.5]}, r"weight must be of shape \(3,\), got shape \(2,\)"),
        ({"weight": [0.5, 0.3, 0.1]}, "weight must be of sum 1"),
        ({"weight": [1.2, -0.4, 0.2]}, r"weight must be in \[0.0, 1.0\], got 1.2 at index 0"),
        ({"never": 1.5}, "never must be a float in"),
        ({"never": 0.6, "always": 0.6}, r"never \+ always \+ coin must be at most 1, got 1.2"),
        ({"coin": "half"}, "coin must be a float in"),
        ({"drift_sd": -1.0}, "drift_sd must be a float in"),
        ({"transfer": 2.0}, "transfer must be a float in"),
        ({"policy": "llm"}, "policy must be one of"),
        ({"learning_rate": 0.0}, "learning_rate must be a float in"),
        ({"source": []}, "source must be an object of facts"),
        ({"succes_rate": [0.5]}, "field must be one of"),
    ],
)
def test_a_bad_field_is_named_with_its_file(change, message, tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**LEAST, **change}))
    with pytest.raises(ValueError, match=f"^population file .*p.json: {message}"):
        read_population(path)


@pytest.mark.parametrize("key", LEAST)
def test_a_missing_field_is_named(key, tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({k: v for k, v in LEAST.items() if k != key}))
    with pytest.raises(ValueError, match=f"p.json: {key} must be"):
        read_population(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"content must be JSON \(Expecting value: line 1"),
        (b"{", "content must be JSON"),
        (b"[1, 2]", r"content must be a JSON object, got \[1, 2\]"),
        ('{"name": "é"}'.encode("latin-1"), "text must be UTF-8"),
        (b'{"weight": [NaN]}', r"content must be JSON \(NaN is not a number in JSON"),
        (
            b'{"weight": [1], "weight": [1]}',
            "content must be JSON .a field is given twice: 'weight'",
        ),
        (b"[" * 10**5, r"content must be JSON \(maximum recursion depth exceeded"),
    ],
)
def test_a_malformed_file_is_named(content, message, tmp_path):
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^population file .*p.json: {message}"):
        read_population(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.json: path must be an existing file"):
        read_population(tmp_path / "nowhere.json")


def test_only_json_names_are_written(tmp_path):
    with pytest.raises(ValueError, match=r"write_population: path must be a file name that ends"):
        write_population(tmp_path / "p.txt", law_from_json(LEAST))
    assert not list(tmp_path.iterdir())
