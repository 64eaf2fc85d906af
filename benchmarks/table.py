"""The speed table of README.md, made from `data/results/bench.json` and from nothing else."""

from typing import Any

START, END = "<!-- speed: written by `make bench` -->", "<!-- end of speed -->"
# Row: what was compared, the claim, how it is printed, what the design asks for.
ROWS = [
    ("steered decoding : unsteered, engine `hf`", "steered_hf", "{:.2f} ×", "≥ 0.97"),
    ("steered decoding : unsteered, engine `bridge`", "steered_bridge", "{:.2f} ×", "≥ 0.97"),
    ("decoding, engine `hf` : engine `bridge`", "hf_to_bridge", "{:.2f} ×", ""),
    ("steered decoding : `hf.generate` with a bare hook", "steered_to_bare", "{:.2f} ×", ""),
    ("`capture` at one middle layer : bare forward to it", "capture_to_bare", "{:.2f} ×", "≥ 0.90"),
    ("`capture` : keeping all hidden states", "capture_to_hidden", "{:.2f} ×", ""),
    ("activations held by `capture`", "capture_bytes", "{:,.0f} bytes", "what it returns"),
    ("... by keeping all hidden states", "hidden_bytes", "{:,.0f} bytes", ""),
    ("`diff_means` from 1,008 texts", "fit_diff_means_seconds", "{:.2f} s", "≤ 5 s"),
    ("`pca` from them", "fit_pca_seconds", "{:.2f} s", "≤ 5 s"),
    ("`lat` from them", "fit_lat_seconds", "{:.2f} s", "≤ 5 s"),
    ("`probe` from them", "fit_probe_seconds", "{:.2f} s", "≤ 5 s"),
    ("`sweep` : one `generate` per prompt and strength", "sweep_to_single", "{:.1f} ×", "≥ 5"),
    ("... answers that differ, each by a tie of two tokens", "sweep_ties", "{:.0f}", ""),
    ("225 scalars of the world model, 120 steps", "fit_scalars_seconds", "{:.1f} s", "≤ 20 s"),
    ("both directions of 16 prompts : one by one", "flip_to_single", "{:.1f} ×", ""),
    ("10 settings at the last token : one pass each", "calibrate_last", "{:.1f} ×", ""),
    ("... at all tokens of three layers : one pass each", "calibrate_layers", "{:.1f} ×", ""),
    ("BiPO step, one sign, reference kept : anew", "preference_one", "{:.2f} ×", "≥ 1.3"),
    ("... both signs on each batch", "preference_both", "{:.2f} ×", "≥ 1.3"),
    ("SAE, read and learned (1 M in 5 min)", "sae_rate", "{:,.0f} tokens/s", "≥ 3,300"),
    ("`value_scores`, expected answers", "answer_rate", "{:,.0f} prompts/s", ""),
    ("`import steerlib`", "import_seconds", "{:.2f} s", "≤ 0.2 s"),
    ("first use: import and `load`", "first_use_seconds", "{:.1f} s", "≤ 6 s"),
    ("`load`, once torch is imported", "load_seconds", "{:.2f} s", "≤ 1 s"),
    ("training the world model", "training_tokens_per_second", "{:,.0f} tokens/s", ""),
]


def render(results: dict[str, Any]) -> str:
    """The Markdown table of the recorded figures; a figure without a record has no row."""
    lines = ["| compared | measured | aim |", "|---|---|---|"]
    for title, name, form, aim in ROWS:
        if name in results:
            lines.append(f"| {title} | {form.format(results[name]['value'])} | {aim} |")
    return "\n".join(lines)


def insert(readme: str, results: dict[str, Any]) -> str:
    """README.md with its table made anew."""
    before, rest = readme.split(START)
    return f"{before}{START}\n{render(results)}\n{END}{rest.split(END)[1]}"
