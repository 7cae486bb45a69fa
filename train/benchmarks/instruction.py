"""What a model is told beside the question: the paper's instruction, in the ways it can be given."""

from __future__ import annotations

from cures.checks import as_choice

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
# What the released evaluation appends to the question, beside the instruction above.
RELEASED_SUFFIX = r" Let's think step by step and output the final answer within \boxed{}"
STYLES = {
    "system": "the instruction as system message, the question as user message (the paper)",
    "released": "the same, and the question followed by the released code's second instruction",
    "user": "one user message, question and instruction: for templates without a system role",
    "plain": "question and instruction without a chat template",
}


def plain_text(question: str) -> str:
    """Question and instruction as they stand, for a model that knows no chat."""
    return f"{_with_instruction(question)}\n"


def messages(question: str, style: str) -> list[dict[str, str]]:
    """The conversation that a model is to continue.

    Parameters
    ----------
    question : str
    style : {'system', 'released', 'user'}

    Raises
    ------
    ValueError
        If there is no such style of conversation.
    """
    as_choice("bench", "--prompt", style, tuple(name for name in STYLES if name != "plain"))
    if style == "user":
        return [{"role": "user", "content": _with_instruction(question)}]
    suffix = RELEASED_SUFFIX if style == "released" else ""
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": question + suffix},
    ]


def _with_instruction(question: str) -> str:
    return f"{question}\n{INSTRUCTION}"
