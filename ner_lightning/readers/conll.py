"""CoNLL columns and CoNLL-U, with or without tags; lines that begin with a prefix are comments."""

import codecs
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ner_lightning.errors import InputError
from ner_lightning.files import open_to_read
from ner_lightning.readers import columns as conll
from ner_lightning.readers.row import ReadOptions, Row


def read_rows(path: Path, *, name: str, options: ReadOptions, conllu: bool) -> Iterator[Row]:
    """Read columns sentence by sentence.

    Args:
        path: The file.
        name: What an error calls it.
        options: Of them, the columns and `comment_prefix`. By default the words are in the first column and the tags in
            the last, in CoNLL-U in columns 1 and 3; a file of one column has no tags.
        conllu: Whether it is CoNLL-U.

    Raises:
        InputError: What `conll` refuses, or a column that is no number.
    """
    words = _number(name, "text_column_name", options.text_column_name, 1 if conllu else 0)
    tags: int | None = _number(name, "label_column_name", options.label_column_name, 3 if conllu else -1)
    if not options.tags or (options.label_column_name is None and not conllu and _has_one_column(path, name, options)):
        tags = None
    lines = read_lines(path, name=name, options=options, conllu=conllu)
    for sentence in conll.parse_sentences(lines, name=name, word_column=words, tag_column=tags):
        place = f"{name}:{sentence.lines[0]}"
        yield Row(
            sentence.words,
            None if tags is None else sentence.tags,
            None,
            None,
            sentence.document,
            place,
            sentence.lines,
            {},
        )


def read_lines(path: Path, *, name: str, options: ReadOptions, conllu: bool) -> Iterator[conll.Line]:
    """Read the lines of a file, from which it can be written again byte for byte.

    Args:
        path: The file.
        name: What an error calls it.
        options: Of them, `comment_prefix`.
        conllu: Whether it is CoNLL-U.

    Raises:
        InputError: What `conll.parse_lines` refuses.
    """
    with open_to_read(path) as file:
        if not options.comment_prefix:
            may_be_comment = file.readline().removeprefix(codecs.BOM_UTF8).startswith(b"#") and not conllu
            file.seek(0)
            try:
                yield from conll.parse_lines(file, name=name, conllu=conllu)
            except InputError as error:
                if may_be_comment:
                    raise InputError(
                        f"{error}; if lines that begin with # are comments, give comment_prefix=#"
                    ) from error
                raise
            return
        prefix = options.comment_prefix.encode()
        comment: bytes | None = None

        def without_comments() -> Iterator[bytes]:
            nonlocal comment
            for raw in file:
                comment = raw if raw.removeprefix(codecs.BOM_UTF8).startswith(prefix) else None
                yield raw if comment is None else b""

        # each line is given back before the next is asked for
        for line in conll.parse_lines(without_comments(), name=name, conllu=conllu):
            if comment is None:
                yield line
            else:
                text, ending = conll.decode_line(comment, name=name, number=line.number)
                yield replace(line, text=text, ending=ending, kind="comment")


def _has_one_column(path: Path, name: str, options: ReadOptions) -> bool:
    lines = read_lines(path, name=name, options=options, conllu=False)
    return next((len(line.columns) == 1 for line in lines if line.kind == "word"), False)


def _number(name: str, option: str, asked: str | int | None, default: int) -> int:
    try:
        return default if asked is None else int(asked)
    except ValueError as error:
        raise InputError(
            f"{name}: expected the number of a column in {option}, from 0, or from the end if negative, found {asked!r}"
        ) from error
