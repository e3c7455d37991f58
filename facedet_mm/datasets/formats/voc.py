"""Pascal VOC: one XML file per image, with boxes and no landmarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from facedet_mm.datasets.formats.numbers import short, text
from facedet_mm.datasets.records import (
    FaceData,
    ImageAnnotation,
    ImageBuilder,
    Place,
    ReadOptions,
    choose_category,
    finish,
)
from facedet_mm.errors import AnnotationError
from facedet_mm.system.files import write_text
from facedet_mm.system.reading import MB, read_whole_file
from facedet_mm.system.text import one_line, parse_number, parse_whole

_LARGEST_FILE = 16 * MB
_DEEPEST = 16
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class Element:
    """An XML element: its name, line, text and children."""

    name: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def find(self, name: str) -> Element | None:
        """Returns the first child of a name."""
        return next((child for child in self.children if child.name == name), None)


def read_voc(path: Path, files: Iterable[tuple[Path, str]], folder: Path, options: ReadOptions) -> FaceData:
    """Reads VOC annotations.

    Corners are those of the format's definition: pixels from 1 on, the last one included. Objects marked ``difficult``
    are ignored.

    Args:
        path: The file or folder that was asked for, for messages.
        files: Each XML file and the folder of its image below ``folder``, ``''`` for ``folder`` itself.
        folder: Folder of the images.
        options: What to take.

    Raises:
        AnnotationError: A file is not such an annotation or declares entities, a number is malformed, or several
            categories might be faces.
    """
    parsed = [(file, parent, parse_xml(file)) for file, parent in files]
    counts = Counter(_text(file, item, "name") for file, _, root in parsed for item in _objects(root))
    chosen, notes = choose_category(counts, options.category, path)
    builders: dict[str, ImageBuilder] = {}
    parts = 0
    for file, parent, root in parsed:
        name = _text(file, root, "filename")
        builder = ImageBuilder(f"{parent}/{name}" if parent else name, Place(str(file), "line"), _size(file, root))
        if builder.name in builders:
            raise AnnotationError(f"{file}: its image {builder.name} is annotated in two files; remove one")
        builders[builder.name] = builder
        for item in _objects(root):
            if _text(file, item, "name") != chosen:
                continue
            difficult = item.find("difficult")
            ignore = difficult is not None and difficult.text.strip() not in ("", "0")
            builder.add(item.line, _corners(file, item), ignore)
            parts += sum(child.name == "part" for child in item.children)
    if parts:
        notes.append(f"{parts:,} parts of objects are left out: Pascal VOC has no landmarks")
    return FaceData("voc", *finish(builders.values()), folder=folder, notes=notes)


def parse_xml(path: Path) -> Element:
    """Returns the root element ``annotation`` of a file.

    Raises:
        AnnotationError: The file is larger than 16 MB or not XML, declares a document type or entities, or has another
            root.
    """
    data = read_whole_file(path, _LARGEST_FILE, "a Pascal VOC annotation")
    parser = expat.ParserCreate()
    stack = [Element("", 0)]

    def start(name: str, _: dict[str, str]) -> None:
        if len(stack) > _DEEPEST:
            raise AnnotationError(f"{path}, line {parser.CurrentLineNumber}: elements are nested too deeply for VOC")
        element = Element(name, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def characters(value: str) -> None:
        if not stack[-1].children:
            stack[-1].text += value

    def refuse(*_: Any) -> None:
        raise AnnotationError(
            f"{path}, line {parser.CurrentLineNumber}: a document type or entity is declared, which can fill the "
            "memory or name other files; remove the declaration"
        )

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise AnnotationError(f"{path}, line {error.lineno}: not XML: {expat.ErrorString(error.code)}") from error
    root = stack[0].children[0]
    if root.name != "annotation":
        raise AnnotationError(f"{path}: expected <annotation> of Pascal VOC, found <{one_line(root.name)[:60]}>")
    return root


def _objects(root: Element) -> list[Element]:
    return [child for child in root.children if child.name == "object"]


def _text(path: Path, element: Element, name: str) -> str:
    child = element.find(name)
    if child is None or not child.text.strip():
        raise AnnotationError(f"{path}, line {element.line}: <{element.name}> must have a <{name}>")
    return child.text.strip()


def _size(path: Path, root: Element) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    try:
        width, height = (parse_whole(_text(path, size, side), 0, 1 << 31) for side in ("width", "height"))
    except ValueError as error:
        raise AnnotationError(f"{path}, line {size.line}: the size must be whole numbers: {error}") from None
    return (width, height) if width and height else None  # some tools write 0 when they do not know


def _corners(path: Path, item: Element) -> tuple[float, float, float, float]:
    box = item.find("bndbox")
    if box is None:
        raise AnnotationError(f"{path}, line {item.line}: <object> must have a <bndbox>")
    try:
        x1, y1, x2, y2 = (parse_number(_text(path, box, name)) for name in _CORNERS)
    except ValueError as error:
        raise AnnotationError(f"{path}, line {box.line}: {', '.join(_CORNERS)} must be numbers: {error}") from None
    return x1 - 1, y1 - 1, x2, y2


def write_voc(path: Path, image: ImageAnnotation, size: tuple[int, int]) -> None:
    """Writes the annotation of one image; faces to ignore are marked ``difficult``.

    Args:
        path: The XML file.
        image: The image with its faces.
        size: Its width and height in pixels.
    """
    name = escape(image.name.rpartition("/")[2])
    folder = escape(image.name.rpartition("/")[0] or "JPEGImages")
    lines = ["<annotation>", f"  <folder>{folder}</folder>", f"  <filename>{name}</filename>"]
    lines.append(f"  <size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>")
    for box, ignore in zip(image.boxes, image.ignore, strict=True):
        lines += ["  <object>", "    <name>face</name>", f"    <difficult>{int(ignore)}</difficult>"]
        corners = "".join(f"<{tag}>{text(value)}</{tag}>" for tag, value in zip(_CORNERS, _pixels(box), strict=True))
        lines += [f"    <bndbox>{corners}</bndbox>", "  </object>"]
    write_text(path, "\n".join([*lines, "</annotation>", ""]))


def _pixels(box: Any) -> Sequence[int | float]:
    x1, y1, x2, y2 = map(short, box)
    return round(x1 + 1, 9), round(y1 + 1, 9), x2, y2
