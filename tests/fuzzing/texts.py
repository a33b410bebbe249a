"""Infotexts: as WebUIs leave them, as extensions spoil them, and as somebody would write them who means harm."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.prompt import plain_prompt
from imagereward_ext.metadata.score_mark import ScoreMark, find_mark, find_marks, with_mark, without_marks
from tests.fuzzing import without_a_part

smaller = without_a_part

PROMPT_PIECES = (
    *"a,:|()[]<>\\ .1\"'",
    *("fox", "red", "masterpiece", "狐狸", "שועל", "🦊", "naïve", "BREAK", "AND", "\n", "\r", "\t", "\u2028"),
    *("(cat:1.3)", "[a|b]", "[a:b:0.5]", "[:x:3]", "<lora:fur:0.8>", "((", "))", ":-1 AND", r"\(x\)"),
    *("Negative prompt:", "\nNegative prompt: ", "Steps: 20", "\ud800", "\x00", "\ufeff", "\u202e", "{x|y}"),
)
KEYS = ("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model hash", "Model", "Lora hashes", "Version", "X-1/2",
        "ImageReward", "ImageReward hash", "ImageReward prompt", "ImageReward Score", "k", "_", "é" * 99)  # fmt: skip
VALUES = ("20", "Euler a", "7", "512x768", "1a2b3c4d5e", '"fur: 1a, b: 2c"', '"', '"oh', 'y"', '"a" b', '"\\"', '""',
          '"\\ud800"', ",", "", " ", "\t", "\\", '"\\u002c"', "0.5", "nan", "9" * 400, "a: b", "x" * 120)  # fmt: skip
LINES_BELOW = (
    "\nImageReward Score: 0.5300",
    "\n ImageReward Score: x",
    "\n",
    " ",
    "\nImageReward Score: a b",
)

GROWING: dict[str, Callable[[int], str]] = {
    "separators": lambda n: ", " * n + "x\nSteps: 20, Sampler: Euler a, CFG scale: 7",
    "separators alone": lambda n: " ," * n,
    "separators and tags": lambda n: (", " * 9 + "<lora:x:1>") * (n // 20) + ", x",
    "brackets of two kinds": lambda n: "(" * n + "]" * n,
    "nested brackets": lambda n: "(" * n + "a" + ")" * n,
    "open brackets": lambda n: "(a" * n,
    "nested weights": lambda n: "(1:" * n + "1" + ")" * n,
    "nested alternatives": lambda n: "[ |" * n + "a" + "]" * n,
    "nested blanks": lambda n: "[ |" * n + "]" * n,
    "escapes": lambda n: r"\a" * n,
    "smileys": lambda n: ":)" * n,
    "tags that do not end": lambda n: "<a:" * n,
    "tags in tags": lambda n: "<a:" * n + "x" + ">" * n,
    "breaks": lambda n: ", BREAK" * n + " x",
    "ands": lambda n: "a:1 AND " * n,
    "a weight without an end": lambda n: "a AND b:" + "1" * n + "x",
    "blanks": lambda n: "a\nSteps: 1, Seed: 2, Size: 3x3" + " " * n + "x",
    "blanks before a colon": lambda n: "a\nSteps: 1, Seed: 2, Size" + " " * n + ": 3x3",
    "one long key": lambda n: "a" * n + ": 1, Seed: 2, Size: 3x3",
    "colons": lambda n: "a\nSteps: 1, Seed: 2, Size: " + ":" * n,
    "pairs": lambda n: "a\n" + "Aa: 1," * n,
    "pairs of one key": lambda n: "a\n" + "ImageReward: 0.5, " * n,
    "open strings": lambda n: 'a\nSteps: 1, Seed: 2, Size: 3' + ', Aa: "x' * n,
    "escaped quotes": lambda n: 'a\nSteps: 1, Seed: 2, Aa: "' + '\\", Bb: ' * n,
    "backslashes": lambda n: 'a\nSteps: 1, Seed: 2, Aa: "' + "\\" * n,
    "score lines": lambda n: "a\nSteps: 1, Seed: 2, Size: 3x3" + "\nImageReward Score: 1" * n,
    "marks": lambda n: "a\nSteps: 1" + "".join(f", L{i}: 1, L{i} hash: 0123456789" for i in range(n)),
    "lines": lambda n: "\n" * n + "x" + "\n" * n,
    "negative prompts": lambda n: "Negative prompt: x\n" * n,
    "halves of letters": lambda n: "\ud800" * n,
    "words": lambda n: "word " * n,
}  # fmt: skip
"""Texts that take a careless reader longer than their length accounts for."""


def cases(seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    while True:
        text = realistic(chance) if chance.random() < 0.5 else hostile(chance)
        yield spoiled(chance, text) if chance.random() < 0.5 else text


def realistic(chance: random.Random) -> str:
    """Make a text as a WebUI writes it."""
    words = [
        "a red fox",
        "masterpiece",
        "(snow:1.2)",
        "<lora:fur:0.8>",
        "[dawn:dusk:0.4]",
        "8k",
        "1girl",
        "BREAK",
    ]
    prompt = ", ".join(chance.choices(words, k=chance.randint(1, 12)))
    negative = "\nNegative prompt: " + ", ".join(chance.choices(words, k=3)) if chance.random() < 0.8 else ""
    fields = {
        "Steps": str(chance.randint(1, 150)),
        "Sampler": chance.choice(["Euler a", "DPM++ 2M Karras", "UniPC"]),
        "CFG scale": str(chance.randint(1, 30)),
        "Seed": str(chance.randrange(2**32)),
        "Size": "512x768",
        "Model hash": f"{chance.randrange(16**10):010x}",
        "Lora hashes": "fur: 1a2b3c, b: 2c",
        "Template": "a {red|blue} fox,\nBREAK",
        "Version": "v1.10.1",
    }
    kept = [key for key in fields if chance.random() < 0.8]
    return prompt + negative + "\n" + ", ".join(f"{key}: {infotext.quote(fields[key])}" for key in kept)


def hostile(chance: random.Random) -> str:
    """Make a text of pieces that mean something to a parser."""
    prompt = "".join(chance.choices(PROMPT_PIECES, k=chance.randint(0, 25)))
    if chance.random() < 0.1:
        prompt += GROWING[chance.choice(list(GROWING))](chance.randint(1, 60))
    pairs = [
        f"{chance.choice(KEYS)}{chance.choice([': ', ':', ' :'])}{chance.choice(VALUES)}"
        for _ in range(chance.randint(0, 9))
    ]
    return prompt + "\n" + chance.choice([", ", ",", " "]).join(pairs) + chance.choice(["", *LINES_BELOW])


def spoiled(chance: random.Random, text: str) -> str:
    """Cut, double or overwrite a piece of a text."""
    start, end = sorted(chance.choices(range(len(text) + 1), k=2))
    middle = chance.choice(["", text[start:end] * 2, chance.choice(PROMPT_PIECES), chance.choice(VALUES)])
    return text[:start] + middle + text[end:]


def check(case: str) -> str | None:
    """Hold the readers and writers of infotexts to what they promise of any text."""
    try:
        return _broken_promise(case)
    except MetadataError as error:
        return None if len(case) > infotext.LONGEST else f"refused: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _broken_promise(text: str) -> str | None:
    before = infotext.parse(text)
    prompt = plain_prompt(before.prompt)
    prompt.encode()  # whole letters
    if prompt != " ".join(prompt.split()):
        return "the plain prompt has blanks to spare"
    mark = ScoreMark("ImageReward", 0.25, "1a2b3c4d5e", None if len(text) % 2 else ', "a: b')
    scored = prompt if mark.prompt is None else mark.prompt
    written = with_mark(text, mark, scored)
    after = infotext.parse(written)
    found = find_mark(written, "ImageReward")
    if found is None or not found.answers("ImageReward", "1a2b3c4d5e", scored, prompt):
        return f"the mark does not come back: {found}"
    if with_mark(written, mark, scored) != written:
        return "the same mark again changes the text"
    if (after.prompt, after.negative_prompt) != (before.prompt, before.negative_prompt):
        return "the mark changes a prompt"
    if _foreign(after) != _foreign(before):
        return f"the mark changes fields: {_foreign(before)} to {_foreign(after)}"
    bare = without_marks(written)
    if not infotext.has_parameter_line(bare):
        return None
    labels = tuple(found.label for found in find_marks(written))
    kept = {key: value for key, value in after.fields.items() if not key.startswith(labels)}
    if {
        key: value for key, value in infotext.parse(bare).fields.items() if not key.startswith(labels)
    } != kept:
        return "taking the marks out changes fields"
    return f"taking the marks out leaves {find_marks(bare)}" if find_marks(bare) else None


def _foreign(said: infotext.Infotext) -> dict[str, str]:
    return {key: value for key, value in said.fields.items() if not key.startswith("ImageReward")}
