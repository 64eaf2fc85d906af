"""README.md: its figures, its links, its picture and its quick start are true."""

import json
import re
import subprocess
import sys

import pytest

from steerlib.world import judge
from tests.loading import ROOT, load_script


def test_the_speed_table_is_the_recorded_one() -> None:
    from benchmarks.table import END, START, render

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.split(START)[1].split(END)[0].strip()
    results = json.loads((ROOT / "data" / "results" / "bench.json").read_text(encoding="utf-8"))
    assert shown == render(results).strip(), "run `make bench`"


def test_readme_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", readme)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_quick_start_of_the_readme_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if not (ROOT / "data" / "world" / "config.json").exists():
        pytest.skip("data/world is not there yet: `make world` trains it")
    program = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert program
    ran = subprocess.run([sys.executable, "-c", program[1]], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert judge(ran.stdout.strip(), "weather", topic="dog").concept > 0, ran.stdout


def test_the_picture_of_the_readme_shows_what_the_command_prints() -> None:
    if not (ROOT / "data" / "world" / "config.json").exists():
        pytest.skip("data/world is not there yet: `make world` trains it")
    picture = load_script("tools", "picture")
    drawn = picture.draw(picture.answer(), picture.concept_words())
    assert picture.PICTURE.read_text(encoding="utf-8") == drawn, "run tools/picture.py"
