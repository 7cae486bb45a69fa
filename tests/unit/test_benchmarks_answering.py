"""Problems are answered once each, whatever kills or splits the run, and judged by the rules.

Run as a program, this file is the process that the tests kill and split: see ``main``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cures.storage import read_jsonl
from tests.unit.test_benchmarks_problems import byte_tokenizer
from train.benchmarks import answer_file
from train.benchmarks.answer_file import Answer
from train.benchmarks.answering import Candidate, Exam, answer_all, judged, problem_seeds
from train.benchmarks.folder import claim, exam_hash, locked, weights_hash
from train.benchmarks.loading import Problem
from train.benchmarks.prompting import encode
from train.engines.protocol import Completions, Decoding, Finish
from train.errors import FolderInUseError
from train.world import joined_world

ROOT = Path(__file__).parents[2]
PROBLEMS, SAMPLES = 12, 3
TOKENIZER = byte_tokenizer()
END = TOKENIZER.eos_token_id
DECODING = Decoding(max_new_tokens=24, end_tokens=(END,), pad_token=END)


class SeededEngine:
    """Says what its seed says: right, wrong, too long, or nothing in time."""

    version = 0

    def __init__(self, pause_s=0.0):
        self.pause_s = pause_s
        self.asked = []  # prompts of every call, as text
        self.time_limits = []

    def generate(
        self, prompts, quota_P, seed_P, decoding, *, version, time_limit_s=None, keeps_hidden=False
    ):
        assert version == self.version
        self.time_limits.append(time_limit_s)
        time.sleep(self.pause_s)
        self.asked.append([TOKENIZER.decode(prompts.row(i)) for i in range(len(prompts))])
        completions = Completions.missing(int(quota_P.sum()), decoding)
        row = 0
        for seed, quota in zip(seed_P.tolist(), quota_P.tolist(), strict=True):
            for slot in range(quota):
                kind = np.random.default_rng([seed, slot]).integers(4)
                text = (rf"so \boxed{{{kind}}}", r"\boxed{0} and on and on and on", "", "no box")
                self._say(completions, row, text[kind], decoding, is_lost=kind == 2)
                row += 1
        return completions

    def _say(self, completions, row, text, decoding, is_lost):
        if is_lost:
            return
        tokens = [*TOKENIZER.encode(text), END][: decoding.max_new_tokens]
        completions.token_R_T[row, : len(tokens)] = torch.tensor(tokens)
        completions.length_R[row] = len(tokens)
        completions.finish_R[row] = Finish.STOP if tokens[-1] == END else Finish.LENGTH

    def close(self):
        pass


def verify(completions, references):
    """Right if the reference stands in a box; no verdict on texts without one."""
    return np.array(
        [
            np.nan if "box" in c and "\\" not in c else float(f"\\boxed{{{r}}}" in c)
            for c, r in zip(completions, references, strict=True)
        ]
    )


def exam_of(problems=PROBLEMS, name="aime24"):
    found = tuple(Problem(f"Question {i}?", "0") for i in range(problems))
    return Exam(
        name=name,
        problems=found,
        prompts=encode(TOKENIZER, found),
        samples=SAMPLES,
        limit_N=np.full(problems, DECODING.max_new_tokens),
    )


def candidate_of(engine, seed=5):
    return Candidate(
        engine=engine,
        version=0,
        decoding=DECODING,
        text_of=lambda ids: TOKENIZER.decode(ids, skip_special_tokens=True),
        seed=seed,
    )


def main(folder, pause_s):
    """Answer everything, one problem per batch; several processes under torchrun's variables."""
    with joined_world() as world:
        answer_all(
            candidate_of(SeededEngine(float(pause_s))),
            exam_of(),
            verify,
            Path(folder),
            world=world,
            batch_answers=SAMPLES,
        )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The undisturbed run: its file."""
    folder = tmp_path_factory.mktemp("alone")
    answer_all(candidate_of(SeededEngine()), exam_of(), verify, folder)
    return (folder / "aime24.jsonl").read_bytes()


def test_every_answer_is_written_down_and_judged(tmp_path):
    engine = SeededEngine()
    reports = []
    answers = answer_all(
        replace(candidate_of(engine), time_limit_s=9.0),
        exam_of(),
        verify,
        tmp_path,
        batch_answers=7,
        report=lambda done, total, new: reports.append((done, total, len(new))),
    )
    # 7 // 3 samples = 2 problems a call
    assert [len(call) for call in engine.asked] == [2] * 6
    assert engine.time_limits == [9.0] * 6
    assert reports == [(0, 36, 0), *((6 * i, 36, 6) for i in range(1, 7))]
    assert [(a.problem, a.sample) for a in answers] == [
        (p, s) for p in range(PROBLEMS) for s in range(SAMPLES)
    ]
    kinds = {}
    for a in answers:
        kinds.setdefault((a.finish, a.completion), a)
    # by the engine's script: boxed 0 is right, truncation a failure with a verdict, loss missing data
    length = sum(len(TOKENIZER.encode(t)) for t in (r"so \boxed{0}",)) + 1
    assert kinds["stop", r"so \boxed{0}"] == Answer(
        problem=kinds["stop", r"so \boxed{0}"].problem,
        sample=kinds["stop", r"so \boxed{0}"].sample,
        completion=r"so \boxed{0}", extracted="0", reference="0",
        verdict=1.0, reward=1.0, finish="stop", tokens=length,
    )  # fmt: skip
    cut = next(a for a in answers if a.finish == "length")
    assert (cut.verdict, cut.reward, cut.tokens, cut.extracted) == (1.0, 0.0, 24, "0")
    lost = next(a for a in answers if a.finish == "missing")
    assert (lost.verdict, lost.reward, lost.tokens, lost.completion) == (None, None, 0, "")
    late = next(a for a in answers if a.completion == "no box")  # the verifier had no time
    assert (late.verdict, late.reward, late.finish, late.extracted) == (None, None, "stop", None)
    # the file says the same
    assert [Answer(**row) for row in read_jsonl(tmp_path / "aime24.jsonl")] == answers
    assert sorted(p.name for p in tmp_path.iterdir()) == ["aime24.jsonl"]


def test_answers_do_not_depend_on_batches_or_on_what_else_is_asked(tmp_path, alone):
    for batch in (1, 9, 1000):
        folder = tmp_path / str(batch)
        folder.mkdir()
        answer_all(candidate_of(SeededEngine()), exam_of(), verify, folder, batch_answers=batch)
        assert (folder / "aime24.jsonl").read_bytes() == alone
    # the first problems have the same answers when there are fewer of them
    few = answer_all(candidate_of(SeededEngine()), exam_of(4), verify, tmp_path)
    lines = alone.splitlines(keepends=True)
    assert (tmp_path / "aime24.jsonl").read_bytes() == b"".join(lines[: 4 * SAMPLES])
    assert len(few) == 4 * SAMPLES
    # controls: another seed and another benchmark's name give other answers
    for candidate, exam in (
        (candidate_of(SeededEngine(), seed=6), exam_of()),
        (candidate_of(SeededEngine()), exam_of(name="aime25")),
    ):
        folder = tmp_path / f"{exam.name}-{candidate.seed}"
        folder.mkdir()
        answer_all(candidate, exam, verify, folder)
        assert (folder / f"{exam.name}.jsonl").read_bytes() != alone


def test_answers_keep_to_their_own_limits(tmp_path, alone):
    exam = exam_of()
    limit_N = exam.limit_N.copy()
    limit_N[[1, 7]] = 5  # two long prompts
    engine = SeededEngine()
    found = answer_all(candidate_of(engine), replace(exam, limit_N=limit_N), verify, tmp_path)
    assert [len(call) for call in engine.asked] == [2, PROBLEMS - 2]  # each limit by itself
    assert all(a.tokens <= limit_N[a.problem] for a in found)
    assert any(a.tokens > 5 for a in found)
    lines = (tmp_path / "aime24.jsonl").read_bytes().splitlines()
    pairs = zip(lines, alone.splitlines(), strict=True)
    changed = {row // SAMPLES for row, (now, before) in enumerate(pairs) if now != before}
    assert changed == {1, 7}  # nobody else's answers are touched


def test_seeds_are_distinct_and_fixed():
    seeds = np.concatenate(
        [problem_seeds(s, n, np.arange(200)) for s in (0, 1) for n in ("aime24", "aime25")]
    )
    assert np.unique(seeds).size == seeds.size
    assert (seeds >= 0).all()
    # golden, this function's own: another number means that no earlier evaluation can be resumed
    assert problem_seeds(0, "aime24", np.array([0]))[0] == 878184415065381208


def start(folder, pause_s=0.0, **environment):
    code = "import sys; from tests.unit.test_benchmarks_answering import main; main(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(pause_s)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("problems_before_the_kill", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on(tmp_path, alone, problems_before_the_kill):
    process = start(tmp_path, pause_s=0.2)
    part = answer_file.part_path(tmp_path, "aime24", 0)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if part.exists() and part.read_bytes().count(b"\n") >= SAMPLES * problems_before_the_kill:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    kept = part.read_bytes()
    done = kept.count(b"\n") // SAMPLES
    assert problems_before_the_kill <= done < PROBLEMS
    assert kept == b"".join(alone.splitlines(keepends=True)[: done * SAMPLES])
    with open(part, "ab") as file:  # and a line that a kill tore, after a problem that is not whole
        file.write(alone.splitlines(keepends=True)[done * SAMPLES])
        file.write(alone.splitlines(keepends=True)[done * SAMPLES + 1][:20])
    engine = SeededEngine()
    answer_all(candidate_of(engine), exam_of(), verify, tmp_path, batch_answers=SAMPLES)
    assert len(engine.asked) == PROBLEMS - done  # nothing that was kept is asked again
    assert (tmp_path / "aime24.jsonl").read_bytes() == alone
    again = SeededEngine()
    answer_all(candidate_of(again), exam_of(), verify, tmp_path)
    assert again.asked == []


def test_two_processes_answer_like_one(tmp_path, alone):
    # after a first, killed process: its part is kept, the rest is shared
    lines = alone.splitlines(keepends=True)
    (tmp_path / "aime24.part-0.jsonl").write_bytes(b"".join(lines[:SAMPLES]))
    (tmp_path / "aime24.part-7.jsonl").write_bytes(b"".join(lines[5 * SAMPLES : 6 * SAMPLES]))
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [start(tmp_path, RANK=rank, LOCAL_RANK=rank, **common) for rank in ("0", "1")]
    for process in processes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    assert (tmp_path / "aime24.jsonl").read_bytes() == alone
    assert answer_file.part_paths(tmp_path, "aime24") == []


def test_a_kill_between_merging_and_tidying_up(tmp_path, alone):
    (tmp_path / "aime24.jsonl").write_bytes(alone)
    (tmp_path / "aime24.part-1.jsonl").write_bytes(alone[:100])
    engine = SeededEngine()
    answer_all(candidate_of(engine), exam_of(), verify, tmp_path)
    assert engine.asked == []
    assert answer_file.part_paths(tmp_path, "aime24") == []


@pytest.mark.parametrize("damage", ["garbage", "gap", "twice", "keys"])
def test_damaged_files_are_refused(tmp_path, alone, damage):
    lines = alone.splitlines(keepends=True)
    changed = {
        "garbage": [lines[0], b"{]\n", *lines[2:]],
        "gap": lines[SAMPLES:],
        "twice": [*lines, lines[-1]],
        "keys": [b'{"problem": 0}\n', *lines[1:]],
    }[damage]
    (tmp_path / "aime24.jsonl").write_bytes(b"".join(changed))
    with pytest.raises(ValueError, match=r"aime24.jsonl.*delete it"):
        answer_all(candidate_of(SeededEngine()), exam_of(), verify, tmp_path)
    assert (tmp_path / "aime24.jsonl").read_bytes() == b"".join(changed)  # untouched


def test_verdicts_must_be_verdicts():
    finish = np.array([Finish.STOP, Finish.MISSING, Finish.LENGTH])
    seen = []

    def remember(completions, references):
        seen.append((list(completions), list(references)))
        return [1.0, np.nan]

    found = judged(remember, ["a", "b", "c"], ["1", "2", "3"], finish)
    np.testing.assert_array_equal(found, [1.0, np.nan, np.nan])
    assert seen == [(["a", "c"], ["1", "3"])]  # a missing text is not shown to the verifier
    for given, message in (
        ([1.0], "of shape (2,), got (1,)"),
        ([0.5, 1.0], "0, 1 or NaN, got 0.5"),
    ):
        with pytest.raises(ValueError, match="verdict|verifier") as error:
            judged(lambda c, r, given=given: given, ["a", "b", "c"], ["1", "2", "3"], finish)
        assert message in str(error.value)
    # nor is a text whose reference was not published: it is wrong
    found = judged(remember, ["a", "b", "c"], ["", "", ""], finish)
    np.testing.assert_array_equal(found, [0.0, np.nan, 0.0])
    assert len(seen) == 1


def test_a_folder_belongs_to_its_settings(tmp_path):
    path, other = tmp_path / "config.json", tmp_path / "aime24.json"
    settings = {"model": "a", "decoding": {"temperature": 1.0, "ends": [1, 2]}}
    claim({path: settings})
    claim({path: settings})
    changed = {"model": "b", "decoding": {"temperature": 0.5, "ends": [1, 2]}}
    with pytest.raises(ValueError, match="other settings") as error:
        claim({other: {"samples": 1}, path: changed})
    assert "model 'a' there, 'b' now; decoding.temperature 1.0 there, 0.5 now" in str(error.value)
    assert not other.exists()  # what was refused has left nothing behind
    with pytest.raises(ValueError, match="seed None there, 1 now"):
        claim({path: {**settings, "seed": 1}})
    path.write_text('{"format": "another"}')
    with pytest.raises(ValueError, match="of an evaluation"):
        claim({path: settings})
    path.write_text("{")
    with pytest.raises(ValueError, match="is missing or damaged"):
        claim({path: settings})


def test_a_folder_belongs_to_one_process(tmp_path):
    folder = tmp_path / "new" / "folder"
    with locked(folder):
        (folder / "config.json").write_text("{}")
        with pytest.raises(FolderInUseError), locked(folder):
            pass
    with locked(folder):
        pass
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    for name in ("file", "mine"):
        with pytest.raises(ValueError, match="--out"), locked(tmp_path / name):
            pass
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_fingerprints_see_what_matters():
    exam = exam_of(3)
    assert exam_hash(exam) == exam_hash(exam_of(3))
    other = replace(exam, problems=(*exam.problems[:2], Problem("Question 2?", "1")))
    assert exam_hash(other) != exam_hash(exam)  # another reference
    reworded = encode(TOKENIZER, exam.problems, "user")
    assert exam_hash(replace(exam, prompts=reworded)) != exam_hash(exam)  # another prompt
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1.0)}
    same = {"b": torch.tensor(1.0), "a": torch.arange(6.0).reshape(3, 2).T.contiguous().T}
    assert weights_hash(weights) == weights_hash(dict(reversed(weights.items())))
    assert weights_hash(weights) != weights_hash(same)  # another shape
    assert weights_hash(weights) != weights_hash({**weights, "b": torch.tensor(1.0 + 1e-7)})
    half = {name: value.bfloat16() for name, value in weights.items()}
    assert weights_hash(half) == weights_hash({n: v.clone() for n, v in half.items()})
