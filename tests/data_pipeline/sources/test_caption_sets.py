"""Caption sets in the forms of their publishers: what of them stands in KEY.json in the end."""

import json
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.corpus.decisions import read_decisions
from data_pipeline.corpus.reader import Corpus
from data_pipeline.corpus.verify import verify
from data_pipeline.sources.caption_sets import images_of
from data_pipeline.sources.recipe import CaptionsSource
from tests.data_pipeline.build_here import build_here
from tests.data_pipeline.sources.pictures import write_picture
from trawl.errors import RequestError

GENOME_IMAGES = [
    {"width": 400, "url": "https://x.test/VG_100K_2/1.jpg", "height": 320, "image_id": 1}
    | {"coco_id": None, "flickr_id": None},
    {"width": 400, "url": "https://x.test/VG_100K/2.jpg", "height": 320, "image_id": 2},
    {"width": 400, "url": "https://x.test/VG_100K/3.jpg", "height": 320, "image_id": 3},
]
GENOME_REGIONS = [
    {
        "id": 1,
        "regions": [
            {"region_id": 11, "width": 82, "height": 139, "image_id": 1, "x": 42, "y": 57}
            | {"phrase": "the clock is green in colour"},
            {"region_id": 12, "width": 9, "height": "tall", "x": 0, "y": 0, "phrase": "bad"},
        ],
    },
    {"id": 9, "regions": [{"x": 1, "y": 1, "width": 1, "height": 1, "phrase": "not asked for"}]},
]
GENOME_QUESTIONS = [
    {
        "id": 2,
        "qas": [
            {"a_objects": [], "question": "What colour is the clock?", "image_id": 2}
            | {"qa_id": 986768, "answer": "Green.", "q_objects": []}
        ],
    }
]
VQA_QUESTIONS = {
    "info": {},
    "task_type": "Open-Ended",
    "data_type": "mscoco",
    "data_subtype": "val2014",
    "questions": [
        {"image_id": 7, "question": "Is it raining?", "question_id": 7000},
        {"image_id": 7, "question": "How many dogs?", "question_id": 7001},
        {"image_id": 8, "question": "What is it?", "question_id": 8000},
    ],
}
VQA_ANSWERS = {
    "annotations": [
        {"question_type": "is it", "multiple_choice_answer": "no", "image_id": 7}
        | {"answers": [{"answer": "no", "answer_id": 1}], "question_id": 7000},
        {"multiple_choice_answer": "2", "image_id": 7, "question_id": 7001},
    ]
}
GQA_QUESTIONS = {
    "201307251": {
        "semantic": [{"operation": "query", "argument": "name", "dependencies": []}],
        "imageId": "2354786",
        "question": "What is on the table?",
        "answer": "pizza",
        "fullAnswer": "The pizza is on the table.",
        "isBalanced": True,
    },
    "02": {"imageId": "n161313", "question": "Is it red?", "answer": "yes"},
    "03": {"imageId": "n161313", "question": "Is it new?"},
}


def _write(place: Path, content: Any) -> str:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(place)


def _corpus(tmp_path: Path, form: str, names: list[str], **files: str) -> dict[str, dict[str, Any]]:
    """Build a set of these images; return what the samples say by file name."""
    for number, name in enumerate(names):
        write_picture(tmp_path / "images" / name, number)
    source = {"kind": "captions", "format": form, "images": str(tmp_path / "images"), **files}
    out = tmp_path / "out"
    build_here(out, {"collect": {"source": source, "partitions": 1}})
    assert [name for name, faults in verify(str(out)) if faults] == []
    corpus = Corpus(out)
    return {meta["url"]: meta for meta in (corpus[n].meta for n in range(len(corpus)))}


def _texts(meta: dict[str, Any]) -> list[str]:
    return [caption["text"] for caption in meta["captions"]]


def test_visual_genome_has_regions_and_questions_without_captions(tmp_path: Path) -> None:
    found = _corpus(
        tmp_path,
        "visual-genome",
        ["VG_100K_2/1.jpg", "VG_100K/2.jpg", "VG_100K/3.jpg"],
        captions=_write(tmp_path / "image_data.json", GENOME_IMAGES),
        regions=_write(tmp_path / "region_descriptions.json", GENOME_REGIONS),
        questions=_write(tmp_path / "question_answers.json", GENOME_QUESTIONS),
    )
    one, two = found["VG_100K_2/1.jpg"], found["VG_100K/2.jpg"]
    assert one["captions"] == two["captions"] == []
    assert one["regions_text"] == [
        {"box": [42.0, 57.0, 124.0, 196.0], "phrase": "the clock is green in colour"}
    ]
    assert two["questions"] == [{"question": "What colour is the clock?", "answer": "Green."}]
    rows = {row["url"]: row for row in read_decisions(str(tmp_path / "out"))}
    # Nothing is said of the third picture, and one box of the first is none.
    assert (rows["VG_100K/3.jpg"]["step"], rows["VG_100K/3.jpg"]["reason"]) == (
        "sentences",
        "no-text",
    )
    assert json.loads(rows["VG_100K_2/1.jpg"]["scores"])["unread_annotations"] == 1


def test_karpathys_splits_of_coco(tmp_path: Path) -> None:
    images = [
        {"filepath": "val2014", "filename": "COCO_val2014_000000000007.jpg", "cocoid": 7}
        | {"imgid": 0, "split": "test", "sentids": [1], "sentences": [{"raw": "A dog runs."}]},
        {"filepath": "train2014", "filename": "COCO_train2014_000000000008.jpg", "cocoid": 8}
        | {"imgid": 1, "split": "restval", "sentences": [{"raw": "A cat."}, {"raw": "A red cat."}]},
    ]
    questions = {"questions": [{"image_id": 8, "question": "What is it?", "question_id": 1}]}
    answers = {"annotations": [{"image_id": 8, "question_id": 1, "multiple_choice_answer": "cat"}]}
    found = _corpus(
        tmp_path,
        "karpathy",
        ["val2014/COCO_val2014_000000000007.jpg", "train2014/COCO_train2014_000000000008.jpg"],
        captions=_write(tmp_path / "dataset_coco.json", {"images": images, "dataset": "coco"}),
        questions=_write(tmp_path / "questions.json", questions),
        answers=_write(tmp_path / "answers.json", answers),
        splits=["train", "restval"],  # type: ignore[arg-type]
    )
    assert list(found) == ["train2014/COCO_train2014_000000000008.jpg"]
    assert _texts(*found.values()) == ["A cat.", "A red cat."]
    (only,) = found.values()
    assert only["questions"] == [{"question": "What is it?", "answer": "cat"}]


def test_flickr30k_comes_as_token_file_or_karpathys_json(tmp_path: Path) -> None:
    lines = "1000092795.jpg#0\tTwo young guys .\n1000092795.jpg#1\tMen outside .\n"
    lines += "10002456.jpg#0\tSeveral men in hard hats .\n\nno line of the form\n"
    token = _write(tmp_path / "results_20130124.token", lines)
    names = ["1000092795.jpg", "10002456.jpg"]
    found = _corpus(tmp_path / "token", "flickr30k", names, captions=token)
    assert {name: _texts(meta) for name, meta in found.items()} == {
        "1000092795.jpg": ["Two young guys .", "Men outside ."],
        "10002456.jpg": ["Several men in hard hats ."],
    }
    rows = list(read_decisions(str(tmp_path / "token" / "out")))
    assert sorted(row["reason"] for row in rows) == ["bad-row", "kept", "kept"]
    image = {"filename": names[0], "imgid": 0, "split": "train", "sentences": [{"raw": "A guy."}]}
    source = CaptionsSource(
        kind="captions",
        format="karpathy",
        images="images",
        captions=_write(tmp_path / "dataset_flickr30k.json", {"images": [image]}),
    )
    assert [(found.file_name, found.captions) for found in images_of(source)] == [
        (names[0], ["A guy."])
    ]


def test_vqa_joins_questions_with_the_answers_of_most_people(tmp_path: Path) -> None:
    names = ["COCO_val2014_000000000007.jpg", "COCO_val2014_000000000008.jpg"]
    found = _corpus(
        tmp_path,
        "vqa",
        names,
        questions=_write(tmp_path / "questions.json", VQA_QUESTIONS),
        answers=_write(tmp_path / "annotations.json", VQA_ANSWERS),
    )
    assert list(found) == names[:1]  # nobody answered what was asked of the other
    assert found[names[0]]["questions"] == [
        {"question": "Is it raining?", "answer": "no"},
        {"question": "How many dogs?", "answer": "2"},
    ]


def test_gqa_is_read_from_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "train_all_questions"
    for number, key in enumerate(GQA_QUESTIONS):
        _write(folder / f"train_all_questions_{number}.json", {key: GQA_QUESTIONS[key]})
    names = ["2354786.jpg", "n161313.jpg"]
    found = _corpus(tmp_path, "gqa", names, questions=str(folder))
    assert [found[name]["questions"] for name in names] == [
        [{"question": "What is on the table?", "answer": "pizza"}],
        [{"question": "Is it red?", "answer": "yes"}],
    ]


def test_bad_entries_become_decisions(tmp_path: Path) -> None:
    content = {
        "annotations": [{"image_id": 1, "caption": "A dog."}, {"image_id": []}, 7, {}],
        "images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2}, 5, {"id": 3, "file_name": "../x"}],
    }
    captions = _write(tmp_path / "captions.json", content)
    assert list(_corpus(tmp_path, "coco", ["1.jpg"], captions=captions)) == ["1.jpg"]
    rows = read_decisions(str(tmp_path / "out"))
    found = sorted((row["step"], row["reason"]) for row in rows)
    assert found == [
        ("collect", "bad-row"),
        ("collect", "bad-row"),
        ("download", "bad-url"),
        ("write", "kept"),
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "captions"),
        ({"format": "vqa", "questions": "q.json"}, "answers"),
        ({"format": "gqa", "captions": "c.json", "questions": "q.json"}, "captions"),
        ({"captions": "c.json", "splits": ["train"]}, "karpathy"),
        ({"captions": "c.json", "file_names": "same.jpg"}, "id"),
        ({"captions": "c.json", "file_names": "{id:5z}.jpg"}, "id"),
        ({"captions": "c.json", "file_names": "{number}.jpg"}, "id"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        CaptionsSource.model_validate({"kind": "captions", "images": "images", **keys})


@pytest.mark.parametrize("form", ["coco", "karpathy", "visual-genome", "gqa"])
def test_a_file_of_another_form_is_named(tmp_path: Path, form: str) -> None:
    place = _write(tmp_path / "other.json", "7")
    files = {"questions": place} if form == "gqa" else {"captions": place}
    source = CaptionsSource.model_validate(
        {"kind": "captions", "format": form, "images": "images", **files}
    )
    with pytest.raises(RequestError, match=r"other\.json"):
        list(images_of(source))
