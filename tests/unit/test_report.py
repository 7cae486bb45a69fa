"""The report of a run: classes by hand, a page that stands alone, a CSV that is the posterior."""

from __future__ import annotations

import csv
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

import cures
from cures.response import Response
from cures.storage import load_state, read_json, read_jsonl
from figures import report, report_plots
from figures.__main__ import main
from figures.report_run import read_run
from figures.visits import Visits, replay
from figures.wasteful_prompts import COIN_LIKE, DEAD, KINDS, MASTERED, OTHER, PromptTable
from tests.report_cases import HOSTILE, UPDATES, metrics_row, outcome_rows, scripted_run
from tests.train_cases import latest_checkpoint, small_config, trained

RUNS = {"uniform": {}, "cures": {"num_subsets": 1, "pilots": 4, "steps_per_subset": 2}}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    return scripted_run(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def written(scripted, tmp_path_factory):
    """Folder of the report of the scripted run, by the command."""
    out = tmp_path_factory.mktemp("report")
    assert main(["report", str(scripted), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def cures_run(tmp_path_factory):
    """A real run whose scheduler keeps a posterior that forgets."""
    options = {**RUNS["cures"], "forgetting": 0.25}
    config = small_config(
        scheduler={"name": "cures", **options}, run={"rollouts": 200}, model={"initializer_range": 0.5}
    )  # fmt: skip
    return trained(config, tmp_path_factory.mktemp("real") / "run")


def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """Tags with attributes, text, and table rows by cell."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.open, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # well nested

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


def test_classes_by_hand(written):
    rows = rows_of(written / "posterior.csv")
    # SCRIPT: rollouts are groups of 8; 4's two groups at one step are one visit, mixed only together;
    # of 3 the visits with 0, 8 and 8 right ones are of one kind; of a coin all are wasted
    assert [
        (row["class"], *(int(row[k]) for k in ("rollouts", "successes", "visits", "wasted")))
        for row in rows
    ] == [
        ("dead", 24, 0, 3, 24),
        ("mastered", 16, 16, 2, 16),
        ("coin-like", 48, 24, 6, 48),
        ("other", 48, 29, 6, 24),
        ("other", 16, 8, 1, 0),
        ("not visited", 0, 0, 0, 0),
    ]
    page = Page((written / "report.html").read_text())
    by_class = {row[0]: row[1:] for row in page.rows if len(row) == 5 and row[0] in KINDS}
    # 24 + 16 + 48 + 48 + 16 = 152 rollouts came back; 24/152, 16/152, 48/152, 24/152
    assert by_class == {
        "dead": ["1", "24", "24", "15.8%"],
        "mastered": ["1", "16", "16", "10.5%"],
        "coin-like": ["1", "48", "48", "31.6%"],
        "other": ["2", "64", "24", "15.8%"],
        "not visited": ["1", "0", "0", "0.0%"],
    }
    # most wasteful of each class; Beta(1, 25) has mean 1/26, Beta(17, 1) 17/18, Beta(25, 25) 1/2
    named = [row for row in page.rows if len(row) == 9 and row[0].isdigit()]
    assert [[row[0], *row[2:8]] for row in named] == [
        ["0", "dead", "3", "24", "0", "24", "0.038"],
        ["1", "mastered", "2", "16", "16", "16", "0.944"],
        ["2", "coin-like", "6", "48", "24", "48", "0.500"],
    ]


def test_a_prompt_is_coin_like_if_it_is_more_likely_steady_than_not():
    # prior odds 1 : 9, so the logarithm of the odds has to pass log 9 = 2.197; rate 16/32
    for log_odds, kind in ((2.1, OTHER), (2.3, COIN_LIKE), (0.0, OTHER)):
        counts = {"success_N": np.array([16]), "trial_N": np.array([32])}
        last = {"last_success_N": np.array([4]), "last_trial_N": np.array([8])}
        odds = {"log_odds_N": np.array([log_odds]), "share": 0.1}
        response = Response.from_state({**counts, **last, **odds}, 1)
        seen = Visits.of([{"prompt": 0, "step": 9, "success": 16, "trial": 32}], 1)
        assert PromptTable.of(seen, response).kind_N.tolist() == [kind]


def test_every_class_has_its_share_of_the_table():
    kind_N = np.array([DEAD] * 9 + [MASTERED] * 2 + [OTHER] * 5 + [COIN_LIKE] * 4)
    wasted_N = np.arange(20)  # later ones more
    table = PromptTable(kind_N, wasted_N, wasted_N, wasted_N, wasted_N)
    # of 8: first two of each class, then one each of the two that have more; by hand
    assert table.most_wasteful(8).tolist() == [8, 7, 6, 10, 9, 19, 18, 17]
    assert table.most_wasteful(50).size == 15
    assert table.most_wasteful(1).tolist() == [8]


def test_visits_are_what_came_at_one_state_of_the_policy():
    seen = Visits.of(
        [
            {"prompt": 1, "step": 2, "success": 1, "trial": 4},
            {"prompt": 0, "step": 0, "success": 2, "trial": 2},
            {"prompt": 1, "step": 2, "success": 3, "trial": 4},
            {"prompt": 1, "step": 0, "success": 0, "trial": 3},
        ],
        2,
    )
    assert seen.step_V.tolist() == [0, 0, 2]
    assert seen.prompt_V.tolist() == [0, 1, 1]
    assert (seen.success_V.tolist(), seen.trial_V.tolist()) == ([2, 0, 4], [2, 3, 8])
    assert seen.is_mixed_V.tolist() == [False, False, True]
    assert (seen.steps, seen.start_of(1), seen.start_of(3)) == (3, 2, 3)
    steps = [[part.tolist() for part in step] for step in seen.by_step()]
    assert steps == [[[0, 1], [2, 0], [2, 3]], [[], [], []], [[1], [4], [8]]]  # nothing at step 1
    # prompt 1 alone was seen twice
    assert [x.tolist() for x in report_plots.first_and_last(seen)] == [[0.0], [0.5]]
    # visits 1, 1 before step 1; 1, 2 before step 3: (1 + 2)^2 / (1 + 4)
    sizes, visited = report_plots.effective_sizes(seen, 2, np.array([1, 3]))
    np.testing.assert_allclose(sizes, [2.0, 9 / 5], rtol=1e-15)
    assert visited.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": 2}, r"prompt must be .*\[0, 1\]"),
        ({"step": None}, "step must be"),
        ({"trial": 0}, "trial must be"),
        ({"success": 5}, "success must be at most trial"),
    ],
)
def test_lines_that_no_host_writes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Visits.of([{"prompt": 0, "step": 0, "success": 1, "trial": 4, **change}], 2)


def test_the_replay_is_what_the_scheduler_believes():
    # the scheduler itself, whose plans are answered by chance, against the replay of its outcomes
    scheduler = cures.make_scheduler("adaptive", num_prompts=30, batch_size=4, budget=16, seed=0)
    generator = np.random.default_rng(0)
    rate_N = generator.random(30)
    rows = []
    for step in range(60):
        plan = scheduler.propose()
        success = generator.binomial(plan.quota_B, rate_N[plan.prompt_B])
        outcome = cures.Outcome.of(plan, success)
        rows += cures.records.outcome_rows(plan, outcome, step)
        scheduler.observe(outcome)
    *_, (updates, found) = replay(Visits.of(rows, 30), 30, 4)
    assert updates == 60
    state = scheduler.state_dict()
    for key, value in found.state_dict().items():
        # groups of one update are told in another order: sums differ in their last bits
        np.testing.assert_allclose(value, state[f"rule/response/{key}"], rtol=1e-9, atol=1e-9)
    assert (found.log_odds_N != 0.0).sum() > 20  # of something


def test_options_of_any_scheduler_are_settings_of_the_one_that_ran():
    options = {"quota": False, "cures": {"pilots": 4}, "gvm": {"pilots": 2}}
    config = {"scheduler": {"name": "cures", "options": options}, "run": {"rollouts": 64}}
    page = Page("".join(report._settings(config)))
    assert [row for row in page.rows if row[0].startswith("scheduler.cures")] == [
        ["scheduler.cures.pilots", "4"], ["scheduler.cures.quota", "False"],
    ]  # fmt: skip


def test_the_page_stands_alone_and_runs_nothing(written):
    text = (written / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "thead",
        "tbody", "tr", "th", "td", "figure", "img", "figcaption", "b", "dl", "dt", "dd", "details",
        "summary",
    }  # fmt: skip
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 5
    assert all(
        image["src"].startswith("data:image/png;base64,") and image["alt"] for image in images
    )
    assert not any("href" in a or any(k.startswith("on") for k in a) for _, a in page.tags)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    # the hostile question is there, as text
    questions = [row[1] for row in page.rows if len(row) == 9 and row[0].isdigit()]
    start = HOSTILE[: HOSTILE.index("{")]
    assert len(questions) == 3
    assert all(question.startswith(start) for question in questions)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_numbers_of_the_summary(written):
    page = Page((written / "report.html").read_text())
    pairs = {row[0]: row[1] for row in page.rows if len(row) == 2}
    # tests/report_cases.py: 201 x 16 rollouts, 8 of them pilots, 1 missing; half wasted; 2 s an update,
    # 0.5 and 1 s of a processor, counted from 0 again by a second process after update 100
    expected = {
        "held-out success, first → last": "0.250 → 0.500 ± 0.020",
        "updates": "201",
        "rollouts generated": "3,216",
        "of them pilots": "0.2%",
        "of them trained on": "99.7%",
        "of the trained, wasted (advantage 0)": "50.0%",
        "tokens generated": "12,345",
        "first to last update, pauses included": "6 min 40 s",
        "processor time, rollouts": "1 min 40 s",
        "processor time, updates": "3 min 21 s",
        "run.seed": "5",
        "scheduler.name": "uniform",
    }
    assert {key: pairs[key] for key in expected} == expected
    ledger = {row[0]: row[1:] for row in page.rows if row[0] in ("train", "pilot", "oracle")}
    assert ledger == {"train": ["3,208", "1", "3,207", "0"], "pilot": ["8", "0", "0", "8"]}
    assert "There is no checkpoint." in page.text
    assert "not finished" not in page.text


def test_without_a_posterior_it_is_replayed(written):
    rows = rows_of(written / "posterior.csv")
    # Beta(1, 1) and all rollouts; the interval by scipy.stats
    for row in rows:
        right, all_ = int(row["successes"]), int(row["rollouts"])
        alpha, beta = 1 + right, 1 + all_ - right
        assert (float(row["alpha"]), float(row["beta"])) == (alpha, beta)
        law = stats.beta(alpha, beta)
        expected = [law.mean(), *law.interval(0.95)]
        found = [float(row[key]) for key in ("mean", "low", "high")]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_csv_is_the_posterior_of_the_checkpoint(cures_run, tmp_path):
    report.write(cures_run, tmp_path)
    rows = rows_of(tmp_path / "posterior.csv")
    state = load_state(latest_checkpoint(cures_run) / "scheduler.npz")
    posterior = {
        key.rpartition("/")[2]: value for key, value in state.items() if "/posterior/" in key
    }
    # evidence fades by 1 - 0.25 at every update, prior Beta(1, 1): cures/posterior.py
    kept_N = 0.75 ** (posterior["step"] - posterior["stamp_N"])
    for name, count in (("alpha", "success_N"), ("beta", "failure_N")):
        expected = 1.0 + posterior[count] * kept_N
        np.testing.assert_allclose([float(row[name]) for row in rows], expected, rtol=1e-12)
    totals = np.zeros((2, len(rows)), dtype=int)
    for line in read_jsonl(cures_run / "outcomes.jsonl"):
        totals[:, line["prompt"]] += line["success"], line["trial"]
    assert [int(row["successes"]) for row in rows] == totals[0].tolist()
    assert [int(row["rollouts"]) for row in rows] == totals[1].tolist()
    # a replay would have forgotten nothing
    told = [int(row["rollouts"]) + 2 for row in rows]
    assert any(
        float(row["alpha"]) + float(row["beta"]) < n for row, n in zip(rows, told, strict=True)
    )
    assert "scheduler&#x27;s own" in (tmp_path / "report.html").read_text()


def test_an_interrupted_run_is_shown_as_at_its_checkpoint(cures_run, tmp_path):
    whole = report.write(cures_run, tmp_path / "whole")
    run = copied(cures_run, tmp_path)
    (run / "summary.json").unlink()
    for name in ("outcomes", "metrics", "evaluation", "timing"):
        with open(run / f"{name}.jsonl", "a") as file:
            file.write('{"step": 99, "gene')  # killed in the middle of a line
    out = report.write(run, tmp_path / "out")
    assert out[1].read_bytes() == whole[1].read_bytes()
    text = Page(out[0].read_text()).text
    updates = len(read_jsonl(cures_run / "metrics.jsonl"))
    assert "This run is not finished" in text
    assert f"after update {updates}," in text
    assert "not finished" not in Page(whole[0].read_text()).text
    # before the first checkpoint there is nothing to show
    shutil.rmtree(run / "checkpoint")
    with pytest.raises(ValueError, match=r"RUN must be a run with a summary.json or a checkpoint"):
        report.write(run, tmp_path / "out")


def test_a_run_of_another_version_is_named(scripted, tmp_path):
    run = copied(scripted, tmp_path)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    row = metrics_row(2)
    del row["wasted"]
    lines[1] = str(row).replace("'", '"').replace("None", "null") + "\n"
    (run / "metrics.jsonl").write_text("".join(lines))
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2 must be with wasted"):
        report.write(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (run / "metrics.jsonl").write_text("".join([lines[0], lines[2]]))
    with pytest.raises(ValueError, match=r"metrics.jsonl must be a line per update"):
        report.write(run, tmp_path / "out")
    for name in ("timing.jsonl", "questions.json"):
        (run / name).unlink()
        with pytest.raises(ValueError, match=rf"RUN must be a training run with {name}"):
            report.write(run, tmp_path / "out")


def test_what_is_no_run_is_refused_by_the_command(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for folder, message in (("none", "config.json"), ("run", "written by train run")):
        assert main(["report", str(tmp_path / folder)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "report").exists()


def test_questions_that_changed_or_are_gone_have_no_text(scripted, tmp_path):
    run = copied(scripted, tmp_path)
    data = scripted.parent / "files" / "data.jsonl"
    elsewhere = tmp_path / "data.jsonl"
    elsewhere.write_text(data.read_text().replace("evil", "other"))
    config = (run / "config.json").read_text()
    for path, note in ((elsewhere, "questions have changed"), (tmp_path / "x.jsonl", "x.jsonl")):
        (run / "config.json").write_text(config.replace(str(data), str(path)))
        page = Page(report.write(run, tmp_path / "out")[0].read_text())
        assert note in page.text
        assert "prompts have no text" in page.text
        assert [row[1] for row in page.rows if len(row) == 9 and row[0].isdigit()] == ["—"] * 3


def test_nothing_but_the_report_is_written(scripted, tmp_path):
    run = copied(scripted, tmp_path)
    before = {path: path.read_bytes() for path in run.iterdir()}
    assert main(["report", str(run)]) == 0
    after = set(run.iterdir())
    assert after - before.keys() == {run / "report"}
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in (run / "report").iterdir()) == [
        "posterior.csv",
        "report.html",
    ]


@pytest.mark.slow
def test_a_pool_of_150000_prompts_makes_a_small_page(scripted, tmp_path):
    run = copied(scripted, tmp_path)
    questions = read_json(run / "questions.json")
    (run / "questions.json").write_text(str({**questions, "prompts": 150_000}).replace("'", '"'))
    pages = report.write(run, tmp_path / "out")
    assert len(rows_of(pages[1])) == 150_000
    assert pages[0].stat().st_size < 1_000_000


def test_a_run_before_its_first_update(scripted, tmp_path):
    run = copied(scripted, tmp_path)
    for name in ("metrics", "outcomes", "timing"):
        (run / f"{name}.jsonl").write_text("")
    summary = read_json(run / "summary.json")
    summary["ledger"] = cures.ledger.Ledger().as_dict()
    (run / "summary.json").write_text(str(summary).replace("'", '"'))
    page = Page(report.write(run, tmp_path / "out")[0].read_text())
    assert "No prompt is dead, mastered or coin-like." in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 1


SLOW = [name for name in cures.list_schedulers() if name not in RUNS]


@pytest.mark.parametrize("name", [*RUNS, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_every_scheduler_has_a_report(name, tmp_path):
    options = {
        **RUNS,
        "staged": {"num_stages": 2},
        "cures-released": {"batch_size": 2, "num_workers": 2},
    }.get(name, {})
    config = small_config(
        task={"pool_size": 40},
        scheduler={"name": name, "batch_size": 4, "budget": 32, **options},
        run={"rollouts": 96},
    )
    run = trained(config, tmp_path / "run")
    page = Page(report.write(run, tmp_path / "out")[0].read_text())
    assert "another version" not in page.text
    summary = read_json(run / "summary.json")
    pairs = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert pairs["rollouts generated"] == f"{summary['generated']:,}"
    rows = rows_of(tmp_path / "out" / "posterior.csv")
    found = read_run(run)
    assert sum(int(row["rollouts"]) for row in rows) == found.seen.trial_V.sum()
    assert found.text_of is not None


def test_the_script_is_what_the_docstring_says():
    # six visits of prompt 2, two rows of prompt 4 at one step, all within the updates
    rows = outcome_rows()
    assert max(row["step"] for row in rows) < UPDATES
    assert sum(row["prompt"] == 4 for row in rows) == 2
