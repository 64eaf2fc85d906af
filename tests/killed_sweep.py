"""A small sweep to be killed: `python tests/killed_sweep.py FOLDER MODEL LOG WHEN COUNT`.

WHEN is "graded" (SIGKILL before the answer COUNT is graded, in the middle of a batch), "written"
(between the writing of shard COUNT and its renaming) or "never". Every graded answer is a line of
the log: what was computed, and by which process.
"""

import os
import signal
import sys
from pathlib import Path

import torch

import steerlib as st
from steerlib.evaluation import Arm
from steerlib.evaluation.sweep import Study, sweep

CONCEPTS, STRENGTHS, SIZE = ("dogs", "weather"), (1.0, -1.0), 3
PROMPTS = ["tell me about the dog .", "a happy cat saw the big red ball", "sun", "the sad boy"]


class Judge:
    """Grades the length of an answer, writes down that it did, and may kill its process."""

    def __init__(self, concept: str, log: Path, kill_at: int = 0) -> None:
        self.concept, self.log, self.kill_at = concept, log, kill_at

    def __call__(self, prompt: str, answer: str) -> float:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()}|{self.concept}|{prompt}|{answer}\n")
        if self.kill_at and len(self.log.read_text().splitlines()) >= self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return len(answer)


def run(model: st.Model, folder: Path, log: Path, kill_at: int = 0, n_jobs: int = 1):
    """16 answers of two concepts, with and without steering, in 6 batches, sampled."""
    random = torch.Generator().manual_seed(0)
    push = st.Add(st.resid(1), 0.5 * torch.randn(32, generator=random))
    arms = [Arm("push", push, STRENGTHS), Arm("nothing")]
    studies = [Study(name, arms, PROMPTS, Judge(name, log, kill_at)) for name in CONCEPTS]
    options = {"max_new_tokens": 6, "batch_size": SIZE, "seed": 3, "progress": False}
    return sweep(model, studies, folder, n_jobs=n_jobs, **options)


def _kill_at_rename(count: int) -> None:
    """SIGKILL in place of the rename number `count` of a shard."""
    rename, seen = os.replace, []

    def replace(source, target):
        seen.extend([target] if Path(target).parent.name == "shards" else [])
        if len(seen) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace


def main(folder: str, model: str, log: str, when: str, count: str) -> None:
    torch.set_num_threads(1)
    if when == "written":
        _kill_at_rename(int(count))
    run(st.load(model, engine="hf"), Path(folder), Path(log), int(count) * (when == "graded"))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    # The judge's name is a part of the plan, so that it must not be "__main__.Judge".
    from tests.killed_sweep import main as start

    start(*sys.argv[1:])
