"""The paper's Table 1: copied right, made of the benchmarks' sizes, and put beside a model's numbers."""

from __future__ import annotations

import json

import pytest

from train.benchmarks.definitions import BENCHMARKS
from train.benchmarks.interval import Estimate, mean_of
from train.benchmarks.paper import LABELS, TABLE_1
from train.benchmarks.scores import Score
from train.benchmarks.table import as_dict, average, markdown, paper_rows


def test_columns_are_the_benchmarks_in_order():
    assert tuple(benchmark.label for benchmark in BENCHMARKS.values()) == LABELS


def misprints(label, answers):
    """Printed percentages that no whole number of right answers gives."""
    column = [row[LABELS.index(label)] for rows in TABLE_1.values() for row in rows.values()]
    return [
        value
        for value in column
        if abs(round(100 * round(value * answers / 100) / answers, 2) - value) > 0.0051
    ]


def test_the_table_is_made_of_these_numbers_of_answers():
    # arithmetic alone: of 144 printed numbers five are no share of problems x samples
    found = {b.label: misprints(b.label, b.problems * b.samples) for b in BENCHMARKS.values()}
    assert found == {
        "MATH500": [], "GSM8K": [], "GAO23": [47.14], "Minerva": [27.40], "Olympiad": [],
        "AIME24": [12.58], "AIME25": [10.08], "AMC23": [64.31],
    }  # fmt: skip
    # control: other sizes that are about, and one or eight samples instead of 16
    for label, answers in (
        ("Olympiad", 674), ("GAO23", 384), ("Minerva", 271), ("AMC23", 83 * 16), ("AMC23", 40),
        ("AMC23", 40 * 8), ("AIME24", 30), ("AIME24", 30 * 8), ("AIME25", 30), ("AIME25", 30 * 8),
    ):  # fmt: skip
        assert len(misprints(label, answers)) >= 6, (label, answers)


def test_averages_are_the_papers():
    rows = paper_rows(list(BENCHMARKS))
    for size, methods in TABLE_1.items():
        for method, values in methods.items():
            row = rows[size][method]
            assert row["printed"] == values[-1]
            # the printed averages are those of the eight printed numbers, the base model's but for 0.01
            assert row["average"] == pytest.approx(values[-1], abs=0.012)
    some = paper_rows(["gsm8k", "aime24"])["7B"]["CurES-GRPO"]
    assert some == {"gsm8k": 92.27, "aime24": 24.58, "average": pytest.approx(58.425)}


def score_of(rate, problems, samples, **changes):
    values = {
        "problems": problems,
        "samples": samples,
        "unanswered": 0,
        "answers": problems * samples,
        "missing": 0,
        "truncated": 0,
        "without_box": 2,
        "mean_tokens": 512.4,
        "pass_at_1": Estimate(rate, rate - 0.05, rate + 0.05),
        "lowest": rate,
        "highest": rate,
        "with_truncated": rate,
        "pass_at_k": {1: Estimate(rate, rate - 0.05, rate + 0.05)},
    }
    return Score(**{**values, **changes})


def cells(text):
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return {row.split("|")[1].strip(): [c.strip() for c in row.split("|")[2:-1]] for row in rows}


def test_the_table():
    scores = {
        "math500": score_of(0.772, 500, 1),
        "aime24": score_of(
            0.2, 30, 16, missing=3, truncated=40, lowest=0.199, highest=0.21, with_truncated=0.25,
            pass_at_k={1: Estimate(0.2, 0.15, 0.25), 16: Estimate(0.4, 0.3, 0.5)},
        ),
    }  # fmt: skip
    text = markdown("mine", scores)
    rows = cells(text)
    assert rows[""] == ["MATH500 (500 x 1)", "AIME24 (30 x 16)", "average"]
    assert rows["**mine**, pass@1"] == ["77.20", "20.00", "48.60"]
    # each 5 points wide: 5 / sqrt(2) for the mean of two
    assert rows["interval"] == ["72.20 to 82.20", "15.00 to 25.00", "45.06 to 52.14"]
    assert rows["bounds: missing wrong, right"] == [
        "77.20 to 77.20", "19.90 to 21.00", "48.55 to 49.10"
    ]  # fmt: skip
    assert rows["truncated judged by their text"] == ["77.20", "25.00", "51.10"]
    assert rows["pass@16"] == ["", "40.00", ""]
    # (77.20 + 13.33) / 2 and (84.80 + 24.58) / 2
    assert rows["paper, 1.5B, CurES-GRPO"] == ["77.20", "13.33", "45.27"]
    assert rows["paper, 7B, CurES-GRPO"] == ["84.80", "24.58", "54.69"]
    assert sum(name.startswith("paper, ") for name in rows) == 18
    assert "3 missing, 40 truncated, 2 without a boxed answer, 512 tokens on average." in text
    assert "were not measured here and are no controls" in text
    assert "The paper:" not in text
    assert "published answer" not in text
    gaokao = markdown("mine", {"gaokao2023en": score_of(0.5, 385, 1, unanswered=2)})
    assert "Without a published answer, hence always wrong: 2 problems." in gaokao
    plain = json.loads(json.dumps(as_dict("mine", scores), allow_nan=False))
    assert plain["average"]["value"] == pytest.approx(0.486)
    assert plain["benchmarks"]["aime24"]["pass_at_k"]["16"]["value"] == 0.4
    assert plain["paper_percent"]["7B"]["base"]["aime24"] == 7.92


def test_a_table_of_other_sizes_and_of_nothing_judged_says_so():
    scores = {
        "aime24": score_of(0.2, 10, 4),
        "amc23": score_of(
            0.0, 40, 16, missing=640, pass_at_1=None, with_truncated=None, mean_tokens=None,
            highest=1.0, pass_at_k={},
        ),
    }  # fmt: skip
    text = markdown("mine", scores)
    assert cells(text)[""][0] == "AIME24 (10 of 30 x 4)"
    assert "The paper: 30 problems x 16." in text
    assert cells(text)["**mine**, pass@1"] == ["20.00", "", ""]
    assert cells(text)["interval"][1:] == ["", ""]
    assert cells(text)["bounds: missing wrong, right"] == [
        "20.00 to 20.00", "0.00 to 100.00", "10.00 to 60.00"
    ]  # fmt: skip
    assert "truncated judged by their text" not in text
    assert average(scores) is None
    assert average({"aime24": scores["aime24"]}) == mean_of([scores["aime24"].pass_at_1])
