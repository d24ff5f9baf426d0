import pytest

from ner_lightning.readers import ReadOptions, read


@pytest.fixture
def save(tmp_path):
    """Write a file into the folder of the test."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def rows(save):
    """Write a file and read it."""

    def read_rows(name, content, **options):
        return list(read(save(name, content), options=ReadOptions(**options)))

    return read_rows
