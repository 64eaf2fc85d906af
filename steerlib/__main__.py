"""`python -m steerlib`: an unsteered and a steered generation, side by side."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from itertools import zip_longest

PROMPT = "tell me about the dog ."
# The world's model repeats itself when it always takes the likeliest word.
TEMPERATURE = 0.7


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        print(demonstrate(options))
    except (KeyError, ValueError) as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    p = argparse.ArgumentParser("python -m steerlib", description=__doc__)
    p.add_argument("--concept", default="weather", help="a concept of the world (default: weather)")
    p.add_argument("--strength", type=float, default=0.6, help="in units of the mean ||h||")
    p.add_argument("--prompt", default=PROMPT, help="what the model is asked")
    p.add_argument(
        "--model", default="world", help="a shipped model, a folder or a Hugging Face name"
    )
    p.add_argument("--layer", type=int, help="the block to steer (default: the middle one)")
    p.add_argument("--seed", type=int, default=0, help="of the concept's texts and of sampling")
    chat = p.add_mutually_exclusive_group()
    chat.add_argument("--chat", dest="chat", action="store_true", default=None)
    chat.add_argument("--raw", dest="chat", action="store_false", help="continue the raw text")
    return p


def demonstrate(options: argparse.Namespace) -> str:
    """Both generations as text in two columns."""
    plain, steered = generations(options)
    title = f"steered: {options.concept} x {options.strength:g}"
    columns = side_by_side(("unsteered", plain), (title, steered))
    return f"{options.model}: {options.prompt}\n\n{columns}"


def generations(options: argparse.Namespace) -> tuple[str, str]:
    """The model's answer to the prompt without and with steering."""
    import steerlib as st

    st.setup(seed=options.seed)
    data = st.world.concept(options.concept, seed=options.seed).train
    model = st.load(options.model, engine="hf")
    layer = (model.n_layers - 1) // 2 if options.layer is None else options.layer
    direction = st.diff_means(model, data, st.resid(layer))
    vector = direction.relative(model, data.texts[:64]).at(st.last | st.generation)

    def answer() -> str:
        return st.generate(
            model, options.prompt, temperature=TEMPERATURE, seed=options.seed, chat=options.chat
        )

    plain = answer()
    with st.steer(model, vector, strength=options.strength):
        return plain, answer()


def side_by_side(*columns: tuple[str, str]) -> str:
    """Titled texts in columns of equal width."""
    width = (shutil.get_terminal_size((100, 24)).columns - 3) // len(columns)
    wrapped = [
        [*textwrap.wrap(t, width), "-" * width, *textwrap.wrap(x, width)] for t, x in columns
    ]
    lines = zip_longest(*wrapped, fillvalue="")
    return "\n".join(" | ".join(cell.ljust(width) for cell in line).rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
