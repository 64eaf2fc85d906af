"""Parameters on their way, with Adam's moments, in one file: all of it or nothing.

Chapter: axbench.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from steerlib.core.files import write_whole

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Checkpoint:
    """Where a fit is written, and from where it goes on.

    Args:
        path: a safetensors file; None: nothing is written.
        identity: all that decides the result, as text.
        parameters: by name; `load` changes them in place.
        optimizer: Adam's, over these parameters.
    """

    def __init__(
        self,
        path: str | Path | None,
        identity: str,
        parameters: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.identity = identity
        self.parameters, self.optimizer = parameters, optimizer

    def save(self, facts: Mapping[str, str], more: Mapping[str, Tensor] | None = None) -> None:
        """Write parameters and moments, with texts and other tensors beside them."""
        from safetensors.torch import save_file

        if self.path is None:
            return
        tensors = dict(more or {})
        for name, p in self.parameters.items():
            state = self.optimizer.state[p]
            tensors |= {name: p.detach()} | {f"{name}/{m}": state[m] for m in _MOMENTS}
        own = {name: value.cpu().contiguous() for name, value in tensors.items()}
        metadata = {"identity": self.identity, **facts}
        write_whole(self.path, lambda partial: save_file(own, partial, metadata=metadata))

    def load(self, more: Sequence[str] = ()) -> tuple[Mapping[str, str], dict[str, Tensor]] | None:
        """Parameters and moments as they were; the texts, and the other tensors by name.

        Returns:
            None where nothing has been written.

        Raises:
            ValueError: the file belongs to another fit.
        """
        from safetensors import safe_open

        if self.path is None or not self.path.exists():
            return None
        with safe_open(str(self.path), "pt") as file:
            facts = file.metadata() or {}
            if facts.get("identity") != self.identity:
                raise ValueError(
                    f"the checkpoint {self.path.name} belongs to another fit: it holds "
                    f"{facts.get('identity')}, this one is {self.identity}; remove it or name "
                    "another"
                )
            for name, p in self.parameters.items():
                with torch.no_grad():
                    p.copy_(file.get_tensor(name))
                moments = {m: file.get_tensor(f"{name}/{m}") for m in _MOMENTS}
                self.optimizer.state[p] = {
                    m: value if m == "step" else value.to(p.device) for m, value in moments.items()
                }
            return facts, {name: file.get_tensor(name) for name in more}
