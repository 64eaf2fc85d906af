"""Write the repository's address everywhere: `make stamp URL=https://github.com/me/my-fork`.

`_config.yml` holds the address; every other place is a copy of it. Without an address the copies
are only brought in line with it. The set-up cell of the notebooks is made here too, so that it is
the same everywhere.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
SETTING = re.compile(r"^  url: (https://github\.com/\S+)$", re.MULTILINE)
PATTERNS = ("*.md", "*.yml", "*.toml", "*.cff", "*.ipynb")
FIRST_LINE = "# Set-up: this cell is the same in every notebook."
SETUP = f"""{FIRST_LINE}
import sys

REPOSITORY = "{{url}}"
if "google.colab" in sys.modules:
    if "/OWNER/" in REPOSITORY:
        sys.exit(
            "This copy has no address yet, so Colab "
            "cannot install steerlib. Its owner runs "
            "`make stamp URL=...` and pushes."
        )
    %pip install -q "steerlib @ git+{{{{REPOSITORY}}}}"

import steerlib as st

print(st.setup(seed=0))"""


def repository() -> str:
    """The address in `_config.yml`."""
    found = SETTING.search((ROOT / "_config.yml").read_text(encoding="utf-8"))
    if not found:
        raise ValueError("_config.yml has no line `  url: https://github.com/...`")
    return found[1]


def slug(url: str) -> str:
    """`owner/name` of a GitHub address."""
    found = ADDRESS.fullmatch(url)
    if not found:
        raise ValueError(f"{url!r} is no address of the form https://github.com/owner/name")
    return found[1]


def setup_cell(url: str) -> str:
    """The source of every notebook's first code cell."""
    return SETUP.format(url=url)


def tracked() -> list[Path]:
    """The files of this repository that may hold its address."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *PATTERNS]
    found = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [ROOT / name for name in found.stdout.split("\0") if name]
    return [path for path in paths if path.exists()]


def restamp(path: Path, old: str, new: str) -> None:
    """Replace the address in one file, and the set-up cell if it is a notebook."""
    before = path.read_text(encoding="utf-8")
    after = before.replace(slug(old), slug(new))
    if path.suffix == ".ipynb":
        after = with_setup_cell(after, new)
    if after != before:
        path.write_text(after, encoding="utf-8")
        print(f"stamped {path.relative_to(ROOT)}")


def with_setup_cell(text: str, url: str) -> str:
    """The notebook with its set-up cell made anew."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if "".join(cell["source"]).startswith(FIRST_LINE):
            cell["source"] = setup_cell(url).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    """Stamp every file with the given address, or with the one that `_config.yml` holds."""
    old = repository()
    new = f"https://github.com/{slug(arguments[0])}" if arguments else old
    for path in tracked():
        restamp(path, old, new)


if __name__ == "__main__":
    main(sys.argv[1:])
