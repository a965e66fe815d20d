"""Rendered scenes with captions by grammar: two coloured shapes side by side. A pure function of the scene's number."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64
COLOURS = {"red": (204, 40, 40), "green": (40, 150, 60), "blue": (40, 70, 200), "yellow": (235, 205, 40),
           "purple": (130, 50, 160), "white": (245, 245, 245)}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "diamond")
PLACES = {"a dark": (25, 25, 30), "a grey": (125, 125, 125)}
FORMS = (
    "{a} next to {b} on {place} background",
    "there is {a} on the left and {b} on the right",
    "{a} is to the left of {b}",
    "{b} is to the right of {a}",
    "a picture of {a} and {b}",
)


class Thing(NamedTuple):
    """One of the two things in a scene."""

    size: str
    colour: str
    shape: str

    @property
    def words(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"


def scene(number: int) -> tuple[list[str], Callable[[], bytes]]:
    """(five sentences, a function that gives the scene as a PNG file of 64 x 64 pixels)."""
    draw = np.random.default_rng(number)
    left, right = (
        Thing(str(draw.choice(["small", "big"])), str(draw.choice(list(COLOURS))), str(draw.choice(SHAPES)))
        for _ in range(2)
    )
    place = str(draw.choice(list(PLACES)))
    jitter = draw.integers(-3, 4, (2, 2)).tolist()
    sentences = [form.format(a=left.words, b=right.words, place=place) for form in FORMS]
    return sentences, partial(render, left, right, place, jitter)


def render(left: Thing, right: Thing, place: str, jitter: list[list[int]]) -> bytes:
    """The PNG file of a scene; each thing's centre is moved by its `jitter` (x, y), in pixels."""
    picture = Image.new("RGB", (SIDE, SIDE), PLACES[place])
    pencil = ImageDraw.Draw(picture)
    for thing, middle, (dx, dy) in zip((left, right), (SIDE // 4, 3 * SIDE // 4), jitter, strict=True):
        x, y, r = middle + dx, SIDE // 2 + dy, 7 if thing.size == "small" else 12
        corners = {"square": [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
                   "triangle": [(x, y - r), (x + r, y + r), (x - r, y + r)],
                   "diamond": [(x, y - r), (x + r, y), (x, y + r), (x - r, y)]}  # fmt: skip
        if thing.shape == "circle":
            pencil.ellipse((x - r, y - r, x + r, y + r), fill=COLOURS[thing.colour])
        else:
            pencil.polygon(corners[thing.shape], fill=COLOURS[thing.colour])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
