"""``facedet report``: the figures behind it and the page as a browser and a reader meet it."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from report_samples import Page, lines_of, points, training_rows, write_log
from scipy.io import loadmat, savemat
from wider_samples import SETTINGS, cell, make_sample, slow_ap, write_mat_files, write_submission

from facedet_mm.cli import main
from facedet_mm.datasets import read_ground_truth, read_predictions
from facedet_mm.datasets.annotations import ATTRIBUTE_NAMES
from facedet_mm.datasets.attributes import ATTRIBUTE_LABELS, read_annotated_faces
from facedet_mm.errors import AnnotationError
from facedet_mm.evaluation.analysis import OperatingPoint, false_alarms, match_detections

HOSTILE = "a<b>&\"'<title><script>alert(1)<"


# The protocol and the attributes once more, one face at a time.


@pytest.fixture
def sample(tmp_path: Path) -> SimpleNamespace:
    """Ten images of gray squares with red faces, with attributes and detections; one name is hostile."""
    faces, detections = make_sample(5, images=10)
    rng = np.random.default_rng(3)
    names = {name: name for name in faces}
    names["0--Event/image_4"] = f"1--Event/{HOSTILE.replace('/', '')}"
    faces = {names[name]: value for name, value in faces.items()}
    detections = {names[name]: value for name, value in detections.items()}
    attributes = {
        name: {a: rng.integers(0, len(labels), len(boxes)) for a, labels in ATTRIBUTE_LABELS.items()}
        for name, (boxes, _) in faces.items()
    }
    ground_truth = write_mat_files(tmp_path / "ground_truth", faces)
    annotation = []
    for name, (boxes, _) in faces.items():
        rows = [
            [*box, *(attributes[name][a][i] if a in ATTRIBUTE_LABELS else 0 for a in ATTRIBUTE_NAMES)]
            for i, box in enumerate(boxes.astype(int).tolist())
        ]
        annotation += [f"{name}.jpg", str(len(rows)), *(" ".join(map(str, row)) for row in rows)]
        image = cv2.resize(rng.integers(0, 200, (12, 14), np.uint8), (140, 120), interpolation=cv2.INTER_NEAREST)
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        for x, y, w, h in boxes.astype(int):
            image[y : y + h, x : x + w] = (0, 0, 250)
        path = tmp_path / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    (tmp_path / "faces.txt").write_text("\n".join(annotation) + "\n")
    return SimpleNamespace(
        faces=faces,
        detections=detections,
        attributes=attributes,
        ground_truth=ground_truth,
        annotation=tmp_path / "faces.txt",
        images=tmp_path / "images",
        predictions=write_submission(tmp_path / "first", detections),
        tmp=tmp_path,
    )


def slow_matches(sample: SimpleNamespace, name: str) -> list[tuple[float, int | None]]:
    """Of each detection its score and its face."""
    outcome = []
    for box, score in zip(*sample.detections[name], strict=True):
        overlaps = [slow_iou(box.tolist(), face.tolist()) for face in sample.faces[name][0]]
        best = max(overlaps, default=0.0)
        outcome.append((float(score), overlaps.index(best) if best >= 0.5 else None))
    return outcome


def slow_iou(a: list[float], b: list[float]) -> float:
    """Of boxes x y w h whose right and lower edges are part of them."""
    shared = 1.0
    for axis in (0, 1):
        side = min(a[axis] + a[axis + 2], b[axis] + b[axis + 2]) - max(a[axis], b[axis]) + 1
        shared *= max(side, 0)
    areas = [(box[2] + 1) * (box[3] + 1) for box in (a, b)]
    return shared / (max(areas[0], 1e-300) + areas[1] - shared)


def slow_recall(sample: SimpleNamespace, group_of: Callable[[str, int], int], score_thr: float) -> dict:
    """Group → faces of the hard setting, those found at the score, those found at all."""
    counts: dict[int, list[int]] = {}
    for name, (boxes, masks) in sample.faces.items():
        matches = slow_matches(sample, name)
        for i in range(len(boxes)):
            if masks["hard"][i]:
                entry = counts.setdefault(group_of(name, i), [0, 0, 0])
                entry[0] += 1
                entry[1] += any(face == i and score >= score_thr for score, face in matches)
                entry[2] += any(face == i for _, face in matches)
    return counts


def report(sample: SimpleNamespace, *more: str, runs: tuple = ()) -> Page:
    out = sample.tmp / "out" / "report.html"
    given = [str(run) for run in runs or (sample.predictions,)]
    arguments = ["report", *given, "--annotations", str(sample.ground_truth), "--attributes", str(sample.annotation)]
    assert main([*arguments, "--images", str(sample.images), "--out", str(out), *more]) == 0
    return Page(out.read_text(encoding="utf-8"))


# Figures


@pytest.mark.parametrize("score_thr", [0.0, 0.25, 0.5, 0.9])
def test_recall_by_height_and_attribute_is_that_of_a_slow_loop(sample: SimpleNamespace, score_thr: float) -> None:
    page = report(sample, "--score-thr", str(score_thr))
    edges = (10, 30, 50, 100, 300)
    groups: dict[str, Callable] = {
        "height in pixels": lambda name, i: sum(sample.faces[name][0][i, 3] >= edge for edge in edges),
        **{a: lambda name, i, a=a: int(sample.attributes[name][a][i]) for a in ATTRIBUTE_LABELS},
    }
    for title, group_of in groups.items():
        slow = slow_recall(sample, group_of, score_thr)
        shown = page.rows(page.chart(title))[1:]
        assert len(shown) >= 2
        for i, (_, count, at_score, ever) in enumerate(shown):
            total, found, any_score = slow.get(i, (0, 0, 0))
            assert int(count) == total
            percents = [f"{100 * part / total:.1f}" if total else "–" for part in (found, any_score)]
            assert [at_score, ever] == percents
    assert len({tuple(v) for v in slow.values()}) > 1


def test_the_point_at_a_score_counts_as_a_slow_loop_does(sample: SimpleNamespace) -> None:
    truth, predictions = read_ground_truth(sample.ground_truth), read_predictions(sample.predictions)
    for score_thr in (0.0, 0.3, 0.5004, 0.95):
        hits = found = alarms = total = 0
        for name, (boxes, masks) in sample.faces.items():
            total += masks["hard"].sum()
            if len(boxes) == 0:
                continue
            faces = [face for score, face in slow_matches(sample, name) if score >= score_thr]
            counted = [face for face in faces if face is not None and masks["hard"][face]]
            alarms += faces.count(None)
            hits += len(counted)
            found += len(set(counted))
        point = OperatingPoint.at(score_thr, predictions, match_detections(predictions, truth), truth.settings["hard"])
        assert point.recall == pytest.approx(found / total)
        assert point.precision == pytest.approx(found / (hits + alarms))
        assert (point.false_alarms, point.duplicates) == (alarms, hits - found)
        assert alarms
        assert hits > found


def test_false_alarms_overlap_no_face_of_their_image_and_come_by_score(sample: SimpleNamespace) -> None:
    truth, predictions = read_ground_truth(sample.ground_truth), read_predictions(sample.predictions)
    rows = false_alarms(predictions, match_detections(predictions, truth))
    slow = sorted(
        (score for name, (boxes, _) in sample.faces.items() if len(boxes)
         for score, face in slow_matches(sample, name) if face is None), reverse=True,
    )  # fmt: skip
    assert predictions.scores[rows].tolist() == slow
    assert slow
    owners = np.searchsorted(predictions.offsets, rows, side="right") - 1
    for row, owner in zip(rows, owners, strict=True):
        x1, y1, x2, y2 = predictions.boxes[row]
        for face in sample.faces[predictions.names[owner]][0]:
            assert slow_iou([x1, y1, x2 - x1, y2 - y1], face.tolist()) < 0.5


def test_misses_are_the_faces_that_nothing_finds_easy_ones_first_then_tall_ones(sample: SimpleNamespace) -> None:
    truth, predictions = read_ground_truth(sample.ground_truth), read_predictions(sample.predictions)
    rows = match_detections(predictions, truth).missed(truth, score_thr=0.5)
    slow = []
    for image, (name, (boxes, masks)) in enumerate((name, sample.faces[name]) for name in truth.names):
        found = {face for score, face in slow_matches(sample, name) if score >= 0.5}
        for i in range(len(boxes)):
            settings = sum(masks[s][i] for s in SETTINGS)
            if settings and i not in found:
                slow.append((-settings, -boxes[i, 3], truth.offsets[image] + i))
    assert rows.tolist() == [row for *_, row in sorted(slow)]
    assert len({first for first, *_ in slow}) == 3


def test_faces_on_images_without_predictions_are_no_misses_worth_showing(sample: SimpleNamespace) -> None:
    name = max(sample.faces, key=lambda name: sample.faces[name][1]["hard"].sum())
    (sample.predictions / f"{name}.txt").unlink()
    page = report(sample, "--allow-missing", "--crops", "100")
    shown = {link.text for link in page.inside(page.section("Worst misses"), "a") if link.text}
    assert name.split("/")[1] not in shown
    assert shown
    assert any("1 images have no predictions" in e.text for e in page.all("p"))


def test_attributes_of_the_official_files_are_the_same_in_both_formats(data: Path, tmp_path: Path) -> None:
    import zipfile

    wider = data / "wider"
    with zipfile.ZipFile(wider / "wider_face_split.zip") as archive:
        text = archive.read("wider_face_split/wider_face_val_bbx_gt.txt")
    (tmp_path / "val.txt").write_bytes(text)
    from_mat = read_annotated_faces(wider / "ground_truth")
    from_text = read_annotated_faces(wider / "ground_truth", tmp_path / "val.txt")
    lines = [line.split() for line in text.decode().splitlines()]
    raw = np.array([[int(v) for v in line[4:]] for line in lines if len(line) == 10])
    for column, name in enumerate(("blur", "expression", "illumination", "invalid", "occlusion", "pose")):
        if name in ATTRIBUTE_LABELS:
            counts = np.bincount(raw[:, column]).tolist()
            assert np.bincount(from_mat.attributes[name]).tolist() == counts
            np.testing.assert_array_equal(from_mat.attributes[name], from_text.attributes[name])
    assert from_mat.official
    assert not read_annotated_faces(tmp_path / "val.txt").official


def test_labels_in_mat_files_are_read_and_checked(sample: SimpleNamespace) -> None:
    path = sample.ground_truth / "wider_face_val.mat"
    official = {k: v for k, v in loadmat(path).items() if not k.startswith("_")}
    pairs = zip(official["event_list"].ravel(), official["file_list"].ravel(), strict=True)
    events = [[f"{event.item()}/{name.item()}" for name in names.ravel()] for event, names in pairs]
    names = [name for event in events for name in event]

    def labels(name: str) -> np.ndarray:
        return cell([cell([sample.attributes[image][name][:, None] for image in event]) for event in events])

    savemat(path, official | {f"{name}_label_list": labels(name) for name in ATTRIBUTE_LABELS})
    faces = read_annotated_faces(sample.ground_truth)
    for name in ATTRIBUTE_LABELS:
        expected = np.concatenate([sample.attributes[n][name] for n in names])
        np.testing.assert_array_equal(faces.attributes[name], expected)
    sample.attributes[next(n for n in names if len(sample.faces[n][0]))]["pose"][0] = 2
    savemat(path, official | {f"{name}_label_list": labels(name) for name in ATTRIBUTE_LABELS})
    with pytest.raises(AnnotationError, match=r"wider_face_val.mat: a face has pose 2; expected 0 to 1"):
        read_annotated_faces(sample.ground_truth)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: re.sub(r"\n(\d+) ", r"\n9\1 ", text), "the faces of .* are not those of the ground truth"),
        (lambda text: text.replace("image_0", "image_x"), "has no image 0--Event/image_0"),
        (lambda text: re.sub(r"( \d+){6}\n", "\n", text), "holds no attributes"),
    ],
)
def test_an_attribute_file_that_does_not_fit_is_refused(
    sample: SimpleNamespace, change: Callable[[str], str], complaint: str
) -> None:
    sample.annotation.write_text(change(sample.annotation.read_text()))
    with pytest.raises(AnnotationError, match=complaint):
        read_annotated_faces(sample.ground_truth, sample.annotation)


@pytest.mark.parametrize(("shift", "fits"), [(2, True), (-2, True), (3, False), (-3, False)])
def test_a_box_of_an_attribute_file_may_be_two_pixels_off_and_not_more(
    sample: SimpleNamespace, shift: int, fits: bool
) -> None:
    first = re.search(r"\n(\d+) (\d+ \d+ \d+( \d+){6}\n)", sample.annotation.read_text())
    moved = f"\n{int(first[1]) + shift} {first[2]}"
    sample.annotation.write_text(sample.annotation.read_text().replace(first[0], moved, 1))
    if fits:
        assert read_annotated_faces(sample.ground_truth, sample.annotation).attributes
    else:
        with pytest.raises(AnnotationError, match=r"the faces of .* are not those of the ground truth"):
            read_annotated_faces(sample.ground_truth, sample.annotation)


def test_curves_of_a_real_log_have_its_shape(root: Path, tmp_path: Path) -> None:
    log = root / "docs/runs/scrfd_0.5g_subset.jsonl"
    assert main(["report", str(log), "--out", str(tmp_path / "r.html")]) == 0
    page = Page((tmp_path / "r.html").read_text())
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for title, x, y in [
        ("loss_cls", *zip(*((row["step"], row["loss_cls"]) for row in rows if "loss" in row), strict=True)),
        ("AP hard", *zip(*((r["step"], r["wider_face/hard"]) for r in rows if "wider_face/hard" in r), strict=True)),
    ]:
        (drawn,) = lines_of(page, title)
        assert len(drawn) == len(x)
        for column, values, sign in ((0, x, 1), (1, y, -1)):
            slope, start = np.polyfit(values, drawn[:, column], 1)
            assert slope * sign > 0
            np.testing.assert_allclose(drawn[:, column], np.polyval([slope, start], values), atol=0.02)
    best = max(row.get("wider_face/easy", 0) for row in rows)
    summary = {row[0]: row[1] for row in page.rows(page.section("Summary"))}
    assert summary["best AP easy during training (%)"] == f"{100 * best:.2f}"
    assert page.section("Worst misses") is None
    assert any("no predictions were scored" in e.text for e in page.all("p"))


# The page


def test_the_area_under_the_drawn_curves_is_the_average_precision(sample: SimpleNamespace) -> None:
    page = report(sample)
    for setting in SETTINGS:
        (drawn,) = lines_of(page, setting)
        paths = page.inside(page.chart(setting), "path", style="var(--line)")
        grid = np.concatenate([points(e.attrs["d"]) for e in paths])
        (left, top), (right, bottom) = grid.min(0), grid.max(0)
        recall = (drawn[:, 0] - left) / (right - left)
        precision = (bottom - drawn[:, 1]) / (bottom - top)
        area = sum((recall[i] - (recall[i - 1] if i else 0)) * precision[i:].max() for i in range(len(recall)))
        assert area == pytest.approx(slow_ap(sample.faces, sample.detections, setting), abs=1e-3)
        assert f"AP {100 * slow_ap(sample.faces, sample.detections, setting):.2f}" in page.chart(setting).text


def test_the_page_is_well_formed_and_loads_nothing(sample: SimpleNamespace) -> None:
    write_log(sample.tmp / HOSTILE / "1", training_rows(3))
    page = report(sample, "--predictions", str(sample.predictions), runs=(sample.tmp / HOSTILE,))
    html = (sample.tmp / "out/report.html").read_text()
    assert not page.all("script")
    assert not page.all("b")
    assert HOSTILE in page.all("h1")[0].text
    images = 0
    for element in page.elements:
        assert not {"src", "srcset", "action", "onload", "onclick", "xlink:href"} & set(element.attrs)
        if "style" in element.attrs:
            assert any(e.attrs.get("class") == "chart" for e in element.parents)
            properties = {part.partition(":")[0].strip() for part in element.attrs["style"].split(";")}
            assert not {name for name in properties if not re.match("fill|stroke|font|text|opacity", name)}
        if "href" in element.attrs and element.tag not in ("a", "use"):
            kind, _, content = element.attrs["href"].partition(",")
            assert kind == "data:image/jpeg;base64"
            decoded = cv2.imdecode(np.frombuffer(base64.b64decode(content, validate=True), np.uint8), 1)
            assert 0 < max(decoded.shape[:2]) <= 192
            images += 1
    assert images > 10
    assert not re.search(r"https?:|url\((?!#)|@import", html)
    ids = [element.attrs["id"] for element in page.elements if "id" in element.attrs]
    assert len(set(ids)) == len(ids)
    policy = page.all("meta", content="default-src")[0].attrs["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_link_leads_from_the_page_to_its_image(sample: SimpleNamespace) -> None:
    page = report(sample)
    names = set()
    for link in page.all("a"):
        assert link.attrs["href"].startswith("../images/")
        target = sample.tmp / "out" / unquote(link.attrs["href"])
        assert target.resolve().is_file()
        names.add(target.stem)
    assert HOSTILE in names


def test_a_crop_shows_the_missed_face_under_its_box(sample: SimpleNamespace) -> None:
    page = report(sample)
    svgs = page.inside(page.section("Worst misses"), "svg", **{"class": "image"})
    assert svgs
    boxes = {name: [(*xywh[:2], *xywh[2:]) for xywh in faces.tolist()] for name, (faces, _) in sample.faces.items()}
    for svg in svgs:
        x, y, side, height = map(float, svg.attrs["viewbox"].split())
        assert side == height
        rect = page.inside(svg, "rect", **{"class": "missed"})[0].attrs
        box = tuple(float(rect[key]) for key in ("x", "y", "width", "height"))
        name = svg.attrs["aria-label"].removeprefix("missed face in ")
        assert box in boxes[name]
        image = page.inside(svg, "image")[0].attrs
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(image["href"].partition(",")[2]), np.uint8), 1)
        photo = cv2.imread(str(sample.images / f"{name}.jpg"))
        x, y, side = int(x), int(y), int(side)
        assert pixels.shape == (side, side, 3)
        expected = photo[max(y, 0) : y + side, max(x, 0) : x + side]
        shown = pixels[max(-y, 0) :, max(-x, 0) :][: len(expected), : expected.shape[1]]
        assert cv2.absdiff(shown, expected).mean() < 4
    labels = {svg.attrs["aria-label"] for svg in svgs}
    assert len(labels) > 1


def test_around_a_miss_only_detections_that_count_are_drawn(sample: SimpleNamespace) -> None:
    drawn: dict[float, list[float]] = {}
    for score_thr in (0.1, 0.9):
        page = report(sample, "--crops", "200", "--score-thr", str(score_thr))
        titles = [e.text for e in page.inside(page.section("Worst misses"), "title")]
        drawn[score_thr] = [float(t.rpartition(" ")[2]) for t in titles if t.startswith(("detection", "false alarm"))]
        assert all(score >= score_thr for score in drawn[score_thr])
    assert min(drawn[0.1]) < 0.9
    assert drawn[0.9]


def test_a_curve_starts_with_the_first_detection(sample: SimpleNamespace) -> None:
    lower = {
        name: (boxes, np.where(np.arange(len(scores)) == 0, scores, scores / 2))
        for name, (boxes, scores) in sample.detections.items()
    }
    page = report(sample, runs=(write_submission(sample.tmp / "lower", lower),))
    for setting in SETTINGS:
        (drawn,) = lines_of(page, setting)
        grid = np.concatenate([points(e.attrs["d"]) for e in page.inside(page.chart(setting), "path", style="--line")])
        assert drawn[0, 1] < grid[:, 1].max()
        assert len(drawn) <= 1000


def test_heights_are_grouped_by_the_edges_of_the_evaluation(sample: SimpleNamespace) -> None:
    page = report(sample)
    rows = page.rows(page.chart("height in pixels"))
    assert [row[0] for row in rows[1:]] == ["0–10", "10–30", "30–50", "50–100", "100–300", "≥ 300"]


def test_missing_and_damaged_images_leave_a_note_and_the_text(sample: SimpleNamespace) -> None:
    before = report(sample)
    keys = [s.attrs["aria-label"].rpartition(" in ")[2] for s in before.all("svg", **{"class": "image"})]
    first, second = list(dict.fromkeys(keys))[:2]
    (sample.images / f"{first}.jpg").unlink()
    (sample.images / f"{second}.jpg").write_bytes((sample.images / f"{second}.jpg").read_bytes()[:-40])
    page = report(sample)
    assert len(page.all("figcaption")) == len(before.all("figcaption"))
    shown = [s.attrs["aria-label"].rpartition(" in ")[2] for s in page.all("svg", **{"class": "image"})]
    assert shown == [key for key in keys if key not in (first, second)]
    assert any("2 images are missing or damaged" in e.text for e in page.all("p"))


def test_without_images_there_are_texts_and_a_note(sample: SimpleNamespace) -> None:
    out = sample.tmp / "r.html"
    arguments = ["report", str(sample.predictions), "--annotations", str(sample.annotation)]
    assert main([*arguments, "--out", str(out)]) == 0
    page = Page(out.read_text())
    assert not page.all("image")
    assert page.all("figcaption")
    assert any("Without --images there are no crops" in e.text for e in page.all("p"))
    assert any("not the official ones" in e.text for e in page.all("p"))
    assert page.section("Training") is None
    assert any("no training log, so there are no curves" in e.text for e in page.all("p"))


def test_several_runs_stand_side_by_side_each_with_its_color(sample: SimpleNamespace) -> None:
    fewer = {name: (boxes[::2], scores[::2]) for name, (boxes, scores) in sample.detections.items()}
    runs = [write_log(sample.tmp / "runs" / name / "1", training_rows(2)).parent for name in ("a", "b", "c")]
    write_submission(runs[0] / "predictions", sample.detections)
    write_submission(runs[2] / "predictions", fewer)
    page = report(sample, runs=tuple(runs))
    colors: dict[str, set] = {}
    for element in page.elements:
        run = re.search(r"run\d", element.attrs.get("class") or "")
        if run and element.text:
            colors.setdefault(element.text[0], set()).add(run[0])
    assert colors == {"a": {"run0"}, "b": {"run1"}, "c": {"run2"}}
    rows = {row[0]: row[1:] for row in page.rows(page.section("Summary"))}
    expected = [f"{100 * slow_ap(sample.faces, found, 'hard'):.2f}" for found in (sample.detections, fewer)]
    assert rows["AP hard (%)"] == [expected[0], "–", expected[1]]
    bold = page.inside(page.section("Summary"), "td", **{"class": "best"})
    assert max(expected) in [e.text for e in bold]
    assert min(expected) not in [e.text for e in bold]
    galleries = page.inside(page.section("Worst misses"), "h3")
    assert [h.text for h in galleries] == ["a", "c"]


def test_a_miss_tells_who_finds_the_face(sample: SimpleNamespace) -> None:
    nothing = {name: (boxes[:0], scores[:0]) for name, (boxes, scores) in sample.detections.items()}
    empty = write_submission(sample.tmp / "empty", nothing)
    page = report(sample, "--crops", "200", runs=(sample.predictions, empty))
    section = page.section("Worst misses")
    captions = [e.text for e in page.inside(section, "figcaption")]
    found = [re.search(r"first: (not|[\d.]+)\.", text)[1] for text in captions if "first:" in text]
    slow = sorted(
        f"{max(scores):.3f}" if (scores := [s for s, face in slow_matches(sample, name) if face == i]) else "not"
        for name, (boxes, masks) in sample.faces.items()
        for i in range(len(boxes)) if masks["hard"][i]
    )  # fmt: skip
    assert sorted(found) == slow
    own = [re.search(r"Found at ([\d.]+)", text) for text in captions if "empty:" in text]
    below = [score for score in slow if score == "not" or float(score) < 0.5]
    assert len(own) == len(below)
    assert sorted(match[1] for match in own if match) == sorted(score for score in below if score != "not")


def test_a_long_log_is_drawn_with_fewer_points_and_the_page_says_so(tmp_path: Path) -> None:
    for name, count in (("long", 2000), ("short", 999)):
        rows = [{"loss": 1 - step / 5000, "step": step, "epoch": 1 + step // 100} for step in range(1, count + 1)]
        write_log(tmp_path / name / "1", rows)
        assert main(["report", str(tmp_path / name), "--out", str(tmp_path / f"{name}.html")]) == 0
    long, short = (Page((tmp_path / f"{name}.html").read_text()) for name in ("long", "short"))
    assert len(lines_of(long, "loss")[0]) == 500
    assert len(lines_of(short, "loss")[0]) == 999
    assert [any("means of neighboring rows" in e.text for e in page.all("p")) for page in (long, short)] == [
        True,
        False,
    ]


def test_a_folder_whose_name_is_not_text_gets_a_page(tmp_path: Path) -> None:
    name = os.fsdecode(b"run\xff")
    try:
        write_log(tmp_path / name / "1", training_rows(1))
    except OSError:
        pytest.skip("this file system refuses such names")
    assert main(["report", str(tmp_path / name), "--out", str(tmp_path / "r.html")]) == 0
    assert Page((tmp_path / "r.html").read_text(encoding="utf-8")).all("h1")[0].text == "Report: run?"


def test_times_of_training_and_of_the_benchmark_are_shown(tmp_path: Path) -> None:
    write_log(tmp_path / "run" / "1", training_rows(2))
    rows = [{"size": "640", "batch": 1, "threads": None, "median_ms": 12.5, "p95_ms": 14.0, "faces": 29}]
    (tmp_path / "run" / "bench.json").write_text(json.dumps(rows))
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "r.html")]) == 0
    page = Page((tmp_path / "r.html").read_text())
    shown = page.rows(page.section("Speed"))
    assert shown[1] == ["run", "0.500", "25.0", "2,000", "2.000"]
    assert shown[3] == ["run", "640", "1", "auto", "12.50", "14.00", "80.0"]


def test_predictions_beside_a_log_are_left_alone_without_annotations(sample: SimpleNamespace) -> None:
    run = write_log(sample.tmp / "run" / "1", training_rows(2)).parent
    write_submission(run / "predictions", sample.detections)
    assert main(["report", str(run), "--out", str(sample.tmp / "r.html")]) == 0
    assert Page((sample.tmp / "r.html").read_text()).section("Training")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere: no such run; give its work directory"),
        (["images"], "holds neither a log (*/vis_data/scalars.json) nor predictions"),
        (["first"], "to score them, give --annotations"),
        (["first", "--annotations", "nowhere"], "nowhere is not a folder"),
        (["first", "--annotations", "ground_truth", "--images", "nowhere"], "nowhere is not a folder"),
        (["first", "first", "--predictions", "first"], "1 folders of predictions for 2 runs"),
        (["first", "--predictions", "images", "--annotations", "ground_truth"], "images holds no"),
        (["cut", "--annotations", "ground_truth"], "--allow-missing"),
        (["first", "--annotations", "faces.txt", "--attributes", "nowhere"], "nowhere"),
        (["bench"], "bench.json: not a file that facedet bench --json writes"),
        (["binary.json"], "binary.json, line 1: expected a JSON object"),
        (["first", "--annotations", "ground_truth", "--out", "images"], "--out images is a folder; give a file"),
    ],
)
def test_a_mistake_is_named_and_leaves_no_page(
    sample: SimpleNamespace, monkeypatch: Any, capsys: Any, arguments: list[str], complaint: str
) -> None:
    monkeypatch.chdir(sample.tmp)
    write_submission(Path("cut"), {"0--Event/image_0": sample.detections["0--Event/image_0"]})
    write_log(Path("bench/1"), training_rows(1))
    Path("bench/bench.json").write_text('[{"size": 640}]')
    Path("binary.json").write_bytes(b"\xff\xfe\x00")
    before = sorted(Path().rglob("*"))
    assert main(["report", *arguments]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_before_any_work(
    sample: SimpleNamespace, monkeypatch: Any, capsys: Any, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["report", "no such run", "--out", str(sample.tmp / "r.html")]) == 1
    error = capsys.readouterr().err
    assert "the report needs jinja2 and matplotlib: pip install 'facedet-mm[plot]'" in error
    assert package in error
    assert not (sample.tmp / "r.html").exists()


def test_a_page_that_cannot_be_made_leaves_the_old_one(sample: SimpleNamespace) -> None:
    (sample.tmp / "r.html").write_text("old")
    (sample.predictions / "0--Event/image_0.txt").write_text("image_0\n2\n1 2 3 4 0.5\n")
    arguments = ["report", str(sample.predictions), "--annotations", str(sample.ground_truth)]
    assert main([*arguments, "--out", str(sample.tmp / "r.html")]) == 1
    assert (sample.tmp / "r.html").read_text() == "old"


# Real predictions


def test_the_page_of_real_predictions_has_the_known_figures_and_is_small(data: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(data / "predictions" / "retinaface_a.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    out = tmp_path / "r.html"
    wider = data / "wider"
    arguments = ["report", str(tmp_path / "retinaface_a"), "--annotations", str(wider / "ground_truth")]
    assert main([*arguments, "--images", str(wider / "WIDER_val/images"), "--out", str(out)]) == 0
    page = Page(out.read_text())
    rows = {row[0]: row[1] for row in page.rows(page.section("Summary"))}
    assert [rows[f"AP {s} (%)"] for s in SETTINGS] == ["94.48", "92.45", "81.53"]
    blur = page.rows(page.chart("blur"))
    assert sum(int(row[1].replace(",", "")) for row in blur[1:]) == 31958
    assert out.stat().st_size < 5e6
