"""Execute the notebooks in place: outputs are stored, claims recorded, volatile metadata dropped.

`python tools/notebooks.py [name ...]`; without a name, all of them. Run twice without a change, it
leaves the same bytes.
"""

import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
ENVIRONMENT = {"STEERLIB_RECORD": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"
# What differs from run to run or from machine to machine: addresses of objects, folders.
VOLATILE = [(r" at 0x[0-9a-f]{6,}", ""), (re.escape(f"{ROOT}{os.sep}"), "")]


def execute(path: Path) -> None:
    """Run one notebook and write it back with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # how a text is cut into pieces differs from run to run
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    client.execute()
    normalise(notebook)
    nbformat.write(notebook, path)


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Drop what another run would write differently."""
    kept = {key: value for key, value in notebook.metadata.items() if key == "mystnb"}
    notebook.metadata = nbformat.from_dict(
        {**kept, "kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [steady(output) for output in cell.outputs if keep(output)]


def keep(output: nbformat.NotebookNode) -> bool:
    """Live widgets draw nothing in a stored notebook, and progress bars only noise."""
    text = output.text if output.output_type == "stream" and output.name == "stderr" else "kept"
    bar = "it/s" in text or not text.strip()
    return not bar and WIDGET not in output.get("data", {})


def steady(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The output without addresses of objects and folders of this machine."""
    if output.output_type == "stream":
        output.text = scrub(output.text)
    if output.output_type == "error":
        output.traceback = [scrub(line) for line in output.traceback]
    if "text/plain" in output.get("data", {}):
        output.data["text/plain"] = scrub(output.data["text/plain"])
    return output


def scrub(text: str) -> str:
    """The text without what is volatile."""
    for pattern, replacement in VOLATILE:
        text = re.sub(pattern, replacement, text)
    return text


def main(names: list[str]) -> None:
    """Execute the named notebooks, or all."""
    os.environ.update(ENVIRONMENT)
    paths = [NOTEBOOKS / f"{name}.ipynb" for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in paths:
        start = time.perf_counter()
        execute(path)
        print(f"{path.relative_to(ROOT)}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
