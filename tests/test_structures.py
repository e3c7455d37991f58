"""``Faces``: a value that cannot be built wrong and does not change."""

from __future__ import annotations

import copy
import json
import pickle
import sys

import numpy as np
import pytest

from facedet_mm import FaceDetError, Faces
from facedet_mm.errors import MissingDependencyError

BOXES = [[0, 1, 10, 21], [5, 5, 9, 9], [2, 3, 4, 5]]
SCORES = [0.5, 0.75, 0.25]
LANDMARKS = np.arange(30).reshape(3, 5, 2)


@pytest.fixture
def faces() -> Faces:
    return Faces(BOXES, SCORES, LANDMARKS, [7, -1, 9])


def test_columns_have_the_types_that_the_docstring_promises(faces: Faces) -> None:
    assert [c.dtype for c in (faces.boxes, faces.scores, faces.landmarks, faces.track_ids)] == [
        np.float32, np.float32, np.float32, np.int64,
    ]  # fmt: skip
    assert faces.landmarks.shape == (3, 5, 2)
    assert len(faces) == 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([[0, 0, 1]], [0.5]), r"boxes must have shape \(1, 4\), not \(1, 3\)"),
        (([[0, 0, 1, 1]], [0.5, 0.6]), r"boxes must have shape \(2, 4\), not \(1, 4\)"),
        (([[0, 0, 1, 1]], [[0.5]]), r"scores must have shape"),
        (([[0, 0, 1, 1]], 0.5), r"scores must have shape"),
        (([[0, 0, 1, 1]], [0.5], np.zeros((1, 10))), r"landmarks must have shape \(1, 5, 2\), not \(1, 10\)"),
        (([[0, 0, 1, 1]], [0.5], None, [1, 2]), r"track_ids must have shape \(1\), not \(2,\)"),
        ((np.zeros((0, 4)), [0.5]), r"boxes must have shape \(1, 4\)"),
    ],
)
def test_columns_that_do_not_agree_are_refused_by_name(columns: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faces(*columns)


def test_a_change_of_the_callers_array_does_not_reach_the_faces() -> None:
    boxes = np.array(BOXES, np.float32)
    faces = Faces(boxes, SCORES)
    boxes[:] = -1
    assert faces.boxes.tolist() == BOXES


def test_columns_and_attributes_cannot_be_written(faces: Faces) -> None:
    with pytest.raises(ValueError, match="read-only"):
        faces.boxes[0, 0] = 3
    with pytest.raises(AttributeError):
        faces.scores = np.zeros(3)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (1, [1]),
        (-1, [2]),
        (np.int64(0), [0]),
        (slice(1, None), [1, 2]),
        (slice(None, None, -1), [2, 1, 0]),
        ([2, 0], [2, 0]),
        (np.array([True, False, True]), [0, 2]),
        ([False, False, False], []),
        ([], []),
    ],
)
def test_an_index_selects_the_same_rows_of_every_column(faces: Faces, index: object, rows: list[int]) -> None:
    chosen = faces[index]  # type: ignore[index]
    assert chosen.boxes.tolist() == [BOXES[r] for r in rows]
    assert chosen.scores.tolist() == [SCORES[r] for r in rows]
    assert chosen.landmarks.tolist() == LANDMARKS[rows].tolist()
    assert chosen.track_ids.tolist() == [[7, -1, 9][r] for r in rows]


def test_faces_are_equal_by_value(faces: Faces) -> None:
    same = Faces(BOXES, SCORES, LANDMARKS, [7, -1, 9])
    assert faces == faces
    assert faces == same
    assert faces[1] == faces[1:2] == next(iter(faces[1:]))
    assert Faces([[np.nan, 0, 1, 1]], [0.5]) == Faces([[np.nan, 0, 1, 1]], [0.5])
    different = [
        faces[:2],
        faces[::-1],
        Faces(BOXES, SCORES, LANDMARKS),
        Faces(BOXES, SCORES, None, [7, -1, 9]),
        Faces(BOXES, SCORES, LANDMARKS + 1, [7, -1, 9]),
        Faces(BOXES, SCORES, LANDMARKS, [7, -1, 8]),
        Faces(BOXES, [0.5, 0.75, 0.26], LANDMARKS, [7, -1, 9]),
        Faces.empty(),
    ]
    for other in different:
        assert faces != other
    assert Faces.empty() != Faces.empty(landmarks=True)
    assert faces != "Faces"
    assert faces in [Faces.empty(), same]


def test_faces_cannot_be_hashed_as_arrays_cannot(faces: Faces) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(faces)


def test_copies_and_unpickled_faces_are_equal_and_read_only(faces: Faces) -> None:
    for other in (pickle.loads(pickle.dumps(faces)), copy.copy(faces), copy.deepcopy(faces)):
        assert other == faces
        for column in (other.boxes, other.scores, other.landmarks, other.track_ids):
            assert not column.flags.writeable


def test_printed_faces_say_what_they_hold() -> None:
    assert repr(Faces.empty()) == "Faces(n=0, boxes=[], scores=[])"
    assert repr(Faces([[10, 20.25, 30, 50]], [0.91234], np.zeros((1, 5, 2)), [-1])) == (
        "Faces(n=1, boxes=[[10, 20.2, 30, 50]], scores=[0.912], landmarks=(5 per face), track_ids=[-1])"
    )
    crowd = repr(Faces(np.tile([0, 0, 100, 100.0], (1000, 1)), np.ones(1000), np.zeros((1000, 5, 2)), np.arange(1000)))
    assert crowd.startswith("Faces(n=1000, boxes=[[0, 0, 100, 100], ")
    assert crowd.endswith(", …], scores=[1, 1, 1, …], landmarks=(5 per face), track_ids=[0, 1, 2, …])")
    assert len(crowd) < 200
    assert "nan" in repr(Faces([[0, 0, 1, 1]], [np.nan]))


def test_a_dict_with_numbers_that_are_not_finite_is_refused(faces: Faces) -> None:
    for name in ("boxes", "scores", "landmarks"):
        data = faces.to_dict()
        text = json.dumps(data).replace(json.dumps(data[name]), json.dumps(np.full_like(data[name], np.inf).tolist()))
        with pytest.raises(ValueError, match=f"{name} must be finite numbers"):
            Faces.from_dict(json.loads(text))


def test_a_face_that_is_not_there_is_an_index_error(faces: Faces) -> None:
    for index in (3, -4):
        with pytest.raises(IndexError, match="of 3"):
            faces[index]


def test_iteration_gives_single_faces_in_order_and_ends(faces: Faces) -> None:
    assert [(len(face), face.scores.item()) for face in faces] == [(1, 0.5), (1, 0.75), (1, 0.25)]


def test_concatenation_keeps_only_columns_that_all_parts_have(faces: Faces) -> None:
    joined = Faces.concatenate([faces, Faces(BOXES[:1], SCORES[:1], LANDMARKS[:1])])
    assert joined.boxes.tolist() == [*BOXES, BOXES[0]]
    assert joined.landmarks.tolist() == [*LANDMARKS.tolist(), LANDMARKS[0].tolist()]
    assert joined.track_ids is None
    assert len(Faces.concatenate([])) == 0


def test_no_faces_keep_their_shapes() -> None:
    for faces in (Faces.empty(landmarks=True), Faces([], [], [], []), Faces(BOXES, SCORES, LANDMARKS)[:0]):
        assert (faces.boxes.shape, faces.scores.shape, faces.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))
    assert Faces.empty().landmarks is None


def test_scaling_stretches_x_and_y_apart(faces: Faces) -> None:
    scaled = faces.scale(2, 0.5)
    assert scaled.boxes[0].tolist() == [0, 0.5, 20, 10.5]
    assert scaled.landmarks[0, :2].tolist() == [[0, 0.5], [4, 1.5]]
    assert scaled.scores.tolist() == SCORES
    assert scaled.track_ids.tolist() == [7, -1, 9]


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_json_holds_everything_and_comes_back(faces: Faces, columns: int) -> None:
    part = Faces(*[faces.boxes, faces.scores, faces.landmarks, faces.track_ids][:columns])
    data = json.loads(part.to_json())
    assert list(data) == ["boxes", "scores", "landmarks", "track_ids"][:columns]
    back = Faces.from_dict(data)
    assert back.to_dict() == part.to_dict()
    assert back.boxes.tolist() == BOXES


def test_a_dict_without_boxes_or_scores_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"faces need boxes and scores; there are \['landmarks'\]"):
        Faces.from_dict({"landmarks": LANDMARKS})
    with pytest.raises(ValueError, match="faces need scores"):
        Faces.from_dict({"boxes": BOXES})


def test_coco_dicts_are_what_pycocotools_reads(faces: Faces, capsys: pytest.CaptureFixture[str]) -> None:
    coco_api = pytest.importorskip("pycocotools.coco", reason="NEEDS pycocotools")
    coco = coco_api.COCO()
    coco.dataset = {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 40, "height": 40}],
        "categories": [{"id": 1, "name": "face"}],
        "annotations": faces.to_coco(5),
    }
    coco.createIndex()
    assert [coco.anns[i]["bbox"] for i in (1, 2, 3)] == [[0, 1, 10, 20], [5, 5, 4, 4], [2, 3, 2, 2]]
    results = coco.loadRes(faces.to_coco(5))
    assert [ann["area"] for ann in results.loadAnns([1, 2, 3])] == [200, 16, 4]
    evaluation = pytest.importorskip("pycocotools.cocoeval").COCOeval(coco, results, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    assert evaluation.stats[0] == 1


def test_coco_dicts_hold_boxes_scores_keypoints_and_tracks(faces: Faces) -> None:
    first, second, third = faces.to_coco(image_id=5, first_id=10)
    assert first == {
        "id": 10, "image_id": 5, "category_id": 1, "iscrowd": 0, "bbox": [0, 1, 10, 20], "area": 200, "score": 0.5,
        "keypoints": [0, 1, 2, 2, 3, 2, 4, 5, 2, 6, 7, 2, 8, 9, 2], "num_keypoints": 5, "track_id": 7,
    }  # fmt: skip
    assert [second["id"], second["track_id"], third["id"], third["score"]] == [11, -1, 12, 0.25]
    assert set(Faces(BOXES, SCORES).to_coco(1)[0]) == set(first) - {"keypoints", "num_keypoints", "track_id"}
    assert Faces.empty(landmarks=True).to_coco(1) == []
    json.dumps(faces.to_coco(5))


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("rows", [3, 0])
def test_supervision_takes_everything_and_gives_it_back(faces: Faces, columns: int, rows: int) -> None:
    pytest.importorskip("supervision", reason="NEEDS supervision")
    part = Faces(*[faces.boxes, faces.scores, faces.landmarks, faces.track_ids][:columns])[:rows]
    detections = part.to_supervision()
    assert len(detections) == rows
    assert detections.class_id.tolist() == [0] * rows
    assert Faces.from_supervision(detections).to_dict() == part.to_dict()


def test_supervision_keeps_landmarks_and_ids_with_their_faces(faces: Faces) -> None:
    supervision = pytest.importorskip("supervision", reason="NEEDS supervision")
    detections = faces.to_supervision()
    assert detections.tracker_id.tolist() == [7, -1, 9]
    assert detections["class_name"].tolist() == ["face"] * 3
    chosen = Faces.from_supervision(detections[detections.confidence > 0.4])
    assert chosen.to_dict() == faces[:2].to_dict()
    merged = Faces.from_supervision(supervision.Detections.merge([detections[2:], detections[:1]]))
    assert merged.to_dict() == faces[[2, 0]].to_dict()
    detections.xyxy[:] = 0
    detections.data["landmarks"][:] = 0
    assert faces.boxes.tolist() == BOXES
    assert faces.landmarks.tolist() == LANDMARKS.tolist()


def test_detections_of_another_source_become_faces() -> None:
    supervision = pytest.importorskip("supervision", reason="NEEDS supervision")
    faces = Faces.from_supervision(supervision.Detections(xyxy=np.array(BOXES, float)))
    assert faces.to_dict() == {"boxes": BOXES, "scores": [1, 1, 1]}
    assert len(Faces.from_supervision(supervision.Detections.empty())) == 0
    wrong = supervision.Detections(xyxy=np.array(BOXES, float), data={"landmarks": np.zeros((3, 10))})
    with pytest.raises(ValueError, match=r"landmarks must have shape \(3, 5, 2\)"):
        Faces.from_supervision(wrong)


def test_without_supervision_the_error_says_how_to_install_it(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match="pip install supervision"):
        faces.to_supervision()
    assert issubclass(MissingDependencyError, FaceDetError)


def test_what_the_conversions_give_does_not_lead_back_into_the_faces(faces: Faces) -> None:
    image = np.full((30, 30, 3), 7, np.uint8)
    for value in (*faces.crop(image), faces.align(image, 8)):
        value[:] = 0
    faces.to_dict()["boxes"][0][0] = 99
    assert faces.boxes.tolist() == BOXES
    assert (image == 7).all()
    for column in (faces.boxes, faces[1:].scores, Faces.concatenate([faces]).landmarks, faces.scale(2, 2).track_ids):
        assert not column.flags.writeable
