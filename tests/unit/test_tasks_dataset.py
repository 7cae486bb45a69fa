"""Data sets as tasks: schemas, cleaning, splitting, rewards. The files have the real schemas."""

from __future__ import annotations

import re

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.text_cases import said, save_tokenizer, write_rows
from train.benchmarks.instruction import INSTRUCTION
from train.config import from_dict
from train.engines.protocol import Finish
from train.tasks.dataset import build
from train.tasks.dataset_config import DatasetConfig
from train.tasks.making import make_task
from train.tasks.rows import rows_of

# AI-MO/NuminaMath-CoT: source, problem, solution, messages
NUMINA = [
    {
        "source": ("olympiads", "cn_k12")[i % 2],
        "problem": f"Find $x$ if $x = {i} + 1$.",
        "solution": f"First \\boxed{{0}}? No: $x = \\boxed{{{i + 1}}}$.",
        "messages": [
            {"role": "user", "content": f"Find $x$ if $x = {i} + 1$."},
            {"role": "assistant", "content": f"$x = \\boxed{{{i + 1}}}$"},
        ],
    }
    for i in range(10)
]
# hendrycks/competition_math: problem, level, type, solution
MATH = [
    {
        "problem": f"What is $\\frac{{{i}}}{{2}}$?",
        "level": f"Level {1 + i % 5}",
        "type": ("Algebra", "Geometry")[i % 2],
        "solution": f"It is $\\boxed{{\\frac{{{i}}}{{2}}}}$.",
    }
    for i in range(1, 9)
]
# openai/gsm8k: question, answer
GSM8K = [
    {
        "question": f"Ann has {i},000 apples and gets one more. How many?",
        "answer": f"{i},000 + 1 = <<{i}000+1={i}001>>{i},001\n#### {i},001",
    }
    for i in range(1, 7)
]
SCHEMAS = {
    "numina": (NUMINA, {"answer_column": "solution", "answer_format": "boxed"}, "1"),
    "math": (MATH, {"answer_column": "solution", "answer_format": "boxed"}, r"\frac{1}{2}"),
    "gsm8k": (GSM8K, {"prompt_column": "question", "answer_format": "hashes"}, "1001"),
}
SIMPLE = [{"problem": f"{i}+{i}=", "answer": str(2 * i)} for i in range(20)]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def task_of(tmp_path, tokenizer_folder):
    """Build a task of rows; its pool closes with the test."""
    tasks = []

    def make(rows=SIMPLE, suffix=".jsonl", **values):
        data = write_rows(tmp_path / f"data{suffix}", rows)
        if not any(key.startswith("held_out") for key in values):
            values["held_out_size"] = 2
        content = {"data": str(data), "tokenizer": str(tokenizer_folder), "verifier": "exact"}
        task = build(DatasetConfig(**{**content, **values}))
        tasks.append(task)
        return task

    yield make
    for task in tasks:
        task.pool.verify.close()


def references(questions):
    return dict(zip(questions.text_N, questions.reference_N, strict=True))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", list(SCHEMAS))
def test_real_schemas(name, suffix, task_of):
    rows, values, first = SCHEMAS[name]
    task = task_of(rows, suffix, **values)
    prompt = values.get("prompt_column", "problem")
    found = references(task.pool) | references(task.held_out)
    assert set(found) == {row[prompt] for row in rows}
    assert found[rows[0][prompt]] == first  # as written in the row above
    assert len(task.pool.prompts) == len(rows) - 2
    assert len(task.held_out.prompts) == 2
    assert task.dropped == {}


def test_a_prompt_is_the_tokenizers_chat_with_the_papers_instruction(task_of):
    task = task_of()
    # the template of tests/text_cases.py, written out
    expected = (
        f"<|im_start|>system\n{INSTRUCTION}<|im_end|>\n<|im_start|>user\n{task.pool.text(0)}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    tokenizer = task.language.tokenizer
    assert tokenizer.decode(task.pool.prompts.row(0).tolist()) == expected
    # the end of a text, and of a turn in the template
    ends = tokenizer.convert_tokens_to_ids(["<end>", "<|im_end|>"])
    assert task.decoding.end_tokens == tuple(sorted(ends))
    assert task.decoding.pad_token == tokenizer.pad_token_id
    assert task.decoding.max_new_tokens == 3072
    assert task.vocabulary_size == 104  # 100 printable characters, 4 special tokens


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"template": "plain", "instruction": "none"}, "{}"),
        ({"template": "plain", "instruction": "user"}, "{}\n" + INSTRUCTION + "\n"),
        (
            {"instruction": "none"},
            "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            {"instruction": "user"},
            "<|im_start|>user\n{}\n" + INSTRUCTION + "<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
)
def test_other_ways_to_write_a_prompt(values, expected, task_of):
    task = task_of(**values)
    for i in range(3):
        written = task.language.tokenizer.decode(task.pool.prompts.row(i).tolist())
        assert written == expected.replace("{}", task.pool.text(i), 1)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_chat_messages_are_prompts(suffix, task_of):
    rows = [
        {"chat": [{"role": "system", "content": "Add."}, {"role": "user", "content": f"{i}+1"}],
         "answer": i + 1}
        for i in range(5)
    ]  # fmt: skip
    task = task_of(rows, suffix, prompt_column="chat")
    assert references(task.pool) | references(task.held_out) == {
        f"Add.\n{i}+1": str(i + 1) for i in range(5)
    }
    written = task.language.tokenizer.decode(task.pool.prompts.row(0).tolist())
    number = task.pool.text(0).split("\n")[1]
    assert written == (
        f"<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n{number}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_messages_must_end_with_the_users(task_of):
    with pytest.raises(ValueError, match=r"data.jsonl, line 1: messages must be messages that end"):
        task_of(NUMINA, prompt_column="messages", answer_column="solution", answer_format="boxed")


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ({"problem": "9+9="}, "answer"),
        ({"problem": "9+9=", "answer": " "}, "answer"),
        ({"problem": "9+9=", "answer": None}, "answer"),
        ({"problem": "9+9=", "answer": ["18"]}, "answer"),
        ({"problem": "", "answer": "18"}, "problem"),
        ({"answer": "18"}, "problem"),
        ({"problem": 3, "answer": "18"}, "problem"),
        ({"problem": [{"role": "user"}], "answer": "18"}, "problem"),
        (["not an object"], "row"),
    ],
)
def test_bad_rows_are_refused_by_file_and_line(bad, place, task_of):
    with pytest.raises(ValueError, match=rf"data.jsonl, line 4: {place} must be"):
        task_of([*SIMPLE[:3], bad, *SIMPLE[3:]])


def test_a_line_that_is_no_json_is_named(task_of, tmp_path, tokenizer_folder):
    path = tmp_path / "cut.jsonl"
    path.write_text('{"problem": "1", "answer": "1"}\n\n{"problem": "2", "ans')
    config = DatasetConfig(data=str(path), tokenizer=str(tokenizer_folder), held_out_size=2)
    with pytest.raises(ValueError, match=r"cut.jsonl, line 3: is no JSON"):
        build(config)


def test_a_question_may_hold_every_line_separator_but_one(task_of):
    rows = [{"problem": f"a\u2028b\x0bc\x85d{i}", "answer": "1"} for i in range(4)]
    task = task_of(rows)
    assert len(task.pool.prompts) == 2


def test_missing_answers_can_be_dropped_and_are_counted(task_of):
    rows = [*SIMPLE, {"problem": "proof", "answer": ""}, {"problem": "other", "answer": None}]
    task = task_of(rows, missing_answers="drop")
    assert task.dropped == {"no answer": 2}
    assert len(task.pool.prompts) == 18


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("column", ["prompt_column", "answer_column", "category_column"])
def test_a_column_that_is_not_there_is_named(column, suffix, task_of):
    with pytest.raises(ValueError, match=f"data{suffix} has no column 'nobody'"):
        task_of(suffix=suffix, **{column: "nobody"})
    # and so are those that are
    with pytest.raises(ValueError, match=re.escape("its columns are ['answer', 'problem']")):
        task_of(suffix=suffix, **{column: "nobody"})


def test_many_files_are_one_data_set(task_of, tmp_path):
    for number, first in enumerate((0, 10)):
        write_rows(tmp_path / f"part-{number}.parquet", SIMPLE[first : first + 10])
    write_rows(tmp_path / "other.parquet", [{"problem": "1", "answer": "1"}])
    task = task_of(data=str(tmp_path / "part-*.parquet"))
    assert references(task.pool) | references(task.held_out) == {
        row["problem"]: row["answer"] for row in SIMPLE
    }
    with pytest.raises(ValueError, match="data must be a pattern that some file matches"):
        task_of(data=str(tmp_path / "none-*.jsonl"))


def test_rows_of_the_hub(monkeypatch):
    import datasets

    found = datasets.Dataset.from_list(SIMPLE)
    asked = []

    def load_dataset(*words, **rest):
        asked.append((words, rest))
        return found

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    where = {"subset": "main", "split": "test", "revision": "abc"}
    rows = list(rows_of("owner/name", ["problem"], **where))
    assert asked == [(("owner/name", "main"), {"split": "test", "revision": "abc"})]
    assert [row.values for row in rows] == [{"problem": row["problem"]} for row in SIMPLE]
    assert rows[3].place == "owner/name (test), row 4"
    with pytest.raises(ValueError, match=re.escape("no column 'x'; its columns are ['answer', 'p")):
        rows_of("owner/name", ["problem", "x"], **where)


# math-verify finds nothing in a kana, and sympy never ends with a tower of powers
@pytest.mark.parametrize("bad", ["あ", pytest.param(r"9^{9^{9^9}}", marks=pytest.mark.slow)])
def test_answers_that_the_verifier_cannot_read(bad, task_of, monkeypatch):
    monkeypatch.setattr("train.tasks.dataset.CHECK_LIMIT_S", 5.0)
    good = [r"\frac{1}{2}", "x+1", r"\text{(B)}", "(1, 2]", "-3", "0.25", "12345678901234567890"]
    rows = [{"problem": f"{i}?", "answer": answer} for i, answer in enumerate([*good, bad])]
    with pytest.raises(ValueError, match=r"line 8: answer must be an answer that math-verify can"):
        task_of(rows, verifier="math")
    task = task_of(rows, verifier="math", missing_answers="drop")
    assert task.dropped == {"unreadable answer": 1}
    assert len(task.pool.text_N) + len(task.held_out.text_N) == len(good)
    assert task_of(rows, verifier="exact").dropped == {}  # the others compare texts


def test_texts_that_stand_for_no_answer(task_of):
    rows = [*SIMPLE, {"problem": "a", "answer": "proof"}, {"problem": "b", "answer": "notfound"}]
    task = task_of(rows, unanswered="proof, notfound", missing_answers="drop")
    assert task.dropped == {"no answer": 2}
    with pytest.raises(ValueError, match="line 21: answer must be an answer of format"):
        task_of(rows, unanswered="proof, notfound")


@pytest.mark.parametrize(
    ("format_", "answer", "reference"),
    [
        ("plain", "$007$", "7"),
        ("text", " $007$ ", "$007$"),
        ("text", 7, "7"),
        ("list", ["$1$", "2"], "1, 2"),
    ],
)
def test_formats_of_answers(format_, answer, reference, task_of):
    rows = [{"problem": f"{i}?", "answer": answer} for i in range(4)]
    task = task_of(rows, ".jsonl", answer_format=format_)
    assert set(task.pool.reference_N) == {reference}


def test_duplicates_long_prompts_and_the_limit_are_counted(task_of):
    rows = [*SIMPLE, {"problem": " 0+0=\n", "answer": "1"}, {"problem": "x" * 50, "answer": "1"}]
    plain = {"template": "plain", "instruction": "none", "max_prompt_tokens": 49}
    task = task_of(rows, **plain)
    assert task.dropped == {"too long": 1, "duplicate": 1}
    # a prompt comes first with one answer and again with another: the first one counts
    assert (references(task.pool) | references(task.held_out))["0+0="] == "0"
    assert task_of(rows, **{**plain, "max_prompt_tokens": 50}).dropped == {"duplicate": 1}
    limited = task_of(rows, **plain, limit=5)
    assert limited.dropped == {"too long": 1, "duplicate": 1, "beyond limit": 13}
    assert len(limited.pool.prompts) == 5
    assert limited.held_out.text_N == task.held_out.text_N


def test_held_out_questions_are_drawn_by_seed_and_never_trained_on(task_of):
    seen = []
    for seed in (0, 0, 1):
        task = task_of(SIMPLE * 3, held_out_size=5, seed=seed)
        assert len(task.held_out.prompts) == 5
        assert not set(task.held_out.text_N) & set(task.pool.text_N)
        assert task.dropped == {"duplicate": 40}
        assert list(task.pool.text_N) == sorted(
            task.pool.text_N, key=lambda t: int(t.split("+")[0])
        )
        seen.append(task.held_out.text_N)
    assert seen[0] == seen[1] != seen[2]
    assert len(task_of(held_out_share=0.25).held_out.prompts) == 5  # a quarter of 20


def test_held_out_questions_of_a_file_of_their_own(task_of, tmp_path):
    held = [{"problem": f"{i} + {i}=", "answer": str(2 * i)} for i in range(3)]
    held += [{"problem": " 4+4= ", "answer": "8"}, {"problem": "4+4=", "answer": "8"}]
    path = write_rows(tmp_path / "held.jsonl", held)
    task = task_of(held_out_data=str(path))
    # "0 + 0=" is another text than "0+0="; "4+4=" is the same, twice
    assert task.dropped == {"held-out: duplicate": 1, "also held out": 1}
    assert set(task.held_out.text_N) == {"0 + 0=", "1 + 1=", "2 + 2=", "4+4="}
    assert set(task.pool.text_N) == {row["problem"] for row in SIMPLE} - {"4+4="}
    assert len(task_of(held_out_data=str(path), held_out_size=2).held_out.prompts) == 2
    with pytest.raises(ValueError, match="held_out_size must be at most 4"):
        task_of(held_out_data=str(path), held_out_size=5)


@pytest.mark.parametrize(("size", "left"), [(20, 20), (21, 20)])
def test_something_must_be_left_to_train_on(size, left, task_of):
    with pytest.raises(ValueError, match=f"held_out_size must be fewer than the {left} questions"):
        task_of(held_out_size=size)


def test_categories_and_priors(task_of):
    rows = [{**row, "type": ("b", "a")[i % 2], "rate": i / 20} for i, row in enumerate(SIMPLE)]
    task = task_of(rows, category_column="type", prior_column="rate", held_out_size=6)
    assert task.category_names == ("a", "b")
    for questions, category_N in (
        (task.pool, task.category_N),
        (task.held_out, task.held_out_category_N),
    ):
        number_N = [int(text.split("+")[0]) for text in questions.text_N]
        assert category_N.tolist() == [1 - n % 2 for n in number_N]
    number_N = np.array([int(text.split("+")[0]) for text in task.pool.text_N])
    assert task.prior_success_rate_N == pytest.approx(number_N / 20)
    without = task_of(rows)
    assert without.category_N is without.held_out_category_N is without.prior_success_rate_N is None
    for bad in (1.5, None, "x", True):
        with pytest.raises(ValueError, match=r"line 1: rate must be a float in \[0.0, 1.0\]"):
            task_of([{**rows[0], "rate": bad}, *rows[1:]], prior_column="rate")
    with pytest.raises(ValueError, match=r"line 1: type must be a text or a number"):
        task_of([{**rows[0], "type": None}, *rows[1:]], category_column="type")


def test_rewards(task_of):
    task = task_of(verifier="math")
    truth = [task.pool.answer(i) for i in range(3)]
    texts = [rf"so \boxed{{{truth[0]}}}", r"\boxed{-1}", rf"\boxed{{{truth[2]}}}", "none"]
    texts += [rf"\boxed{{{truth[0]}}}", rf"\boxed{{{truth[0]}}}"]
    finishes = [Finish.STOP] * 4 + [Finish.LENGTH, Finish.MISSING]
    completions = said(texts, task.language.tokenizer, task.decoding, finishes)
    reward_R = task.pool.reward(np.array([0, 1, 2, 2, 0, 0]), completions)
    # right, wrong, right, nothing said, right but truncated, lost
    assert np.array_equal(reward_R, [1, 0, 1, 0, 0, np.nan], equal_nan=True)
    assert task.pool.verify.counters["judged"] == 4


def test_what_follows_an_end_token_is_not_said(task_of):
    task = task_of()
    tokenizer = task.language.tokenizer
    for end in ("<end>", "<|im_end|>"):
        ids = tokenizer.encode(f"<|im_start|>1{end}2", add_special_tokens=False)
        assert task.pool.completion_text(ids) == "1"


def test_the_saved_tokenizer_is_the_same(task_of, tmp_path):
    task = task_of()
    task.save_tokenizer(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.chat_template == task.language.tokenizer.chat_template
    assert again.get_vocab() == task.language.tokenizer.get_vocab()


def test_a_users_function_judges(task_of, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def is_right(completion, reference): return completion == reference * 2\n")
    task = task_of(verifier=f"{path}:is_right")
    texts = [task.pool.answer(0) * 2, task.pool.answer(0)]
    completions = said(texts, task.language.tokenizer, task.decoding)
    assert task.pool.reward(np.array([0, 0]), completions).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="mine.py:other cannot be loaded"):
        task_of(verifier=f"{path}:other")


def test_a_tokenizer_that_does_not_fit_is_named(task_of, tmp_path):
    bare = save_tokenizer(tmp_path / "bare", template=None)
    with pytest.raises(ValueError, match="template must be plain: the tokenizer has no chat"):
        task_of(tokenizer=str(bare))
    assert len(task_of(tokenizer=str(bare), template="plain").decoding.end_tokens) == 1
    with pytest.raises(ValueError, match="tokenizer '.*nowhere' cannot be loaded"):
        task_of(tokenizer=str(tmp_path / "nowhere"))
    strict = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    )
    folder = save_tokenizer(tmp_path / "strict", template=strict)
    with pytest.raises(ValueError, match=r"refuses .*no system.*instruction = 'user'"):
        task_of(tokenizer=str(folder))


def test_files_that_cannot_be_read_are_named(task_of, tmp_path, tokenizer_folder):
    (tmp_path / "x.parquet").write_text("no parquet")
    (tmp_path / "x.csv").write_text("a,b")
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, message in (
        ("x.parquet", "x.parquet is missing or damaged"),
        ("y.jsonl", "y.jsonl is missing or damaged"),
        ("x.csv", "data must be a file that ends in .jsonl or .parquet"),
        ("empty.jsonl", "empty.jsonl holds no row"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            task_of(data=str(tmp_path / name))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "held_out_size must be given"),
        ({"held_out_size": 1}, "held_out_size must be an int in [2,"),
        ({"held_out_size": 2, "held_out_share": 0.1}, "held_out_share must be left out"),
        ({"held_out_split": "test"}, "held_out_split must be left out: a file has no splits"),
        ({"held_out_share": 1.0}, "held_out_share must be a float in (0.0, 1.0)"),
        ({"held_out_size": 2, "verifier": "nobody"}, "verifier must be one of math, exact, regex"),
        ({"held_out_size": 2, "verifier": "regex"}, "verifier_pattern must be a regular expr"),
        ({"held_out_size": 2, "verifier_pattern": "(a)"}, "verifier_pattern must be left out"),
        ({"held_out_size": 2, "answer_format": "xml"}, "answer_format must be one of"),
        (
            {"held_out_size": 2, "template": "plain", "instruction": "released"},
            "instruction must be system, user or none",
        ),
        ({"held_out_size": 2, "verifier_on_failure": "raise"}, "verifier_on_failure must be one"),
    ],
)
def test_bad_options_are_named(values, message):
    with pytest.raises(ValueError, match=re.escape(f"[task]: {message}")):
        DatasetConfig(data="x.jsonl", tokenizer="x", **values)


def test_the_configuration_makes_the_task(tmp_path, tokenizer_folder):
    data = write_rows(tmp_path / "data.jsonl", SIMPLE)
    config = from_dict(
        {
            "task": {
                "kind": "dataset", "data": str(data), "tokenizer": str(tokenizer_folder),
                "held_out_size": 4, "verifier": "regex", "verifier_pattern": "([0-9]+)",
            },
            "model": {"kind": "pretrained", "path": "x"},
            "rollout": {"decode_temperature": 0.5},
            "scheduler": {"batch_size": 2, "budget": 8},
            "evaluation": {"every": 8},
            "run": {"rollouts": 16},
        }
    )  # fmt: skip
    task = make_task(config)
    assert task.decoding.temperature == 0.5
    texts = [f"1 {task.pool.answer(0)}", f"{task.pool.answer(0)} 1"]
    completions = said(texts, task.language.tokenizer, task.decoding)
    assert task.pool.reward(np.array([0, 0]), completions).tolist() == [1.0, 0.0]
    task.pool.verify.close()
    assert from_dict(config.as_dict()) == config
