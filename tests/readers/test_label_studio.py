import json

import pytest

from ner_lightning.errors import InputError

TEXT = "Mira left Oslo"


def result(*spans):
    return [
        {
            "id": "x",
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "value": {"start": start, "end": end, "text": TEXT[start:end], "labels": [label]},
        }
        for start, end, label in spans
    ]


def annotation(by, *spans, **more):
    return {"id": 1, "completed_by": by, "was_cancelled": False, "result": result(*spans), **more}


def task(*annotations, **more):
    return {"id": 5, "data": {"text": TEXT, "source": "x"}, "annotations": list(annotations), "predictions": [], **more}


def tags(rows, *tasks, **options):
    return [row.tags for row in rows("export.json", json.dumps(tasks, indent=2), **options)]


def test_a_task_is_a_row(rows, tmp_path):
    one = task(annotation(7, (10, 14, "LOC"), (0, 4, "PER")))
    (row,) = rows("export.json", json.dumps([one]))
    assert (row.text, row.words, row.tags) == (TEXT, ["Mira", "left", "Oslo"], ["B-PER", "O", "B-LOC"])
    assert (row.record, row.place, row.document) == (one, f"{tmp_path}/export.json:1", None)


def test_the_first_annotation_that_was_not_cancelled_counts(rows):
    cancelled = annotation(1, (0, 4, "LOC"), was_cancelled=True)
    assert tags(rows, task(cancelled, annotation(2, (0, 4, "PER")), annotation(3))) == [["B-PER", "O", "O"]]


@pytest.mark.parametrize("asked", ["3", 3, "bo@x.org"])
def test_the_annotations_of_one_annotator_count_where_that_is_asked(rows, asked):
    by = {"id": 3, "email": "bo@x.org", "first_name": ""} if asked == "bo@x.org" else 3
    other = annotation(2, (0, 4, "PER"))
    found = tags(rows, task(other, annotation(by, (10, 14, "LOC"))), task(other), annotator=asked)
    assert found == [["O", "O", "B-LOC"], None]


def test_a_task_without_an_annotation_that_counts_has_no_tags(rows):
    assert tags(rows, task(), task(annotation(1, was_cancelled=True)), task(annotation(1))) == [None, None, ["O"] * 3]
    assert tags(rows, {"data": {"text": TEXT}, "predictions": [{"result": result((0, 4, "PER"))}]}) == [None]


def test_the_older_name_of_annotations_is_known(rows):
    one = task(annotation(1, (0, 4, "PER")))
    one["completions"] = one.pop("annotations")
    assert tags(rows, one) == [["B-PER", "O", "O"]]


def test_relations_and_choices_are_no_entities(rows):
    others = [{"type": "relation", "from_id": "a", "to_id": "b"}, {"type": "choices", "value": {"choices": ["x"]}}]
    assert tags(rows, task({"result": [*result((0, 4, "PER")), *others]})) == [["B-PER", "O", "O"]]


def test_the_text_has_the_given_name(rows):
    one = task(annotation(1, (0, 4, "PER")))
    one["data"] = {"review": TEXT}
    assert tags(rows, one, text_column_name="review") == [["B-PER", "O", "O"]]


def test_without_tags_what_is_wrong_with_them_does_not_matter(rows):
    assert tags(rows, task({"result": "?"}), tags=False) == [None]


def bad(**value):
    return task({"result": [{"type": "labels", "value": {"start": 0, "end": 4, "labels": ["PER"], **value}}]})


@pytest.mark.parametrize(
    ("one", "options", "expected"),
    [
        (task(data={"review": TEXT}), {}, r"expected a text in data.text \(text_column_name\), found review in data"),
        (task(data={}), {}, "expected a text in data.text .*found nothing in data"),
        (task(), {"text_column_name": "body"}, r"expected a text in data.body .*found text, source in data"),
        ({"text": "no task"}, {}, "expected a task of Label Studio with data and annotations, found {'text'"),
        (task({"id": 1}), {}, "expected annotations with a result, found {'id': 1}"),
        (task({"result": ["x"]}), {}, "annotation 1: expected an object with a value, found 'x'"),
        (
            task({"result": [{"type": "hypertextlabels", "value": {"hypertextlabels": ["PER"], "start": "/div[1]"}}]}),
            {},
            "annotation 1: found hypertextlabels; expected labels of plain text",
        ),
        (bad(end=3, text="Mir"), {}, r"annotation 1 \(PER, 0 to 3\) ends inside the word 'Mira'"),
        (bad(text="Toll"), {}, r"annotation 1 \(PER, 0 to 4\) has the text 'Toll', but 'Mira' stands there"),
        (bad(labels=["A", "B"]), {}, r"annotation 1: expected a type in label, found \['A', 'B'\]"),
        (bad(labels=[]), {}, r"annotation 1: expected a type in label, found \[\]"),
        (bad(end=99), {}, r"annotation 1 \(PER, 0 to 99\) ends behind the text"),
    ],
)
def test_what_is_malformed_is_an_error_that_names_the_line(rows, one, options, expected):
    first = {"data": {"text": "", "body": ""}, "annotations": []}
    with pytest.raises(InputError, match=f"export.json:3: {expected}"):
        rows("export.json", f"[\n{json.dumps(first)},\n{json.dumps(one)}]", **options)
