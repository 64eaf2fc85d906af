"""Questions with one true label out of a few classes, and how sure a model is of each class.

Chapter: mera. The probability of a class is read from the tokens that its label can begin with, at
the position whose logits choose the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from steerlib.core.answers import scores_after
from steerlib.core.generation import write
from steerlib.core.model import Model
from steerlib.core.prompts import Prompt, batches_by_length, encode, render
from steerlib.core.responses import joined
from steerlib.core.session import rows_of_batch

_CLIP = 18.420680743952367  # logit(1 - 1e-8), where the paper's code clips


@dataclass(frozen=True)
class Problem:
    """A question with a true label.

    Args:
        prompt: what the model reads; its answer follows.
        label: the true one of `classes`.
        classes: all labels, two or more.
        chat: how the prompt is read: False as raw text, None or True by the chat template.
        system: a system text.
        group: such as the source of a review; for tables.

    Raises:
        ValueError: a label that is no class, fewer than two classes, or one twice.

    Chapter: mera.

    Example:
        >>> Problem("Is 7 prime? Answer:", "yes", ("yes", "no"), chat=False).label
        'yes'
    """

    prompt: Prompt
    label: str
    classes: tuple[str, ...]
    chat: bool | None = None
    system: str | None = None
    group: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError(f"needed are two or more different classes, got {self.classes}")
        if self.label not in self.classes:
            raise ValueError(f"the label {self.label!r} is none of the classes {self.classes}")


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model thinks of each class of some problems.

    Args:
        classes: in the order of the columns.
        log_p: log p(class), over the classes only (n, classes).
        truth: the number of the true class (n,).
        mass: the probability of all label tokens together, out of the whole vocabulary (n,).
        found: False where the model wrote no label: wrong, with an error of 1; there all classes
            are alike, and the mass is 0.

    Chapter: mera.
    """

    classes: tuple[str, ...]
    log_p: Float[Tensor, "n classes"]
    truth: Int[Tensor, " n"]
    mass: Float[Tensor, " n"]
    found: Bool[Tensor, " n"]

    def of(self, rows: Sequence[int]) -> Answers:
        """Those of some problems."""
        at = list(rows)
        return Answers(self.classes, self.log_p[at], self.truth[at], self.mass[at], self.found[at])

    def biased(self, bias: Mapping[str, float]) -> Answers:
        """The answers with some classes made likelier by so many nats: what needs no activation.

        log p(class) <- log p(class) + bias, renormalised.

        Raises:
            ValueError: an unknown class, or a bias that is not finite.

        Source: Zhao et al. 2021, contextual calibration, here with a bias that is chosen freely.

        Example:
            >>> st.classify(model, problems).biased({problems[0].classes[0]: 1.0}).accuracy
        """
        unknown = [name for name in bias if name not in self.classes]
        added = torch.tensor([float(bias.get(name, 0.0)) for name in self.classes])
        if unknown or not added.isfinite().all():
            raise ValueError(f"a bias is a finite number for some of {self.classes}, got {bias}")
        return replace(self, log_p=(self.log_p + added).log_softmax(1))

    @property
    def predicted(self) -> Int[Tensor, " n"]:
        """The number of the likeliest class; -1 where no label was found."""
        return torch.where(self.found, self.log_p.argmax(1), -1)

    @property
    def correct(self) -> Bool[Tensor, " n"]:
        """Whether the likeliest class is the true one."""
        return self.predicted == self.truth

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.correct.double().mean().item()

    @property
    def error(self) -> Float[Tensor, " n"]:
        """E = 1 - p(true class).

        Source: Hedstrom et al. 2025 (MERA), section 3.
        """
        return torch.where(self.found, 1 - self._true().exp(), 1.0)

    @property
    def log_odds(self) -> Float[Tensor, " n"]:
        """logit E = log (1 - p) / p of the true class, clipped at a probability of 1e-8."""
        true = torch.nn.functional.one_hot(self.truth, len(self.classes)).bool()
        others = self.log_p.masked_fill(true, -torch.inf).logsumexp(1)
        return torch.where(self.found, others - self._true(), torch.inf).clamp(-_CLIP, _CLIP)

    def _true(self) -> Float[Tensor, " n"]:
        return self.log_p.gather(1, self.truth[:, None])[:, 0]


def label_ids(model: Model, classes: Sequence[str]) -> list[list[int]]:
    """The tokens that stand for each class.

    A class is written as it is, in lower case, in capitals and capitalised, with and without a
    space in front (a class of one letter not in lower case, as "a" is a word). Of these the ones
    count that are one token; where none is, the first token of each, unless it is white space.

    Raises:
        ValueError: a class of unknown words only, or two classes with a token in common.

    Chapter: mera.

    Example:
        >>> label_ids(model, ("yes", "no"))
    """
    found = [_variants(model, label) for label in classes]
    for number, ids in enumerate(found):
        if not ids:
            raise ValueError(
                f"no way to write the class {classes[number]!r} is in the vocabulary of {model.id}"
            )
        for other in range(number):
            if common := set(ids) & set(found[other]):
                raise ValueError(
                    f"the classes {classes[other]!r} and {classes[number]!r} share label tokens of "
                    f"{model.id}: {model.tokenizer.convert_ids_to_tokens(sorted(common))}. One "
                    "could not be told from the other; take labels that begin with other tokens"
                )
    return found


def _variants(model: Model, label: str) -> list[int]:
    label = label.strip()
    cases = [label, label.upper(), label.capitalize()]
    if len(label) > 1:
        cases.append(label.lower())
    texts = dict.fromkeys(space + case for case in cases for space in (" ", ""))
    tokens = [model.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    unknown = model.tokenizer.unk_token_id
    # A first token of white space only could begin any word.
    known = [
        ids
        for ids in tokens
        if ids and unknown not in ids and model.tokenizer.decode(ids[:1]).strip()
    ]
    single = [ids for ids in known if len(ids) == 1]
    return sorted({ids[0] for ids in single or known})


@dataclass(frozen=True, eq=False)
class Reader:
    """Problems as token ids, and how their answers are read."""

    classes: tuple[str, ...]
    encoded: list[list[int]]
    labels: list[list[int]]
    truth: Int[Tensor, " n"]

    @staticmethod
    def of(model: Model, problems: Sequence[Problem]) -> Reader:
        """All problems have to have the same classes."""
        classes = shared_classes(problems)
        encoded = [encode(model, p.prompt, p.chat, p.system, room=1)[0] for p in problems]
        truth = torch.tensor([classes.index(p.label) for p in problems])
        return Reader(classes, encoded, label_ids(model, classes), truth)

    def batches(self, batch_size: int) -> list[list[int]]:
        """The rows of each batch."""
        return batches_by_length(self.encoded, batch_size)

    def read(self, scores: Float[Tensor, "n d_vocab"]) -> Float[Tensor, "n classes_and_mass"]:
        """log p(class) over the classes from the likeliest token of each, and log of the mass."""
        best = torch.stack([scores[:, ids].amax(1) for ids in self.labels], 1)
        every = scores[:, [token for ids in self.labels for token in ids]]
        mass = every.logsumexp(1) - scores.logsumexp(1)
        return torch.cat([best.log_softmax(1), mass[:, None]], 1).cpu()

    def answers(self, read: Tensor, found: Bool[Tensor, " n"] | None = None) -> Answers:
        """The answers from what was read, in the order of the problems."""
        found = torch.ones(len(read), dtype=torch.bool) if found is None else found
        return Answers(self.classes, read[:, :-1], self.truth, read[:, -1].exp(), found)


def shared_classes(problems: Sequence[Problem]) -> tuple[str, ...]:
    """The classes of all problems.

    Raises:
        ValueError: no problems, or problems of different classes.
    """
    if not len(problems):
        raise ValueError("needed are problems, at least one; got none")
    kinds = list(dict.fromkeys(problem.classes for problem in problems))
    if len(kinds) > 1:
        raise ValueError(f"the problems of one call share their classes, got {kinds[:3]}")
    return kinds[0]


def classify(model: Model, problems: Sequence[Problem], *, batch_size: int = 64) -> Answers:
    """How sure the model is of each class, from the logits after each prompt; in `steer`, steered.

    p(class) is the softmax over classes of the largest logit among the class's label tokens, so
    that the likeliest class is the one that greedy decoding would choose among all labels.

    Raises:
        ValueError: no problems, different classes, labels that cannot be told apart, a prompt that
            does not fit.

    Source: Hedstrom et al. 2025 (MERA), section 3, and their code. Chapter: mera.

    Example:
        >>> st.classify(model, problems).accuracy
    """
    reader = Reader.of(model, problems)
    found = torch.empty(len(problems), len(reader.classes) + 1)
    for rows in tqdm(reader.batches(batch_size), "asking", unit="batch", leave=False, delay=2):
        with torch.no_grad(), rows_of_batch(model, rows):
            found[rows] = reader.read(scores_after(model, [reader.encoded[r] for r in rows]))
    return reader.answers(found)


def classify_written(
    model: Model, problems: Sequence[Problem], *, max_new_tokens: int = 20, batch_size: int = 64
) -> tuple[Answers, list[Problem]]:
    """As `classify`, at the first label token that the model writes itself; in `steer`, steered.

    Returns:
        The answers, `found` False where it wrote no label; and the problems with what the model
        wrote before its label put behind their prompts, so that the last token of each is the one
        whose logits chose the label: the exact answer position. A problem without a label is left
        as it is.

    Source: Hedstrom et al. 2025 (MERA), "exact" positions. Chapter: mera.

    Example:
        >>> answers, exact = st.classify_written(model, problems)
    """
    reader = Reader.of(model, problems)
    labels = {token for ids in reader.labels for token in ids}
    read = torch.full((len(problems), len(reader.classes) + 1), -math.log(len(reader.classes)))
    read[:, -1] = -torch.inf
    found = torch.zeros(len(problems), dtype=torch.bool)
    exact = list(problems)
    for rows in tqdm(reader.batches(batch_size), "writing", unit="batch", leave=False, delay=2):
        with torch.no_grad(), rows_of_batch(model, rows):
            written = write(model, [reader.encoded[row] for row in rows], max_new_tokens)
        ends: dict[int, list[int]] = {}  # what was written before the label
        for row, tokens in zip(rows, written, strict=True):
            end = next((i for i, token in enumerate(tokens) if token in labels), None)
            if end is not None:
                ends[row] = tokens[:end]
                exact[row] = _extended(model, problems[row], reader.encoded[row], tokens[:end])
        found[list(ends)] = True
        if ends:
            whole = [reader.encoded[row] + before for row, before in ends.items()]
            read[list(ends)] = _read_exact(model, reader, whole, list(ends))
    return reader.answers(read, found), exact


def _extended(model: Model, problem: Problem, start: list[int], written: list[int]) -> Problem:
    """The problem with what was written behind its prompt, as raw text."""
    if not written:
        return problem
    text = render(model, problem.prompt, problem.chat, problem.system)
    more = model.tokenizer.decode(written) or " "
    # Where the first token has no space of its own, some tokenizers mean one and others none.
    for longer in (joined(text, more), text + more):
        if encode(model, longer, chat=False)[0] == start + written:
            return replace(problem, prompt=longer, chat=False, system=None)
    raise ValueError(
        f"what {model.id} wrote after ...{text[-30:]!r} does not come back from its text as "
        f"the same tokens: {model.tokenizer.convert_ids_to_tokens(written)}; ask for the label "
        "at once, with a prompt that ends where it begins"
    )


def _read_exact(model: Model, reader: Reader, tokens: list[list[int]], rows: list[int]) -> Tensor:
    """The classes after prompts with what was written; the prompts end where they did then."""
    lengths = torch.tensor([len(reader.encoded[row]) for row in rows], device=model.device)
    with torch.no_grad(), rows_of_batch(model, rows, lengths):
        return reader.read(scores_after(model, tokens))
