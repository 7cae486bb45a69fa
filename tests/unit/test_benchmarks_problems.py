"""Data sets of the real schemas -> problems, references and prompts; what is refused, and how.

The rows have the columns and the ways of writing answers of the published files, as far as they could be
seen: cards of HuggingFaceH4/MATH-500, HuggingFaceH4/aime_2024, openai/gsm8k and math-ai/aime25, and the
files of QwenLM/Qwen2.5-Math (evaluation/data). Questions and answers are made up.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from train.benchmarks.definitions import BENCHMARKS, benchmarks_named
from train.benchmarks.instruction import INSTRUCTION, RELEASED_SUFFIX
from train.benchmarks.loading import Problem, load_problems
from train.benchmarks.prompting import answer_limits, encode, end_tokens
from train.benchmarks.references import after_hashes, boxed, last_boxed, listed, plain

SUM = "What is $1+1$?"
ROWS = {
    "math500": [
        {"problem": SUM, "solution": r"It is $\boxed{2}$.", "answer": r"\frac{4}{2}",
         "subject": "Algebra", "level": 1, "unique_id": "test/algebra/1.json"},
    ],
    "gsm8k": [{"question": "How many?", "answer": "2 * 500 = <<2*500=1000>>1,000\n#### 1,000"}],
    "gaokao2023en": [
        {"source": "01Q.en", "question": SUM, "lang": "en", "answer": "$\\{x|-2\\leq x < 1\\}$"},
        {"source": "02Q.en", "question": SUM, "lang": "en", "answer": "$48$, $384$"},
    ],
    "minerva": [{"question": SUM, "answer": "1.6e-19"}],
    "olympiadbench": [
        {"id": 1606, "subfield": "Combinatorics", "context": None, "question": SUM,
         "solution": ["Count."], "final_answer": ["$(1,8,19), (2,7,13)$"],
         "is_multiple_answer": True, "unit": None, "answer_type": "Tuple", "error": None},
    ],
    "aime24": [
        {"id": 67, "problem": SUM, "solution": "Add.", "answer": "025", "url": "", "year": "2024"},
    ],
    "aime25": [{"problem": SUM, "answer": "70", "id": "0"}],
    "amc23": [{"id": 0, "problem": SUM, "answer": 27.0, "url": "", "question": SUM}],
}  # fmt: skip
# by hand: no dollar signs, no separators, no leading zeros, whole numbers without a point
REFERENCES = {
    "math500": [r"\frac{4}{2}"],
    "gsm8k": ["1000"],
    "gaokao2023en": [r"\{x|-2\leq x < 1\}", "48, 384"],
    "minerva": ["1.6e-19"],
    "olympiadbench": ["(1,8,19), (2,7,13)"],
    "aime24": ["25"],
    "aime25": ["70"],
    "amc23": ["27"],
}


def write(path, rows):
    """A file of rows, in the format of its name."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_files_of_the_real_schemas(name, suffix, tmp_path):
    problems = load_problems(BENCHMARKS[name], write(tmp_path / f"set{suffix}", ROWS[name]))
    assert [problem.reference for problem in problems] == REFERENCES[name]
    expected = [row.get("question", row.get("problem")) for row in ROWS[name]]
    assert [problem.question for problem in problems] == expected


def test_minerva_as_published_with_solutions(tmp_path):
    row = {"problem": SUM, "solution": r"So $R=\boxed{1.6} \mathrm{~cm}$", "type": "", "idx": 0}
    found = load_problems(BENCHMARKS["minerva"], write(tmp_path / "set.jsonl", [row]))
    assert found == (Problem(SUM, "1.6"),)


def test_a_data_set_as_the_hub_serves_it(tmp_path, monkeypatch):
    # `datasets` itself, on a folder that looks like a repository of the Hub
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "aime25"
    folder.mkdir()
    write(folder / "test.jsonl", ROWS["aime25"] * 3)
    benchmark = replace(BENCHMARKS["aime25"], source=str(folder))
    assert len(load_problems(benchmark)) == 3
    assert len(load_problems(benchmark, limit=2)) == 2
    with pytest.raises(ValueError, match="cannot be loaded") as error:
        load_problems(replace(benchmark, source=str(tmp_path / "nowhere")))
    assert "give a file: --data aime25=PATH" in str(error.value)


def test_problems_published_without_an_answer(tmp_path):
    # the Gaokao set has two, whose answers stand at the end of the question instead
    unanswered = {"source": "", "question": "Compute.answers: 1", "lang": "en", "answer": ""}
    rows = [*ROWS["gaokao2023en"], unanswered, unanswered]
    path = write(tmp_path / "set.jsonl", rows)
    found = load_problems(BENCHMARKS["gaokao2023en"], path)
    assert [p.reference for p in found] == [*REFERENCES["gaokao2023en"], "", ""]
    write(path, [*rows, unanswered])  # a third is damage
    with pytest.raises(ValueError, match="problem 4: answer must be an answer as plain reads it"):
        load_problems(BENCHMARKS["gaokao2023en"], path)
    write(path, [{"question": SUM, "answer": ""}])  # and so is any elsewhere
    with pytest.raises(ValueError, match="problem 0: answer must be"):
        load_problems(BENCHMARKS["minerva"], path)


def test_separators_inside_a_question_do_not_cut_it(tmp_path):
    question = "One\u2028two\u0085three\x0bfour?"  # all of them split lines for str.splitlines
    path = write(tmp_path / "set.jsonl", [{"problem": question, "answer": "1"}])
    assert load_problems(BENCHMARKS["aime25"], path)[0].question == question


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"problem": "a", "Answer": "1"}\n',
         "must have the columns 'problem' and 'answer', it has ['Answer', 'problem']"),
        ('{"problem": "a", "answer": "1"}\n{"problem": ', "is missing or damaged"),
        ("[1]\n", "a line is no JSON object"),
        ("\n", "holds no problem"),
        ('{"problem": " ", "answer": "1"}\n', "problem must be a text that is not empty, got ' '"),
        ('{"problem": "a", "answer": "1"}\n{"problem": "b", "answer": null}\n',
         "problem 1: answer must be an answer as plain reads it"),
        (b"\xff\xfe", "is missing or damaged"),
    ],
)  # fmt: skip
def test_files_that_are_refused(content, message, tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match="set.jsonl") as error:
        load_problems(BENCHMARKS["aime25"], path)
    assert message in str(error.value)


def test_paths_that_are_refused(tmp_path):
    for name in ("absent.jsonl", "absent.parquet"):
        with pytest.raises(ValueError, match="is missing or damaged"):
            load_problems(BENCHMARKS["gsm8k"], tmp_path / name)
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match="is missing or damaged"):
        load_problems(BENCHMARKS["gsm8k"], tmp_path / "text.parquet")
    with pytest.raises(ValueError, match=r"must be a file that ends in .jsonl or .parquet"):
        load_problems(BENCHMARKS["gsm8k"], tmp_path / "set.csv")
    path = write(tmp_path / "set.jsonl", [{"question": SUM, "answer": "no hashes"}])
    with pytest.raises(ValueError, match="as after_hashes reads it"):
        load_problems(BENCHMARKS["gsm8k"], path)


def test_benchmarks_by_name():
    assert [b.name for b in benchmarks_named(["amc23", "gsm8k"])] == ["gsm8k", "amc23"]
    for names in (["gsm8k", "mmlu"], ["gsm8k", "gsm8k"], []):
        with pytest.raises(ValueError, match="bench: --benchmarks") as error:
            benchmarks_named(names)
        assert all(name in str(error.value) for name in BENCHMARKS)  # the legal ones


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1} and \boxed{2}", "2"),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right."),  # an escaped brace closes nothing
        (r"\boxed{a\\}", r"a\\"),  # an escaped backslash does not escape the brace
        (r"\boxed{}", ""),
        (r"\boxed{1} then \boxed{2", None),  # the last one counts, and it never ends
        ("no box", None),
        ("\\boxed{\u202e1\x00}", "\u202e1\x00"),
    ],
)
def test_last_boxed(text, content):
    assert last_boxed(text) == content


def test_last_boxed_of_hostile_text_is_linear():
    # quadratic code would need 10^12 steps here
    assert last_boxed(r"\boxed{" * 1_000_000) is None
    assert last_boxed(r"\boxed{" + "{" * 1_000_000 + "}" * 1_000_000 + "}") is not None


def test_readings_refuse_what_they_cannot_read():
    assert [plain(value) for value in (None, True, [], "$ $", float("nan"))] == [None] * 5
    assert after_hashes("a #### in the text\n#### 7") == "7"  # the last one counts
    assert plain(r"\$5") == r"\$5"  # an escaped dollar sign is money
    assert [boxed("2"), boxed(2), listed("2"), listed(["2", None])] == [None] * 4


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_tokenizer(chat_template=CHATML):
    """One token per byte, three special tokens, Qwen's chat format."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=SPECIAL[0], additional_special_tokens=list(SPECIAL[1:])
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def test_prompts_go_through_the_chat_template():
    tokenizer = byte_tokenizer()
    problems = [Problem(SUM, "2"), Problem("Why?", "1")]
    prompts = encode(tokenizer, problems)
    text = tokenizer.decode(prompts.row(0))
    # Qwen's format, written out
    assert text == (
        f"<|im_start|>system\n{INSTRUCTION}<|im_end|>\n<|im_start|>user\n{SUM}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert prompts.row(0)[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")
    released = tokenizer.decode(encode(tokenizer, problems, "released").row(1))
    assert f"<|im_start|>user\nWhy?{RELEASED_SUFFIX}<|im_end|>" in released
    user = tokenizer.decode(encode(tokenizer, problems, "user").row(1))
    assert user.startswith(f"<|im_start|>user\nWhy?\n{INSTRUCTION}<|im_end|>")
    plain_text = tokenizer.decode(encode(tokenizer, problems, "plain").row(1))
    assert plain_text == f"Why?\n{INSTRUCTION}\n"


def test_templates_that_are_refused():
    problems = [Problem(SUM, "2")]
    with pytest.raises(ValueError, match="plain: the tokenizer has no chat template"):
        encode(byte_tokenizer(None), problems)
    no_system = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x"
    )
    with pytest.raises(ValueError, match=r"refuses --prompt system \(no system\); try user"):
        encode(byte_tokenizer(no_system), problems)
    assert len(encode(byte_tokenizer(no_system), problems, "user")) == 1
    with pytest.raises(ValueError, match=r"--prompt must be one of \['system', 'released'"):
        encode(byte_tokenizer(), problems, "chat")


def test_end_tokens():
    tokenizer = byte_tokenizer()
    eos, _, im_end = (tokenizer.convert_tokens_to_ids(text) for text in SPECIAL)
    assert end_tokens(tokenizer, None) == (eos,)
    assert end_tokens(tokenizer, GenerationConfig(eos_token_id=[eos, 7])) == (7, eos)
    assert end_tokens(tokenizer, GenerationConfig(eos_token_id=7), ["<|im_end|>"]) == (
        7, eos, im_end
    )  # fmt: skip
    with pytest.raises(
        ValueError, match=r"--end-token must be a token of the tokenizer, got '</s>'"
    ):
        end_tokens(tokenizer, None, ["</s>"])
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="neither tokenizer nor model has an end token"):
        end_tokens(tokenizer, GenerationConfig())


def test_answers_end_at_the_models_positions():
    prompts = encode(byte_tokenizer(), [Problem("a", "1"), Problem("aaaa", "1")])
    length = int(prompts.length_N[0])  # the other is three bytes, hence three tokens, longer
    assert answer_limits(prompts, 10, None, "aime24").tolist() == [10, 10]
    assert answer_limits(prompts, 10, length + 13, "aime24").tolist() == [10, 10]
    assert answer_limits(prompts, 10, length + 12, "aime24").tolist() == [10, 9]
    assert answer_limits(prompts, 10, length + 4, "aime24").tolist() == [4, 1]
    legal = (
        f"the prompt of aime24, problem 1 must be shorter than the model's {length + 3} positions"
    )
    with pytest.raises(ValueError, match=legal):
        answer_limits(prompts, 10, length + 3, "aime24")
