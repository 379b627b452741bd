"""Hostile input made from sound input, the same again for the same seed.

In: a seed text and a random generator. Out: bytes that a stranger might send. Rule: nothing but the generator decides,
so one number replays one input.
"""

import random
from collections.abc import Callable
from typing import Final

HOSTILE: Final = (
    b"", b"\0", b"\xff\xfe", b"\n", b"\r\n\r\n", b"nan", b"inf", b"-1", b"1e999", b"9" * 40, b"-" * 3, b"null", b"{}",
    b"[]", b'"', b"{", b"[" * 60, b"\\ud800", "\u2028".encode(), "\u0663".encode(), b"%s", b"$(X)", b"'", b"#", b"\x1b",
    b":", b"|", b"|@0", b"|@1e-300", b"=", b"--", b"()", b"true", b"0x", b"\\777", b"..", b"/", b"@", b"[" * 3000,
)  # fmt: skip
"""What parsers have stumbled over: ends, numbers that are none, surrogates, digits of other scripts, deep nesting."""
LONGEST: Final = 6000

Mutation = Callable[[bytearray, random.Random], None]


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    del data[place : place + chance.randrange(1, 40)]


def _end(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _insert(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    data[place:place] = chance.choice(HOSTILE)


def _replace(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    data[place : place + chance.randrange(1, 8)] = chance.choice(HOSTILE)


def _repeat(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    piece = data[place : place + chance.randrange(1, 60)]
    data[place:place] = piece * chance.randrange(1, 8)


def _noise(data: bytearray, chance: random.Random) -> None:
    data[:] = chance.randbytes(chance.randrange(200))


MUTATIONS: Final[tuple[Mutation, ...]] = (_flip, _cut, _end, _insert, _insert, _replace, _replace, _repeat, _noise)


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """The seed after one to five mutations."""
    data = bytearray(seed)
    for _ in range(chance.randrange(1, 6)):
        chance.choice(MUTATIONS)(data, chance)
    return bytes(data[:LONGEST])
