import json

import pytest

from ner_lightning.errors import InputError
from ner_lightning.readers.label_names import read_label_names

NAMES = ("O", "B-PER", "I-PER")


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(NAMES),
        json.dumps({"B-PER": 1, "O": 0, "I-PER": 2}),
        json.dumps({"0": "O", "2": "I-PER", "1": "B-PER"}),
        json.dumps({"model_type": "bert", "id2label": {"0": "O", "1": "B-PER", "2": "I-PER"}}),
        "O\nB-PER\r\nI-PER\n\n",
        "\ufeffO\nB-PER\nI-PER",
    ],
)
def test_names_are_in_the_order_of_their_numbers(save, content):
    assert read_label_names(save("label.json", content)) == NAMES


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "label.json: expected names of labels, found none"),
        ("[]", "label.json: expected names of labels, found none"),
        ("O\n\nB-PER", "label.json: expected a name for label 1, found ''"),
        ('["O", 3]', "label.json: expected a name for label 1, found 3"),
        ('["O", "B", "O"]', "label.json: expected each label once, found O as 0 and 2"),
        ('{"O": 0, "B": 2}', "label.json: expected each number from 0 to 1 once, found {'O': 0, 'B': 2}"),
        ('{"O": 0, "B": 0}', "expected each number from 0 to 1 once"),
        ('{"O": "B"}', "expected each number from 0 to 0 once"),
        (f'{{"{"9" * 5000}": "B"}}', "expected each number from 0 to 0 once"),
        ("{", "label.json: expected JSON, or a name of a label on each line"),
        ("[" * 100_000, "label.json: expected JSON, or a name of a label on each line"),
        ('["O", "\\ud800"]', r"label.json: expected a name for label 1, found '\\ud800'"),
        (b"O\n\xff", "label.json: expected names of labels in UTF-8, found byte 0xff"),
    ],
)
def test_what_is_malformed_is_an_error_that_names_the_file(save, content, expected):
    with pytest.raises(InputError, match=expected):
        read_label_names(save("label.json", content))
