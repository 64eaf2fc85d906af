"""One widget: move the strength, read the text.

It needs a live kernel; on the built page a static figure stands beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipywidgets import VBox

    from steerlib.core.interventions import Intervention
    from steerlib.core.model import Model


def strength_slider(
    model: Model,
    intervention: Intervention,
    prompt: str,
    low: float = -4.0,
    high: float = 4.0,
    max_new_tokens: int = 30,
) -> VBox:
    """Build a slider for the strength and a box for the prompt, with the steered text below.

    Args:
        model: the model that writes.
        intervention: what the strength multiplies.
        prompt: first prompt; the reader can change it.
        low, high: ends of the slider, in units of the intervention.
        max_new_tokens: length of the text.

    Raises:
        ValueError: ``low`` is not below ``high``.
    """
    if not low < high:
        raise ValueError(f"low = {low} is not below high = {high}; swap them.")
    from html import escape

    import ipywidgets as ui

    from steerlib.core.generation import generate
    from steerlib.core.steering import steer

    slider = ui.FloatSlider(0.0, min=low, max=high, step=(high - low) / 40, description="strength")
    box = ui.Text(prompt, description="prompt", continuous_update=False)
    text = ui.HTML()

    def write(_change: Any = None) -> None:
        with steer(model, slider.value * intervention):
            written = generate(model, box.value, max_new_tokens=max_new_tokens)
        text.value = f"<p>{escape(str(written))}</p>"

    slider.continuous_update = False
    slider.observe(write, "value")
    box.observe(write, "value")
    write()
    return ui.VBox([slider, box, text])
