"""BERT's tokenizer as BLIP uses it, from a vocabulary file alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor

from imagereward_ext.errors import WeightsError
from imagereward_ext.wording import well_formed

_MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BLIP_MARKS = ("[DEC]", "[ENC]")  # appended to BERT's vocabulary


@dataclass(frozen=True)
class Tokens:
    """Token ids and the mask of the real ones, both (b, window)."""

    ids: Tensor
    mask: Tensor

    def trimmed(self) -> Tokens:
        """Leave out the columns that are padding in every prompt: nothing attends to them."""
        length = int(self.mask.any(0).nonzero().max()) + 1
        return Tokens(self.ids[:, :length], self.mask[:, :length])


class WordPieceTokenizer:
    """Cuts prompts into the model's window: `[CLS]`, the words, `[SEP]`, padding."""

    def __init__(self, vocabulary: Path, window: int) -> None:
        tokens = _read_vocabulary(vocabulary)
        self.window = window
        self.size = len(tokens) + len(_BLIP_MARKS)
        self._pad, self._cls, self._sep = (tokens[mark] for mark in ("[PAD]", "[CLS]", "[SEP]"))
        self._tokenizer = Tokenizer(WordPiece(tokens, unk_token="[UNK]", max_input_chars_per_word=100))
        self._tokenizer.normalizer = BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = BertPreTokenizer()
        self._tokenizer.add_special_tokens([*_MARKS, *_BLIP_MARKS])
        self._encode = lru_cache(maxsize=1024)(self._encode_uncached)

    def __call__(self, prompts: list[str], device: torch.device) -> Tokens:
        """Encode a batch of prompts."""
        ids = torch.tensor([self._encode(prompt)[0] for prompt in prompts], device=device)
        return Tokens(ids, (ids != self._pad).long())

    def unread(self, prompt: str) -> str:
        """Return the end of the prompt that does not fit into the window."""
        return prompt[self._encode(prompt)[1] :].strip()

    def _encode_uncached(self, prompt: str) -> tuple[list[int], int]:
        encoding = self._tokenizer.encode(well_formed(prompt), add_special_tokens=False)
        room = self.window - 2  # [CLS] and [SEP]
        ids = [self._cls, *encoding.ids[:room], self._sep]
        read_to = encoding.offsets[room][0] if len(encoding.ids) > room else len(prompt)
        return ids + [self._pad] * (self.window - len(ids)), read_to


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        with path.open(encoding="utf-8") as file:
            lines = list(file)  # str.splitlines would also cut at rarer characters
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"the vocabulary {path} cannot be read: {error}") from error
    tokens = {line.rstrip("\n"): number for number, line in enumerate(lines)}
    if missing := [mark for mark in _MARKS if mark not in tokens]:
        raise WeightsError(f"{path} is no BERT vocabulary: {', '.join(missing)} is not in it")
    return tokens
