"""Figures as SVG elements of an HTML page, in the page's own colors."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from facedet_mm.report.figures import INK, STYLE

__all__ = ["inline_svg"]


def inline_svg(figure: Figure, description: str) -> str:
    """Returns a figure as an SVG element for an HTML page.

    What a figure's parts are named appears when the mouse is over them; the IDs of the parts become classes. No part
    has a fixed color: each refers to a variable of the page's style sheet.

    Args:
        figure: Figure made by :mod:`facedet_mm.report.figures`.
        description: Text for those who do not see the chart, different for each chart of a page.

    Example:
        >>> import numpy as np
        >>> from facedet_mm.report.figures import Series, line_figure
        >>> figure = line_figure([Series(0, "a<b", np.arange(3), np.arange(3))], ("epoch", "loss"))
        >>> svg = inline_svg(figure, "loss")
        >>> svg[:34], "<title>a&lt;b</title>" in svg, "var(--run0)" in svg
        ('<svg viewBox="0 0 400 260" class="', True, True)
    """
    file = io.BytesIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": ascii(description)}):  # so that IDs differ from chart to chart
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(file.getvalue())
    names = {str(gid): str(part.get_label()) for part in figure.findobj() if (gid := part.get_gid())}
    for parent in root.iter():
        for child in [child for child in parent if child.tag.endswith("}style")]:
            parent.remove(child)
    for element in root.iter():
        _simplify(element, names)
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "class": "chart", "role": "img", "aria-label": description})
    return ElementTree.tostring(root, encoding="unicode")


def _simplify(element: ElementTree.Element, names: dict[str, str]) -> None:
    """Makes plain HTML of an element of matplotlib's SVG: no namespaces, IDs only where they are referred to."""
    element.tag = element.tag.rpartition("}")[2]
    element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
    for key in list(element.attrib):
        element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)
    if element.tag == "g":
        part = element.attrib.pop("id", "")
        if part in names:
            element.set("class", part)
            title = ElementTree.Element("title")
            title.text = names[part]
            element.insert(0, title)
    if style := element.get("style"):
        for name, color in INK.items():
            style = style.replace(color, f"var(--{name})")
        element.set("style", style)
