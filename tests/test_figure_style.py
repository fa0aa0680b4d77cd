"""The house style of every figure: theory dashed, measurement solid, colors that all can tell apart, words for a phone."""

import re
from itertools import combinations

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.contour import ContourSet
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.text import Text
from notebook_environment import ROOT
from test_figures import FIGURES

from plbook.figures import style

# Lines


def strokes(figure):
    """(color, dashed) of every line, curve and circle in the axes and in the legends."""
    shown = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    artists = [artist for axes in shown for artist in (*axes.lines, *axes.patches, *axes.collections)]
    artists += [handle for legend in figure.legends for handle in legend.legend_handles]
    for artist in artists:
        if isinstance(artist, Line2D) and artist.get_linestyle() != "None":
            yield to_hex(artist.get_color()).upper(), artist.get_linestyle() != "-"
        elif isinstance(artist, Circle):
            yield to_hex(artist.get_edgecolor()).upper(), artist.get_linestyle() not in ("-", "solid")
        elif isinstance(artist, LineCollection) or isinstance(artist, ContourSet) and not artist.filled:
            for color, (_, dashes) in zip(artist.get_edgecolor(), artist.get_linestyle()):
                yield to_hex(color).upper(), dashes is not None


def line_findings(figure):
    known = {style.THEORY, *style.SERIES, style.SINGULAR, style.SOLUTIONS, style.FAINT, style.NOTE}
    for color, dashed in strokes(figure):
        if color not in known:
            yield f"{color} has no meaning"
        elif dashed != (color == style.THEORY):
            yield f"{color} is {'dashed' if dashed else 'solid'}"


@pytest.mark.parametrize("name", FIGURES)
def test_theory_is_dashed_and_everything_else_solid(name):
    assert list(line_findings(FIGURES[name]())) == []


def test_the_lines_of_every_kind_are_seen():
    seen = {name: set(strokes(FIGURES[name]())) for name in ("descent", "radii_around", "domain", "against_angle")}
    assert seen["descent"] == {(style.MEASURED, False), (style.THEORY, True)}
    assert {(style.THEORY, True), (style.FAINT, False), (style.SOLUTIONS, False), (style.MEASURED, False)} == seen["radii_around"]
    assert (style.SINGULAR, False) in seen["domain"] and (style.MEASURED, False) in seen["against_angle"]


@pytest.mark.parametrize(
    "draw, finding",
    [
        (lambda axes: axes.plot([0, 1], color=style.THEORY), f"{style.THEORY} is solid"),
        (lambda axes: axes.plot([0, 1], ":", color=style.MEASURED), f"{style.MEASURED} is dashed"),
        (lambda axes: axes.plot([0, 1], color="red"), "#FF0000 has no meaning"),
        (lambda axes: axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=style.THEORY)), f"{style.THEORY} is solid"),
        (lambda axes: axes.contour([[0, 1], [1, 2]], colors=style.SINGULAR, linestyles="--"), f"{style.SINGULAR} is dashed"),
        (lambda axes: axes.vlines(0, 0, 1, color=style.THEORY), f"{style.THEORY} is solid"),
        (lambda axes: axes.figure.legend(handles=[Line2D([], [], color=style.THEORY)]), f"{style.THEORY} is solid"),
    ],
)
def test_a_line_against_the_style_is_found(draw, finding):
    with style.figure() as (figure, axes):
        draw(axes)
    assert set(line_findings(figure)) == {finding}


# Words

PHONE = 343  # CSS pixels that a figure gets on a screen of 375
MARGIN = 0.2  # inches that a notebook adds to what is drawn
SMALLEST = 9  # CSS pixels, the size of words, and of numbers at an axis


def word_findings(figure):
    width = figure.get_tightbbox().width + MARGIN
    for text in figure.findobj(Text):
        size = text.get_fontsize() / 72 / width * PHONE
        if text.get_text() and text.get_visible() and size < SMALLEST:
            yield f"{text.get_text()!r} is {size:.1f} pixels high on a phone"


@pytest.mark.parametrize("name", FIGURES)
def test_words_are_large_enough_on_a_phone(name):
    assert list(word_findings(FIGURES[name]())) == []


def test_small_words_and_wide_figures_are_found():
    with style.figure() as (figure, axes):
        axes.set_xlabel("small", fontsize=9)
    assert [finding[:7] for finding in word_findings(figure)] == ["'small'"]
    with style.figure(8.0) as (figure, axes):
        axes.set_xlabel("x")
    assert len(list(word_findings(figure))) > 10


# Colors

# How colors look to people who lack one kind of cone: Machado, Oliveira and Fernandes (2009), severity 1, linear RGB.
EYES = {
    "trichromat": np.eye(3),
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanope": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
SRGB_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
MEANINGS = ("MEASURED", "THEORY", "PL_REGION", "NON_CONVEX", "SINGULAR", "SOLUTIONS")
APART = 15  # in CIELAB, where about 2 is the smallest difference that is seen side by side


def linear(color):
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(color, ground="white"):
    """The ratio of the Web Content Accessibility Guidelines."""
    bright, dark = sorted((SRGB_TO_XYZ[1] @ linear(c) + 0.05 for c in (color, ground)), reverse=True)
    return bright / dark


def lab(color, eye):
    relative = SRGB_TO_XYZ @ np.clip(np.array(EYES[eye]) @ linear(color), 0, 1) / SRGB_TO_XYZ.sum(axis=1)
    x, y, z = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def alike(colors, eye, apart=APART):
    """The pairs of names whose colors an eye takes for nearly the same."""
    return [
        (one, other)
        for one, other in combinations(colors, 2)
        if np.linalg.norm(lab(colors[one], eye) - lab(colors[other], eye)) < apart
    ]


def dark_colors():
    """The colors of the explorables on a dark ground."""
    css = (ROOT / "book" / "_static" / "explorables" / "explorable.css").read_text(encoding="utf-8")
    block = re.search(r'html\[data-theme="dark"\] \.explorable \{(.*?)\}', css, flags=re.S)[1]
    return dict(re.findall(r"--([\w-]+): (#\w{6});", block))


def test_the_measures_of_color_are_those_of_the_books():
    assert contrast("black") == pytest.approx(21) and contrast("#767676") == pytest.approx(4.54, abs=0.01)
    assert lab("white", "trichromat") == pytest.approx([100, 0, 0], abs=0.01)
    assert lab("#FF0000", "trichromat") == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    # Gray is gray to every eye.
    assert [lab("#808080", eye) for eye in EYES] == [pytest.approx([53.59, 0, 0], abs=0.05)] * 4


@pytest.mark.parametrize("eye", EYES)
def test_every_eye_tells_the_meanings_apart(eye):
    assert alike({name: getattr(style, name) for name in MEANINGS}, eye) == []
    assert alike({color: color for color in style.SERIES}, eye, apart=14) == []
    ground = {name: getattr(style, name) for name in (*MEANINGS, "FAINT", "NOTE")} | {"ground": "white"}
    assert [pair for pair in alike(ground, eye, apart=12) if "ground" in pair] == []
    dark = dark_colors()
    names = ("measured", "theory", "pl-region", "singular", "solutions", "ground")
    assert alike({name: dark[name] for name in names}, eye, apart=10) == []


def test_colors_that_look_alike_to_some_are_found():
    """A magenta and a green of nearly the same lightness: far apart for most, nearly one for a deuteranope."""
    colors = {"magenta": "#B0005A", "green": "#00795A"}
    assert alike(colors, "trichromat") == [] and alike(colors, "deuteranope") == [("magenta", "green")]


def test_lines_stand_out_from_white_and_so_do_words():
    lines = {style.MEASURED, style.THEORY, *style.SERIES, style.SINGULAR, style.SOLUTIONS, style.FAINT, style.NOTE}
    assert {color: contrast(color) for color in lines if contrast(color) < 3} == {}
    words = (style.MEASURED, style.THEORY, style.SERIES[1], style.NOTE)
    assert {color: contrast(color) for color in words if contrast(color) < 4.5} == {}
    assert contrast("#56A3D9") < 3 and contrast("#D55E00") < 4.5, "a light blue, and Okabe and Ito's vermilion"
