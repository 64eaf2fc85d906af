"""Draw README's picture: a terminal with a real answer of the shipped model, plain and steered.

`python tools/picture.py` runs `python -m steerlib` and writes what it printed as an SVG.
"""

import os
import subprocess
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "book" / "assets" / "steered.svg"
CONCEPT, COLUMNS = "weather", 84
CHARACTER, LINE, MARGIN = 8.43, 21, 22  # pixels, for the monospaced 14 px font below
PAPER, INK, FAINT, ACCENT = "#16202c", "#e8edf2", "#8fa3b5", "#f4a261"
COMMAND = f"python -m steerlib --concept {CONCEPT}"


def answer() -> str:
    """What the command prints in a terminal of the picture's width."""
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *COMMAND.split()[1:]]
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout.rstrip("\n")


def concept_words() -> set[str]:
    """The words that the judge counts for the concept."""
    from steerlib.world import lexicon_words

    return set(lexicon_words(CONCEPT))


def marked(line: str, words: set[str]) -> str:
    """The line with the concept's words in the accent colour."""
    parts = [
        f'<tspan fill="{ACCENT}">{escape(word)}</tspan>' if word in words else escape(word)
        for word in line.split(" ")
    ]
    return " ".join(parts)


def draw(text: str, words: set[str]) -> str:
    """The terminal as an SVG that needs no font and no script of its own."""
    lines = [f'<tspan fill="{FAINT}">$</tspan> {COMMAND}', ""]
    lines += [marked(line, words) for line in text.splitlines()]
    width, height = round(2 * MARGIN + COLUMNS * CHARACTER), 2 * MARGIN + len(lines) * LINE
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + LINE * number + 15}" xml:space="preserve">{line}</text>'
        for number, line in enumerate(lines)
        if line
    ]
    style = "font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">\n'
        f'<rect width="{width}" height="{height}" rx="10" fill="{PAPER}"/>\n'
        f'<g fill="{INK}" font-size="14" {style}>\n' + "\n".join(rows) + "\n</g>\n</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(answer(), concept_words()), encoding="utf-8")
