"""What the notebooks need beyond the library: exercise checks, figures and one widget.

Imported as ``from steerlib.teaching import checks, plots, widgets``; nothing else depends on it.
"""
