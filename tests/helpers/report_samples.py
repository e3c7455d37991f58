"""A page taken apart as a browser does, and training logs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from wider_samples import SETTINGS

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart; complains about tags that do not fit."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict]] = []
        self.elements: list[SimpleNamespace] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        element = SimpleNamespace(tag=tag, attrs=dict(attrs), text="", parents=list(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        for element in self.open:
            element.text += data

    def all(self, tag: str, **attrs: str) -> list[SimpleNamespace]:
        return [
            element
            for element in self.elements
            if element.tag == tag and all(value in (element.attrs.get(name) or "") for name, value in attrs.items())
        ]

    def inside(self, parent: SimpleNamespace, tag: str, **attrs: str) -> list[SimpleNamespace]:
        return [element for element in self.all(tag, **attrs) if any(e is parent for e in element.parents)]

    def chart(self, title: str) -> SimpleNamespace:
        return next(f for f in self.all("figure") if any(h.text == title for h in self.inside(f, "h3")))

    def section(self, title: str) -> SimpleNamespace | None:
        sections = (s for s in self.all("section") if any(h.text == title for h in self.inside(s, "h2")))
        return next(sections, None)

    def rows(self, parent: SimpleNamespace) -> list[list[str]]:
        return [
            [cell.text for cell in self.elements if cell.tag in ("th", "td") and any(e is row for e in cell.parents)]
            for row in self.inside(parent, "tr")
        ]


def points(path: str) -> np.ndarray:
    return np.array([[float(number) for number in point.split()] for point in re.findall(r"[ML]([^ML]+)", path)])


def lines_of(page: Page, title: str) -> list[np.ndarray]:
    """The points of each line of a chart, in units of the drawing."""
    paths = page.inside(page.chart(title), "path")
    return [points(e.attrs["d"]) for e in paths if (e.parents[-1].attrs.get("class") or "").startswith("line ")]


def write_log(folder: Path, rows: list[dict]) -> Path:
    (folder / "vis_data").mkdir(parents=True)
    (folder / "vis_data" / "scalars.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def training_rows(epochs: int, first: int = 1, offset: float = 0.0) -> list[dict]:
    rows: list[dict] = []
    for epoch in range(first, first + epochs):
        for step in (10 * epoch - 5, 10 * epoch):
            parts = {"loss_cls": 3 / step + offset, "loss_bbox": 5 / step}
            rows.append({"loss": sum(parts.values()), **parts, "time": 0.5, "data_time": 0.125, "epoch": epoch,
                         "memory": 2000, "step": step})  # fmt: skip
        rows.append({f"wider_face/{s}": epoch / (10 + i) for i, s in enumerate(SETTINGS)} | {"time": 2, "step": epoch})
    return rows
