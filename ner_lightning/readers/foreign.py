"""What is no text in UTF-8, known by its first bytes."""

from ner_lightning.errors import InputError

HEAD = 64 * 1024  # bytes that are looked at


def refuse_foreign(name: str, head: bytes) -> None:
    """Refuse what is no text in UTF-8, by what it is and with what to do about it.

    Args:
        name: What an error calls the file.
        head: Its first bytes.

    Raises:
        InputError: It is packed, in UTF-16, of another program, or holds a byte that no text has.
    """
    for start, (found, then) in _FOREIGN.items():
        if head.startswith(start):
            raise InputError(f"{name}: expected text in UTF-8, found {found}; {then}")
    if b"\0" in head:
        raise InputError(f"{name}: expected text in UTF-8, found a binary file, or UTF-16 without a byte order mark")


_CONVERT = "convert it (iconv -f UTF-16 -t UTF-8)"
# of several that begin alike the longest comes first
_FOREIGN = {
    b"\x1f\x8b": ("a gzip file", "unpack it (gunzip)"),
    b"BZh91AY&SY": ("a bzip2 file", "unpack it (bunzip2)"),
    b"\xfd7zXZ\0": ("an xz file", "unpack it (unxz)"),
    b"\x28\xb5\x2f\xfd": ("a zstandard file", "unpack it (unzstd)"),
    b"PK\3\4": ("a zip archive, as .zip, .xlsx, .docx and .npz are", "give the text that is in it"),
    b"x\x9c": ("compressed data, as a .spacy file is", "export it as JSON lines with text and entities, or as columns"),
    b"%PDF-": ("a PDF", "give the text that is in it"),
    b"\xd0\xcf\x11\xe0": ("a document of an old Office", "save it as text"),
    b"PAR1": ("a parquet file", "give it the suffix .parquet or format=parquet"),
    b"ARROW1": ("an Arrow file", "export it as parquet or JSON lines"),
    b"\xff\xfe\0\0": ("UTF-32", "convert it (iconv -f UTF-32 -t UTF-8)"),
    b"\xff\xfe": ("UTF-16", _CONVERT),
    b"\xfe\xff": ("UTF-16", _CONVERT),
}
