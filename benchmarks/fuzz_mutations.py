"""Damage: bytes that are changed, and values of JSON or YAML that become others."""

import copy
from typing import Any

import numpy as np

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**63, -(2**63), 10**12, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "0", "1e-3", "x", "vit", "bert", "../..", "\x00", "é", [], {}, [1], [[]], {"a": 1}, ["x", None], "x" * 1000,
)  # fmt: skip


def damage_bytes(content: bytes, generator: np.random.Generator, *, keep_length: bool = False) -> bytes:
    """One change or a few to random places of a file."""
    for _ in range(generator.geometric(0.6)):
        content = _damage_once(content, generator, 3 if keep_length else 7)
    return content


def _damage_once(content: bytes, generator: np.random.Generator, ways: int) -> bytes:
    data = bytearray(content)
    start = int(generator.integers(0, len(data) + 1))
    if generator.random() < 0.3:
        start = min(start, int(generator.integers(0, 64)))  # heads are where the damage is
    end = min(len(data), start + int(generator.integers(1, 17)))
    noise = generator.bytes(end - start)
    way = generator.integers(0, ways)
    if way == 0:
        data[start:end] = noise
    elif way == 1 and start < len(data):
        data[start] ^= 1 << int(generator.integers(0, 8))
    elif way == 2:
        data[start:end] = bytes([int(generator.choice([0, 255]))]) * (end - start)
    elif way == 3:
        del data[start:]
    elif way == 4:
        del data[start:end]
    elif way == 5:
        data[start:start] = noise
    else:
        data[start:start] = data[max(0, start - int(generator.integers(1, 200))) : start]
    return bytes(data)


def damage_value(value: Any, generator: np.random.Generator) -> Any:
    """A copy of a nested value, in which one to three entries are gone, doubled or another value."""
    value = copy.deepcopy(value)
    for _ in range(generator.integers(1, 4)):
        places = list(_containers(value))
        place = places[int(generator.integers(0, len(places)))] if places else None
        if place is None or not len(place) or generator.random() < 0.02:
            value = random_value(generator)
            continue
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[int(generator.integers(0, len(keys)))]
        way = generator.integers(0, 8)
        if way == 0:
            del place[key]
        elif way == 1 and isinstance(place, dict):
            place[f"{key}x"] = place.pop(key)
        elif way == 2:
            place[key] = [place[key]]
        elif way == 3 and isinstance(place[key], int | float):
            place[key] = place[key] * float(generator.choice([-1, 0.5])) + 3
        else:
            place[key] = random_value(generator)
    return value


def random_value(generator: np.random.Generator) -> Any:
    """A value of JSON that hardly anybody expects."""
    return copy.deepcopy(_VALUES[int(generator.integers(0, len(_VALUES)))])


def _containers(value: Any) -> Any:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _containers(inner)
