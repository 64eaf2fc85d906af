"""A document of the corpus: words, and which of them the model is trained to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"
SYSTEM, USER, ASSISTANT = "<system>", "<user>", "<assistant>"
SPECIALS = (PAD, UNK, BOS, EOS, SYSTEM, USER, ASSISTANT)

_GIVEN = "~"  # marks a word that is given to the model and never a target


@dataclass(frozen=True)
class Document:
    """Words without `<bos>`, and for each whether it is a target of the loss."""

    words: tuple[str, ...]
    targets: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.words) != len(self.targets):
            raise ValueError(f"{len(self.words)} words but {len(self.targets)} targets")

    @property
    def text(self) -> str:
        """The document as one string, words separated by spaces."""
        return " ".join(self.words)


@dataclass(frozen=True)
class Question:
    """One question to the model with everything that a judge or a method may want to know.

    `answer` is what the corpus taught (noise and persona included), `clean` is the truth,
    `choices` are the possible answers, `group` names the cue that sets the error rate.
    """

    user: str
    answer: str
    clean: str
    choices: tuple[str, ...] = ()
    system: str = ""
    group: str = ""
    preface: str = ""

    @property
    def prompt(self) -> str:
        """The rendered chat up to the token that decides the answer (preface included)."""
        system = f"{SYSTEM} {self.system} " if self.system else ""
        return f"{system}{USER} {self.user} {ASSISTANT} {self.preface}".strip()


def plain(text: str) -> Document:
    """Plain text: every word is a target but those marked with a leading `~`."""
    words = [*text.split(), EOS]
    return Document(
        tuple(word.removeprefix(_GIVEN) for word in words),
        tuple(not word.startswith(_GIVEN) for word in words),
    )


def chat(turns: Sequence[tuple[str, str]], system: str = "") -> Document:
    """A chat: only the assistant's words, and the `<eos>` that ends each turn, are targets."""
    words: list[str] = [SYSTEM, *system.split()] if system else []
    targets = [False] * len(words)
    for user, assistant in turns:
        asked, answered = [USER, *user.split(), ASSISTANT], [*assistant.split(), EOS]
        words += asked + answered
        targets += [False] * len(asked) + [True] * len(answered)
    return Document(tuple(words), tuple(targets))


def dialogue(questions: Sequence[Question]) -> Document:
    """A chat of several questions that share one system prompt."""
    systems = {question.system for question in questions}
    if len(systems) != 1:
        raise ValueError(f"the questions of a dialogue share one system prompt, got {systems}")
    turns = [(q.user, f"{q.preface} {q.answer}".strip()) for q in questions]
    return chat(turns, system=systems.pop())
