"""The book's Sphinx extension: recorded numbers, API reference, pages that need no network.

It defines no directive. `recorded.py` makes `{{ claims.<chapter>.<name> }}` available to the pages,
`report.py` the report cards of the embedded models as `{{ report.<section> }}`,
`reference.py` fills the API page from the source text, `offline.py` makes the HTML self-contained.
"""

import offline
import recorded
import reference
import report
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the four parts."""
    recorded.setup(app)
    report.setup(app)
    reference.setup(app)
    offline.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
