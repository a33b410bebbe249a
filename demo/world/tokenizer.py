"""A small CLIP tokenizer: byte-level BPE whose merges make every word of the grammar one token.

Any other text still works, spelled byte by byte. The layout is that of CLIP's own vocabulary: 256 bytes, 256 bytes
that end a word, the merges in order, then the two special tokens; so ``<|endoftext|>`` has the largest number.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from demo.world.grammar import COLOURS, NUMBERS, PLACES, RELATIONS, SHAPES, SIZES, STYLES

MAX_LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"


def words() -> list[str]:
    """List every word a prompt of the grammar can hold."""
    phrases = [
        *COLOURS,
        *SHAPES,
        *SIZES,
        *NUMBERS.values(),
        *PLACES,
        *RELATIONS,
        *STYLES,
        "a an and on background",
    ]
    phrases += [shape + ("es" if shape == "cross" else "s") for shape in SHAPES]
    return sorted({word for phrase in phrases for word in phrase.replace(",", " ").split()})


def merges_for(texts: list[str]) -> list[tuple[str, str]]:
    """Learn merges until every word is one token: the most frequent neighbours first, ties in order of spelling."""
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in texts]
    merges = []
    while pairs := Counter(pair for parts in spelled for pair in pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merge(parts, best) for parts in spelled]
    return merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def byte_alphabet() -> list[str]:
    """The printable character that stands for each byte, in the order of CLIP's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(hidden))]


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Build the vocabulary and its merges."""
    letters = byte_alphabet()
    merges = merges_for(words())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def write(folder: Path) -> None:
    """Write the files that ``CLIPTokenizer.from_pretrained`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers, merges = vocabulary()
    special = {
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    settings = {**special, "model_max_length": MAX_LENGTH, "do_lower_case": True, "add_prefix_space": False}
    (folder / "vocab.json").write_text(json.dumps(numbers, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", "utf-8")
    settings["tokenizer_class"] = "CLIPTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
