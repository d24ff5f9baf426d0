"""A trained model behind HTTP: `python -m ner_lightning serve`."""

from __future__ import annotations

import ipaddress
import socket
import sys

from ner_lightning.errors import InputError
from ner_lightning.predict.tagger import Precision, Tagger


def serve(
    *,
    model: str = "runs",
    host: str = "127.0.0.1",
    port: int = 8000,
    max_chars: int = 100_000,
    timeout: float = 60.0,
    min_score: float = 0.0,
    precision_target: float | None = None,
    device: str = "auto",
    precision: Precision = "32-true",
    max_tokens: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Find entities for programs that ask over HTTP, until it is stopped.

    Args:
        model: Folder of runs (its newest), of a run (its best checkpoint), a checkpoint, an exported folder, or a
            Hub id.
        host: Address to listen at; by default that of this machine alone.
        port: Port to listen at; 0 takes a free one.
        max_chars: Characters of all texts of a request.
        timeout: Seconds that a request may take, and its sending, too.
        min_score: Entities with a smaller score are left out: their words have the label O.
        precision_target: Leave out entities of each type below the score from which on that share of them was right
            on validation, such as 0.95.
        device: Where to run: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: Of the arithmetic: `32-true`, `bf16-mixed` or `16-mixed`.
        max_tokens: Sub-words in a batch, with padding; by default 1,024 on a processor and 8,192 elsewhere.
        revision: Branch, tag or commit of a model on the Hub.
        trust_remote_code: Run the code that comes with the model, where it needs it.

    Raises:
        InputError: There is no such model, an option is out of its range, or the address cannot be listened at.
    """
    try:
        import uvicorn

        from ner_lightning.predict.app import make_app
    except ModuleNotFoundError as error:
        raise InputError('serve needs fastapi and uvicorn: pip install "ner-lightning[serve]"') from error
    for name, limit in (("max_chars", max_chars), ("timeout", timeout)):
        if limit <= 0:
            raise InputError(f"--{name}={limit}: give a number above 0")
    with listening(host, port) as place:  # before the model is loaded, which takes a while
        tagger = Tagger.load(
            model,
            min_score=min_score,
            precision_target=precision_target,
            device=device,
            precision=precision,
            max_tokens=max_tokens,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        app = make_app(tagger, max_chars=max_chars, timeout=timeout)
        url = url_of(place)
        print(f"serving {model} at {url}/entities, described in {url}/openapi.json", file=sys.stderr)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)).run([place])


def listening(host: str, port: int) -> socket.socket:
    """Listen at an address.

    Args:
        host: The address.
        port: The port; 0 takes a free one.

    Raises:
        InputError: It cannot be listened at.
    """
    if not 0 <= port < 1 << 16:
        raise InputError(f"--port={port}: give a number from 0 to 65535")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(f"--host={host} --port={port} cannot be listened at: {error}") from error


def url_of(place: socket.socket) -> str:
    """The address of what listens; says where others reach it, too."""
    address, port = place.getsockname()[:2]
    if not ipaddress.ip_address(address).is_loopback:
        print("whoever reaches this machine can use it: it asks for no password", file=sys.stderr)
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"
