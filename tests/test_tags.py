import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ner_lightning.errors import InputError
from ner_lightning.tags import (
    Entity,
    Slips,
    TagError,
    UndecidedError,
    continuation,
    detect_scheme,
    entities,
    is_entity_scheme,
    label_list,
    lacks_types,
    opening,
    refuse_malformed,
    to_iob2,
    with_type,
)

TYPES = ["PER", "LOC", "creative-work", "Ort", "人", "-", "_"]
few = settings(deadline=None, max_examples=100)


@st.composite
def iob2_sentences(draw):
    """Well-formed IOB2 tags."""
    tags = []
    for type_, length, gap in draw(
        st.lists(st.tuples(st.sampled_from(TYPES), st.integers(1, 3), st.integers(0, 2)), max_size=5)
    ):
        tags += ["O"] * gap + [f"B-{type_}"] + [f"I-{type_}"] * (length - 1)
    return tags + ["O"] * draw(st.integers(0, 2))


def written(tags, scheme):
    """IOB2 tags as another scheme writes them."""
    begin, inside, last, single = {"BILOU": "BILU", "IOB1": "IIII", "IOB2": "BIIB"}.get(scheme, "BIES")
    found = []
    for before, tag, after in zip(["O", *tags], tags, [*tags, "O"][1:], strict=False):
        begins, ends = tag[0] == "B", after[0] != "I"
        letter = (single if ends else begin) if begins else (last if ends else inside)
        if scheme == "IOB1" and begins and before[2:] == tag[2:]:
            letter = "B"
        found.append(tag if tag == "O" else letter + tag[1:])
    return found


def any_tags(prefixes):
    tag = st.one_of(st.just("O"), st.builds("{}-{}".format, st.sampled_from(prefixes), st.sampled_from(TYPES)))
    return st.lists(tag, max_size=10)


# entities


@few
@given(any_tags("BIES"))
def test_entities_equal_seqeval_on_any_sequence(tags):
    from seqeval.metrics.sequence_labeling import get_entities

    assert [(e.type, e.start, e.end - 1) for e in entities(tags)] == get_entities(tags)


@few
@given(any_tags("BILU"))
def test_bilou_reads_as_bioes_under_other_letters(tags):
    renamed = [tag.replace("L-", "E-", 1) if tag[0] == "L" else tag for tag in tags]
    renamed = [tag.replace("U-", "S-", 1) if tag[0] == "U" else tag for tag in renamed]
    assert entities(tags) == entities(renamed)


def test_a_change_of_type_makes_two_entities():
    assert entities(["I-PER", "I-LOC"]) == [Entity("PER", 0, 1), Entity("LOC", 1, 2)]


def test_an_inside_tag_after_o_opens_an_entity():
    assert entities(["O", "I-PER", "I-PER"]) == [Entity("PER", 1, 3)]


def test_entities_of_no_words_are_none():
    assert entities([]) == []


def test_a_type_may_hold_a_dash_and_any_letter():
    assert entities(["B-creative-work", "I-creative-work", "B-人"]) == [
        Entity("creative-work", 0, 2),
        Entity("人", 2, 3),
    ]


@pytest.mark.parametrize("tag", ["X-PER", "B_PER", "B-", "B", "b-PER", "o", "PER", ""])
def test_entities_refuse_a_foreign_tag(tag):
    with pytest.raises(TagError, match="belongs to no scheme"):
        entities(["O", tag])


# conversion

EXAMPLE = ["O", "B-PER", "I-PER", "B-PER", "B-LOC", "O", "B-LOC", "I-LOC", "I-LOC"]
WRITTEN = {
    "IOB1": ["O", "I-PER", "I-PER", "B-PER", "I-LOC", "O", "I-LOC", "I-LOC", "I-LOC"],
    "IOB2": EXAMPLE,
    "BIOES": ["O", "B-PER", "E-PER", "S-PER", "S-LOC", "O", "B-LOC", "I-LOC", "E-LOC"],
    "IOBES": ["O", "B-PER", "E-PER", "S-PER", "S-LOC", "O", "B-LOC", "I-LOC", "E-LOC"],
    "BILOU": ["O", "B-PER", "L-PER", "U-PER", "U-LOC", "O", "B-LOC", "I-LOC", "L-LOC"],
}


@pytest.mark.parametrize("scheme", WRITTEN)
def test_each_scheme_writes_the_same_entities_its_own_way(scheme):
    assert written(EXAMPLE, scheme) == WRITTEN[scheme]
    assert to_iob2(WRITTEN[scheme], scheme=scheme) == EXAMPLE


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "IOBES", "BILOU"])
@few
@given(tags=iob2_sentences())
def test_what_a_scheme_writes_reads_as_the_same_tags(tags, scheme):
    assert to_iob2(written(tags, scheme), scheme=scheme) == tags
    assert entities(written(tags, scheme)) == entities(tags)


@pytest.mark.parametrize(("scheme", "prefixes"), [("IOB1", "BI"), ("BIOES", "BIES"), ("BILOU", "BILU")])
@few
@given(data=st.data())
def test_to_iob2_keeps_the_entities_of_ill_formed_tags(scheme, prefixes, data):
    tags = data.draw(any_tags(prefixes))
    assert entities(to_iob2(tags, scheme=scheme)) == entities(tags)


def test_ill_formed_iob2_gets_its_missing_begin():
    assert to_iob2(["O", "I-PER", "I-LOC"], scheme="IOB2") == ["O", "B-PER", "B-LOC"]


@pytest.mark.parametrize("prefix", ["I-", ""])
def test_io_reads_a_run_of_equal_types_as_one_entity(prefix):
    tags = [f"{prefix}person", f"{prefix}person", "O", f"{prefix}art-film", f"{prefix}person"]
    assert to_iob2(tags, scheme="IO") == ["B-person", "I-person", "O", "B-art-film", "B-person"]


def test_plain_tags_stay_as_they_are():
    tags = ["NN", "O", "S-X", ":"]
    assert to_iob2(tags, scheme="plain") == tags


@pytest.mark.parametrize(
    ("tag", "scheme", "expected"),
    [
        (
            "E-PER",
            "IOB2",
            "'E-PER' is not one of IOB2; expected O or B-/I- followed by a type; give another scheme",
        ),
        ("U-PER", "BIOES", "'U-PER' is not one of BIOES; expected O or B-/I-/E-/S- followed by a type"),
        ("S-PER", "BILOU", "'S-PER' is not one of BILOU; expected O or B-/I-/L-/U- followed by a type"),
        ("B-PER", "IO", "'B-PER' is not one of IO; expected O or I- followed by a type, or a bare type"),
        ("I-", "IO", "'I-' belongs to no scheme"),
        (
            "X-PER",
            "IOB1",
            "'X-PER' belongs to no scheme; expected O or B-/I-/E-/S-/L-/U- followed by a type; for",
        ),
        ("", "plain", "a tag is empty"),
    ],
)
def test_a_tag_of_another_scheme_is_refused(tag, scheme, expected):
    with pytest.raises(TagError, match=expected) as caught:
        to_iob2(["O", tag], scheme=scheme)
    assert caught.value.tag == tag


@pytest.mark.parametrize("scheme", [*WRITTEN, "IO", "plain"])
def test_every_tag_of_the_scheme_is_accepted(scheme):
    for tag in ["O", *WRITTEN.get(scheme, ["I-PER", "person"])]:
        assert len(to_iob2([tag], scheme=scheme)) == 1


def test_a_tag_error_survives_another_process():
    with pytest.raises(TagError) as caught:
        to_iob2(["X-PER"], scheme="IOB2")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.tag) == (str(caught.value), "X-PER")


# detection


@pytest.mark.parametrize(
    ("scheme", "sentences"),
    [
        ("IOB1", [["O", "I-PER"], ["I-LOC", "B-LOC"]]),
        ("IOB2", [["O", "B-PER", "I-PER"], ["B-LOC", "B-LOC"]]),
        ("IOB2", [["B-PER", "O"]]),
        ("BIOES", [["B-PER", "E-PER"]]),
        ("BIOES", [["O"], ["S-PER"]]),
        ("BIOES", [["B-PER", "I-PER", "E-PER", "I-PER"]]),
        ("BILOU", [["B-PER", "L-PER", "U-PER"]]),
        ("plain", [["DT", "NN"], [":", "``"]]),
        ("plain", [["DT", "S-X", "E-X"]]),
    ],
)
def test_the_evidence_decides(scheme, sentences):
    assert detect_scheme(sentences) == (scheme, None)


def test_a_begin_after_another_type_is_evidence_of_iob2():
    assert detect_scheme([["B-PER", "B-LOC"]]) == ("IOB2", None)


def test_detection_takes_a_stream_and_empty_sentences():
    assert detect_scheme(iter([[], ["B-PER"], []])) == ("IOB2", None)


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU"])
def test_a_written_corpus_is_detected_in_any_order_of_sentences(scheme):
    sentences = [["B-PER", "B-PER", "O"], ["O", "B-LOC", "I-LOC"], ["O"], ["B-LOC"]]
    sentences = [written(tags, scheme) for tags in sentences]
    for seed in range(5):
        random.Random(seed).shuffle(sentences)
        assert detect_scheme(sentences) == (scheme, None)


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (
            [["O", "I-PER", "I-LOC"]],
            "I- tags only .*'I-PER'.* IOB1 and IO both remain; give --data.scheme=IOB1 or --data.scheme=IO$",
        ),
        (
            [["O", "B-PER", "O", "I-LOC"]],
            "'I-LOC' opens an entity; 1 open with B-, .* 1 with I-, .* --data.scheme=IOB2 .*read as conlleval does",
        ),
        ([["O", "O"]], "every tag is O, so the schemes IOB1, IOB2, BIOES, BILOU, IO and plain all remain"),
        ([[]], "there are no tags, so .* all remain; give one as --data.scheme"),
        ([["O", "person", "art"]], "'person' stand beside O, so the schemes IO .* and plain .* remain"),
    ],
)
def test_where_evidence_does_not_decide_it_asks_for_the_scheme(sentences, expected):
    with pytest.raises(InputError, match=expected):
        detect_scheme(sentences)


@pytest.mark.parametrize(("scheme", "rule", "slip"), [("IOB2", "B-PER", "I-LOC"), ("IOB1", "I-PER", "B-LOC")])
def test_one_slip_in_a_hundred_openings_leaves_the_scheme_and_is_told(scheme, rule, slip):
    sentences = [*[[rule, "O"]] * 60, ["O", slip], *[[rule, "O"]] * 39]
    assert detect_scheme(sentences) == (scheme, Slips(1, 100, slip, (60, 1)))


def test_more_slips_are_asked_about_with_the_place_of_the_first():
    with pytest.raises(UndecidedError, match=r"'I-LOC' opens an entity; 99 open with B-, .* and 2 with I-") as caught:
        detect_scheme([*[["B-PER", "O"]] * 99, ["O", "O", "I-LOC"], ["I-LOC"]])
    assert (caught.value.tag, caught.value.place) == ("I-LOC", (99, 2))


def test_an_inside_tag_behind_its_begin_is_no_slip():
    assert detect_scheme([["I-PER", "I-PER"], *[["O", "I-PER"]] * 200, ["I-PER", "B-PER"]]) == ("IOB1", None)


@pytest.mark.parametrize("tag", ["X-PER", "B_PER", "B-", "PER", "o", ""])
@pytest.mark.parametrize("others", [["O", "B-PER"], ["I-PER"], ["O", "S-PER"]])
def test_a_foreign_tag_among_entity_tags_is_named(tag, others):
    with pytest.raises(TagError, match=f"tag '{tag}' belongs to no scheme.*scheme=plain") as caught:
        detect_scheme([others, [tag]])
    assert caught.value.tag == tag


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("B_PER", "B-PER"),
        ("PER-B", "B-PER"),
        ("PER_I", "I-PER"),
        ("b-org", "B-org"),
        ("s:creative-work", "S-creative-work"),
    ],
)
@pytest.mark.parametrize("others", [["O"], ["o"], ["O", "I-PER"], ["b-LOC", "i-LOC"]])
def test_another_spelling_of_a_tag_is_told_with_the_right_one(tag, expected, others):
    with pytest.raises(TagError, match=r"belongs to no scheme; expected .*; for .* give --data\.scheme=plain"):
        refuse_malformed([tag, *others])
    with pytest.raises(TagError, match=f"tag '{tag}' belongs to no scheme; expected {expected};"):
        entities([tag])


def test_a_tag_without_its_type_is_told_what_it_lacks():
    with pytest.raises(TagError, match="tag 'I' belongs to no scheme; expected I- followed by a type"):
        detect_scheme([["O", "B-PER", "I"]])


@pytest.mark.parametrize("tag", ["B-ORG|B-LOC", "I-ORG,B-LOC", "B-ORG|O", "O|B-LOC", "B-DNA#B-protein", "S-a-b/E-c"])
@pytest.mark.parametrize("others", [[], ["O"], ["B-ORG"], ["NN"]])
def test_two_labels_in_one_tag_are_refused(tag, others):
    with pytest.raises(TagError, match="holds more than one label; expected one for each word, such as") as caught:
        detect_scheme([[tag, *others]])
    assert caught.value.tag == tag
    for scheme in ("IOB2", "IO"):
        with pytest.raises(TagError, match="holds more than one label"):
            to_iob2([tag], scheme=scheme)
    assert to_iob2([tag], scheme="plain") == [tag]


PLAIN = {
    "UPOS": "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X _",
    "PTB": "# $ '' , -LRB- -RRB- . : CC CD DT JJ LS NN|SYM NN|VBG NNP NNPS PDT POS PRP PRP$ WP$ RP UH",
    "STTS": "$( $, $. ADJA APPRART I KOUI NE NN PIS PPOSAT PTKVZ S VVIZU XY",
    "Perseus": "n-s---mn- v3spia--- l-s---mn- i-------- e-------- u-------- b-------- g--------",
    "Multext": "Ncmsn Vmip3s--n Sl I Z B E L U",
    "Sejong": "NNG+JKS B SF S-X E-X",
    "Chinese": "名詞 動詞 B-詞 形容詞|名詞",
    "segmentation": "B M E S",
    "ratings": "b-1 b-2 b-3",
}


@pytest.mark.parametrize("tags", [pytest.param(tags.split(), id=name) for name, tags in PLAIN.items()])
def test_labels_of_words_are_no_malformed_entities(tags):
    refuse_malformed(tags)
    assert not lacks_types(tags)
    assert label_list(tags) == sorted(tags)
    if not any(tag.startswith("B-") for tag in tags):
        assert detect_scheme([tags]) == ("plain", None)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "B", "I"], True),
        (["O", "I"], True),
        (["O", "B", "L", "U", "I"], True),
        (["O", "B-", "I-"], True),
        (["B", "I"], False),
        (["O", "E", "S"], False),
        (["O", "B", "I-PER"], False),
        (["O", "B", "NN"], False),
        (["O"], False),
        ([], False),
    ],
)
def test_tags_that_are_positions_beside_o_lack_a_type(tags, expected):
    assert lacks_types(tags) is expected
    if expected:
        spelling = with_type("Taxon")
        assert {tag[2:] for tag in map(spelling.get, tags) if tag} == {"Taxon"}


def test_bioes_and_bilou_together_are_refused():
    with pytest.raises(TagError, match="'S-PER' is of BIOES and 'L-PER' is of BILOU"):
        detect_scheme([["S-PER", "B-PER", "L-PER"]])


# labels


def test_labels_stand_by_type_with_both_prefixes_whatever_the_order():
    expected = ["O", "B-LOC", "I-LOC", "B-creative-work", "I-creative-work"]
    assert label_list(["I-creative-work", "B-LOC", "B-LOC"]) == expected
    assert label_list(iter(["B-LOC", "O", "B-creative-work"])) == expected


def test_plain_labels_are_sorted_with_o_first_if_there():
    assert label_list(["VB", ".", "O", "S-X"]) == ["O", ".", "S-X", "VB"]
    assert label_list(["VB", "."]) == [".", "VB"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["O", "B-PER", "I-PER"], True),
        (["B-PER"], True),
        (["O"], False),
        ([], False),
        (["NN", "VB"], False),
        (["NN", "B-PER"], False),
        (["O", "B-PER", "S-PER"], False),
    ],
)
def test_an_entity_scheme_has_b_and_i_and_nothing_foreign(labels, expected):
    assert is_entity_scheme(labels) is expected


def test_only_a_begin_tag_continues_as_another():
    labels = ["B-ORG", "I-ORG", "O", "NN", "B-creative-work"]
    assert [continuation(label) for label in labels] == ["I-ORG", "I-ORG", "O", "NN", "I-creative-work"]


def test_only_an_inside_tag_is_opened_by_another():
    labels = ["B-ORG", "I-ORG", "O", "NN", "I-creative-work"]
    assert [opening(label) for label in labels] == ["B-ORG", "B-ORG", "O", "NN", "B-creative-work"]
