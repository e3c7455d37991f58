"""``facedet track-eval``: TrackEval's measures on the authors' tracks, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facedet_mm.cli import main


def test_the_authors_tracks_get_the_scores_that_trackeval_gives_them(data: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip(
        "trackeval", reason="NEEDS TrackEval, which does not fit beside MMDetection: pip install trackeval"
    )
    words = ["track-eval", str(data / "mot/bytetrack"), str(data / "mot/gt"), "--json", str(tmp_path / "s.json")]
    assert main(words) == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    assert len(scores) == 5
    together = scores["all"]
    assert [round(100 * together[name], 2) for name in ("hota", "mota", "idf1")] == [56.14, 67.04, 69.60]
    assert together["tracks"] == 184
    assert capsys.readouterr().out.splitlines()[-1].split()[1:4] == ["56.14", "67.04", "69.60"]


def test_one_file_is_scored_against_one(tmp_path: Path, capsys) -> None:
    pytest.importorskip(
        "trackeval", reason="NEEDS TrackEval, which does not fit beside MMDetection: pip install trackeval"
    )
    truth, tracks = tmp_path / "gt.txt", tmp_path / "t.txt"
    truth.write_text("".join(f"{f},1,10,10,40,40,1,1,1\n" for f in range(1, 11)))
    tracks.write_text("".join(f"{f},{7 if f < 6 else 8},10,10,40,40,0.9,-1,-1,-1\n" for f in range(1, 11)))
    assert main(["track-eval", str(tracks), str(truth)]) == 0
    name, _, mota, idf1, switches, ids = capsys.readouterr().out.splitlines()[1].split()
    assert (name, float(mota), float(idf1), switches, ids) == ("video", 90.0, 50.0, "1", "2")


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("gone", "gone: no such file or folder"),
        ("empty", "empty: no .txt files; expected one MOTChallenge file per video"),
        ("other", "other: no file for a"),
        ("broken", "a.txt, line 2: expected frame,id,left,top,width,height"),
        ("short", "a.txt, line 1: expected frame,id,left,top,width,height,score,…: fewer than 7 values"),
        ("infinite", "a.txt, line 1: expected frame,id,left,top,width,height,score,…: fewer than 7 values, or one"),
        ("zeroth", "a.txt, line 1: expected frame,id,left,top,width,height,score,…: frames count from 1"),
    ],
)
def test_files_that_cannot_be_scored_are_named(tmp_path: Path, results: str, message: str, capsys) -> None:
    for folder, name, text in (
        ("gt", "a.txt", "1,1,0,0,9,9,1,1,1\n"),
        ("empty", "a.csv", ""),
        ("other", "b.txt", "1,1,0,0,9,9,1\n"),
        ("broken", "a.txt", "1,1,0,0,9,9,1\n1,x,0,0,9,9,1\n"),
        ("short", "a.txt", "1,1,0,0,9,9\n"),
        ("infinite", "a.txt", "inf,1,0,0,9,9,1\n"),
        ("zeroth", "a.txt", "0,1,0,0,9,9,1\n"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    assert main(["track-eval", str(tmp_path / results), str(tmp_path / "gt")]) == 1
    assert message in capsys.readouterr().err
