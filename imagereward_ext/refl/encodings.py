"""The prompts of a run as the UNet hears them: encoded once, unless the text encoder is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.text import Conditioning, concatenate

AT_ONCE = 16


class Encodings:
    """Prompts by number.

    Frozen text encoders run once over every prompt the run will meet and are dropped then. A trained one stays
    and runs anew for each batch, with its gradient.
    """

    def __init__(
        self, parts: DiffusionParts, prompts: Sequence[str], negative: str = "", trained: bool = False
    ) -> None:
        self.prompts = prompts
        self._parts = parts
        self._negative = negative
        self._trained = trained
        self._known: dict[str, Conditioning] = {}

    @torch.no_grad()
    def prepare(self, texts: Iterable[str]) -> None:
        """Encode prompts ahead, and drop the text encoders."""
        if self._trained:
            return
        wanted = [text for text in dict.fromkeys([*texts, self._negative]) if text not in self._known]
        for start in range(0, len(wanted), AT_ONCE):
            chunk = wanted[start : start + AT_ONCE]
            rows = self._parts.encode(chunk).to(torch.device("cpu"))
            self._known |= {text: rows.rows([index]) for index, text in enumerate(chunk)}
        self._parts.drop_text_encoders()

    def __call__(self, texts: Sequence[str]) -> Conditioning:
        """Return the conditioning of some prompts."""
        if self._trained:
            return self._parts.encode(texts)
        return concatenate([self._known[text] for text in texts]).to(self._parts.device)

    def with_negative(
        self, texts: Sequence[str], guidance: float
    ) -> tuple[Conditioning, Conditioning | None]:
        """Return the conditioning, and the unconditional one where guidance needs it."""
        if guidance <= 1:
            return self(texts), None
        return self(texts), self._parts.as_negative(self([self._negative] * len(texts)), self._negative)
