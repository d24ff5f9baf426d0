"""A Hugging Face Hub in memory, to which the real client talks.

    with FakeHub() as hub:                            # binds a free port of 127.0.0.1
        hub.add_repo("dataset", "user/name", {"data/train.parquet": ...})
        env = hub.env(folder)                         # HF_ENDPOINT, HF_HOME, HF_TOKEN, ... for a subprocess
        hub.calls()                                   # [(method, path, status), ...]
        hub.fail("POST", r"/commit/", 503, times=2)   # a fault, injected
        hub.repo("model", "user/name").head()         # {path: Blob}

In process, the fixture `hub` of `conftest.py` points the already imported libraries at it.

It holds a commit history (linear, per branch), "regular" and "lfs" files, branches, tags, other refs, and
read and write tokens. `xet=True` makes it a content-addressed store as well (`fake_xet.py`), with upload and download
through the real hf_xet. `python tests/fake_hub.py --port 8765` runs it alone.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import json
import os
import re
import socket
import struct
import threading
import time
import traceback
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

from fake_xet import XetStore

TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}
WRITE, READ = "hf_fake_write", "hf_fake_read"
# what the real Hub stores as LFS/xet whatever the size (default .gitattributes) - and anything >= 10 MB
LFS_EXT = (".safetensors", ".bin", ".pt", ".ckpt", ".parquet", ".arrow", ".h5", ".msgpack", ".zip", ".onnx")


def git_blob_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class Blob:
    data: bytes
    lfs: bool

    @property
    def sha256(self):
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self):
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        ).encode()

    @property
    def oid(self):  # git oid: of the pointer for LFS files
        return git_blob_oid(self.pointer if self.lfs else self.data)

    @property
    def etag(self):
        return self.sha256 if self.lfs else self.oid


@dataclass
class Commit:
    oid: str
    parent: str | None
    title: str
    description: str
    tree: dict[str, Blob]
    date: str


@dataclass
class Repo:
    type: str
    id: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # "main" | "refs/convert/parquet" | ... -> commit oid
    tags: dict[str, str] = field(default_factory=dict)

    def add_commit(self, ref, title, desc, tree):
        parent = self.refs.get(ref)
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        raw = json.dumps([parent, title, desc, now, len(self.commits), sorted((p, b.oid) for p, b in tree.items())])
        oid = hashlib.sha1(raw.encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, desc, tree, now)
        self.refs[ref] = oid
        return oid

    def resolve(self, rev):
        rev = self.refs.get(rev) or self.tags.get(rev) or rev
        if rev in self.commits:
            return self.commits[rev]
        hits = [c for o, c in self.commits.items() if len(rev) >= 7 and o.startswith(rev)]
        return hits[0] if len(hits) == 1 else None

    def head(self, ref="main"):
        return self.resolve(ref).tree

    def log(self, ref="main"):
        out, c = [], self.resolve(ref)
        while c:
            out.append(c)
            c = self.commits.get(c.parent) if c.parent else None
        return out


@dataclass
class Fault:
    method: str
    regex: re.Pattern
    status: int | None
    times: int
    headers: dict
    body: bytes
    delay: float
    after: bool  # apply the request first, then lose the response


class HttpError(Exception):
    def __init__(self, status, message, code=None, headers=None):
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}


class FakeHub:
    def __init__(self, port=0, user="user", xet=False, lfs_ext=LFS_EXT, lfs_threshold=10_000_000, log_bodies=False):
        self.user, self.xet, self.lfs_ext, self.lfs_threshold = user, xet, tuple(lfs_ext), lfs_threshold
        self.tokens = {WRITE: "write", READ: "read"}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.xorbs: dict[str, bytes] = {}
        self.xet_files: dict[str, list] = {}  # xet file hash -> [(xorb, unpacked, chunk_start, chunk_end)]
        self.sha_to_xet: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.requests: list[dict] = []
        self.lock = threading.RLock()
        self.log_bodies = log_bodies
        self.conns: set[socket.socket] = set()
        self.closing = threading.Event()  # ends all delays
        handler = type("H", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    # -- lifecycle / test helpers
    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *a):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        # the client keeps connections alive: without this a "stopped" hub still answers
        for c in list(self.conns):
            with contextlib.suppress(OSError):
                c.shutdown(socket.SHUT_RDWR)

    def env(self, home, token=WRITE, xet=None):
        """The environment of a subprocess that shall talk to this hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",  # otherwise a GET of /api/agent-harnesses stands in the log
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "0" if (self.xet if xet is None else xet) else "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_TOKEN": token or "",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def fail(self, method, path_regex, status, times=1, headers=None, body=b"", delay=0.0, after=False):
        """Let the next `times` matching requests fail.

        A status of None resets the connection, -1 does so in the middle of the request, 0 only delays; `after`
        applies the request, waits then, and loses the answer. A `Content-Length` longer than the body breaks off in
        the middle of it.
        """
        b = body.encode() if isinstance(body, str) else body
        self.faults.append(Fault(method, re.compile(path_regex), status, times, headers or {}, b, delay, after))

    def calls(self, pattern=""):
        return [(r["method"], r["path"], r["status"]) for r in self.requests if re.search(pattern, r["path"])]

    def repo(self, type_, id_):
        return self.repos[type_, id_]

    def add_repo(self, type_, id_, files: dict[str, bytes] | None = None, ref="main", private=False):
        r = self.repos.get((type_, id_))
        if r is None:
            r = self.repos[type_, id_] = Repo(type_, id_, private)
            r.add_commit("main", "initial commit", "", {".gitattributes": Blob(self._gitattributes(), False)})
        if files:
            base = dict(r.head(ref)) if ref in r.refs else {}
            base.update({p: Blob(d, self.is_lfs(p, len(d))) for p, d in files.items()})
            r.add_commit(ref, "seed", "", base)
        return r

    def _gitattributes(self):
        return "".join(f"*{e} filter=lfs diff=lfs merge=lfs -text\n" for e in self.lfs_ext).encode()

    def is_lfs(self, path, size):
        return path.endswith(self.lfs_ext) or size >= self.lfs_threshold


class _Handler(XetStore, BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    server_version = "fake-hub"
    disable_nagle_algorithm = True  # head and body of an answer are two writes: 40 ms each otherwise

    def log_message(self, *a):
        pass

    def setup(self):
        super().setup()
        self.hub.conns.add(self.connection)

    def finish(self):
        self.hub.conns.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def _reset(self):
        self.close_connection = True
        # RST instead of FIN
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    # -- plumbing -------------------------------------------------------------------------------------------
    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            out = b""
            while n := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
            return out
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status, body=b"", headers=None, ctype=None):
        if isinstance(body, (dict, list)):
            body, ctype = json.dumps(body).encode(), ctype or "application/json; charset=utf-8"
        self._status = status
        self._pending = (status, body, headers or {}, ctype)

    def _flush(self):
        status, body, headers, ctype = self._pending
        self.send_response(status)
        headers = dict(headers)
        n = headers.pop("Content-Length", len(body))
        if ctype:
            self.send_header("Content-Type", ctype)
        self.send_header("Content-Length", str(n))
        self.send_header("X-Request-Id", f"Root=fake-{len(self.hub.requests)}")
        for k, v in headers.items():
            self.send_header(k, v)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            if int(n) > len(body):  # a fault announced more than there is
                self.wfile.flush()
                self._reset()

    def _handle(self):
        hub = self.hub
        u = urlsplit(self.path)
        self.raw_path, self.query = u.path, parse_qs(u.query)
        rec = {"method": self.command, "path": self.path, "status": 0, "headers": dict(self.headers)}
        with hub.lock:
            hub.requests.append(rec)
            due = (f for f in hub.faults if f.times and f.method in (self.command, "*"))
            fault = next((f for f in due if f.regex.search(self.path)), None)
            if fault:
                fault.times -= 1
        if fault and fault.status == -1:
            rec["status"] = -1
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            self._reset()
            return
        body = self._body()
        if hub.log_bodies:
            rec["body"] = body
        self._pending = None
        if fault and not fault.after:
            hub.closing.wait(fault.delay)
        if fault is None or fault.after or fault.status == 0:
            try:
                with hub.lock:
                    self.route(body)
                if self._pending is None:
                    raise HttpError(404, f"no route for {self.command} {self.path}")
            except HttpError as e:
                h = {"X-Error-Message": e.message, **e.headers}
                if e.code:
                    h["X-Error-Code"] = e.code
                self.reply(e.status, {"error": e.message}, h)
            except Exception as e:  # a bug in the fake must be visible, not retried away
                traceback.print_exc()
                self.reply(418, {"error": f"fake_hub bug: {e!r}"})
        if fault:
            if fault.after:
                hub.closing.wait(fault.delay)
            if fault.status is None:
                rec["status"] = -1
                self._reset()
                return
            if fault.status:
                self.reply(fault.status, fault.body, fault.headers, fault.headers.get("Content-Type", "text/plain"))
        rec["status"] = self._status
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._flush()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

    # -- auth -----------------------------------------------------------------------------------------------
    def role(self):
        a = self.headers.get("authorization") or ""
        if not a:
            return None
        role = self.hub.tokens.get(a.removeprefix("Bearer ").strip())
        if role is None:
            raise HttpError(401, "Invalid credentials in Authorization header")
        return role

    def need_write(self):
        r = self.role()
        if r is None:
            raise HttpError(401, "Invalid username or password.")
        if r != "write":
            raise HttpError(403, "You don't have the required permissions (role: write)")

    def get_repo(self, type_, id_):
        r = self.hub.repos.get((type_, id_))
        if r is None or (r.private and self.role() is None):
            # like the Hub: 401 for anonymous, 404 for authenticated
            raise HttpError(401 if self.role() is None else 404, "Repository not found", "RepoNotFound")
        return r

    def get_commit(self, r, rev):
        c = r.resolve(rev)
        if c is None:
            raise HttpError(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return c

    # -- routes ---------------------------------------------------------------------------------------------
    def route(self, body):
        hub, m, p = self.hub, self.command, self.raw_path

        if p == "/api/whoami-v2" and m == "GET":
            if self.role() is None:
                raise HttpError(401, "Invalid username or password.")
            return self.reply(
                200,
                {
                    "type": "user",
                    "id": "1",
                    "name": hub.user,
                    "fullname": hub.user,
                    "orgs": [],
                    "auth": {
                        "type": "access_token",
                        "accessToken": {"displayName": "t", "role": self.role()},
                    },
                },
            )
        if p == "/api/agent-harnesses":
            return self.reply(200, {"standardEnvVars": [], "harnesses": {}})
        if p == "/api/validate-yaml" and m == "POST":
            text = json.loads(body)["content"]
            if not re.match(r"^\s*---\r?\n[\s\S]*?\n---", text):
                return self.reply(
                    200,
                    {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]},
                )
            return self.reply(200, {"errors": [], "warnings": []})
        if p == "/api/repos/create" and m == "POST":
            return self.create_repo(json.loads(body))
        if p == "/api/repos/delete" and m == "DELETE":
            self.need_write()
            d = json.loads(body)
            hub.repos.pop((d.get("type") or "model", f"{d.get('organization') or hub.user}/{d['name']}"), None)
            return self.reply(200, b"")
        if m == "PUT" and (g := re.fullmatch(r"/_lfs/([0-9a-f]{64})", p)):
            if hashlib.sha256(body).hexdigest() != g[1]:
                raise HttpError(400, "sha256 mismatch")
            hub.lfs[g[1]] = body
            return self.reply(200, b"", {"ETag": f'"{g[1]}"'})
        if m == "POST" and p == "/_lfs_verify":
            d = json.loads(body)
            return self.reply(200 if len(hub.lfs.get(d["oid"], b"")) == d["size"] else 404, {})
        if m == "POST" and (g := re.fullmatch(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", p)):
            return self.lfs_batch(TYPES.get(g[1] or "models"), g[2], json.loads(body))
        resolve = r"/(?:(datasets|spaces)/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+|refs/(?:convert|pr)/[^/]+)/(.+)"
        if m in ("GET", "HEAD") and (g := re.fullmatch(resolve, p)):
            return self.resolve_file(TYPES[g[1] or "models"], unquote(g[2]), unquote(g[3]), unquote(g[4]))
        if g := re.fullmatch(r"/api/(models|datasets|spaces)/(.+)", p):
            return self.repo_api(TYPES[g[1]], g[2], body)
        if p.startswith("/_cas/"):
            return self.cas(p.removeprefix("/_cas"), body)
        return None  # no such route: 404

    # fmt: off
    ACTIONS = (
        "preupload", "commit", "tree", "revision", "paths-info", "branch", "tag", "refs", "commits",
        "settings", "xet-write-token", "xet-read-token", "super-squash",
    )
    # fmt: on

    def repo_api(self, type_, rest, body):
        m, hub = self.command, self.hub
        parts = rest.split("/")
        k = next((i for i, s in enumerate(parts) if i in (1, 2) and s in self.ACTIONS), len(parts))
        id_, action = "/".join(unquote(s) for s in parts[:k]), parts[k] if k < len(parts) else None
        args = [unquote(s) for s in parts[k + 1 :]]
        r = self.get_repo(type_, id_)

        if m == "GET" and action in (None, "revision"):
            return self.reply(200, self.info(r, self.get_commit(r, "/".join(args) or "main")))
        if m == "POST" and action == "preupload":
            self.need_write()
            c = self.get_commit(r, "/".join(args))
            d, out = json.loads(body), []
            for f in d["files"]:
                lfs = hub.is_lfs(f["path"], f["size"])
                cur = c.tree.get(f["path"])
                o = {"path": f["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
                if cur:
                    o["oid"] = cur.sha256 if cur.lfs else cur.oid
                out.append(o)
            return self.reply(200, {"files": out, "commitOid": c.oid})
        if m == "POST" and action == "commit":
            return self.commit(r, "/".join(args), body)
        if m == "GET" and action == "tree":
            return self.tree(r, args)
        if m == "POST" and action == "paths-info":
            q = parse_qs(body.decode())
            c = self.get_commit(r, "/".join(args))
            out = []
            for path in q.get("paths", []):
                path = path.strip("/")
                if path in c.tree:
                    out.append(self.entry(path, c.tree[path], c, True))
                elif any(f.startswith(path + "/") for f in c.tree):
                    out.append({"type": "directory", "path": path, "oid": "0" * 40, "size": 0})
            return self.reply(200, out)
        if m == "GET" and action == "refs":

            def ref(n, o, kind):
                return {
                    "name": n.split("/")[-1] if n.startswith("refs/") else n,
                    "ref": n if n.startswith("refs/") else f"refs/{kind}/{n}",
                    "targetCommit": o,
                }

            return self.reply(
                200,
                {
                    "branches": [ref(n, o, "heads") for n, o in r.refs.items() if not n.startswith("refs/")],
                    "converts": [ref(n, o, "convert") for n, o in r.refs.items() if n.startswith("refs/convert/")],
                    "tags": [ref(n, o, "tags") for n, o in r.tags.items()],
                    "pullRequests": [],
                },
            )
        if m == "GET" and action == "commits":
            return self.reply(
                200,
                [
                    {"id": c.oid, "title": c.title, "message": c.description, "date": c.date, "authors": []}
                    for c in r.log("/".join(args) or "main")
                ],
            )
        if action in ("branch", "tag"):
            self.need_write()
            name, store = "/".join(args), r.refs if action == "branch" else r.tags
            if m == "DELETE":
                store.pop(name, None)
                return self.reply(200, b"")
            d = json.loads(body or b"{}")
            if action == "tag":
                rev, name = name, d["tag"]
            else:
                rev = d.get("startingPoint") or "main"
            if name in store:
                raise HttpError(409, f"Reference already exists: {name}")
            store[name] = self.get_commit(r, rev).oid
            return self.reply(200, {})
        if m == "GET" and action in ("xet-write-token", "xet-read-token"):
            if action == "xet-write-token":
                self.need_write()
            exp = int(time.time()) + 3600
            cas = f"{hub.url}/_cas"
            return self.reply(
                200,
                {"casUrl": cas, "exp": exp, "accessToken": "fake-xet-token"},
                {
                    "X-Xet-Cas-Url": cas,
                    "X-Xet-Access-Token": "fake-xet-token",
                    "X-Xet-Token-Expiration": str(exp),
                },
            )
        return None

    def create_repo(self, d):
        hub = self.hub
        self.need_write()
        type_, id_ = d.get("type") or "model", f"{d.get('organization') or hub.user}/{d['name']}"
        if d.get("organization") not in (None, hub.user):
            raise HttpError(
                403,
                f'You don\'t have the rights to create a {type_} under the namespace "{d["organization"]}"',
            )
        url = f"{hub.url}/" + ("" if type_ == "model" else type_ + "s/") + id_
        if (type_, id_) in hub.repos:
            return self.reply(
                409,
                {"error": f"You already created this {type_} repo: {id_}", "url": url},
                {"X-Error-Message": "You already created this repo"},
            )
        hub.add_repo(type_, id_, private=d.get("visibility") == "private" or bool(d.get("private")))  # older clients
        return self.reply(200, {"url": url, "name": id_, "id": hashlib.md5(id_.encode()).hexdigest()[:24]})

    def lfs_batch(self, type_, id_, d):
        self.need_write()
        self.get_repo(type_, id_)
        out = []
        for o in d["objects"]:
            e = {"oid": o["oid"], "size": o["size"]}
            if o["oid"] not in self.hub.lfs:
                e["actions"] = {
                    "upload": {"href": f"{self.hub.url}/_lfs/{o['oid']}"},
                    "verify": {"href": f"{self.hub.url}/_lfs_verify"},
                }
            out.append(e)
        self.reply(200, {"transfer": "basic", "objects": out}, ctype="application/vnd.git-lfs+json")

    def commit(self, r, ref, body):
        self.need_write()
        if ref not in r.refs:
            raise HttpError(404, f"Invalid rev id: {ref}", "RevisionNotFound")
        head = r.resolve(ref)
        tree, header = dict(head.tree), None
        for line in body.splitlines():
            item = json.loads(line)
            k, v = item["key"], item["value"]
            if k == "header":
                header = v
                if (pc := v.get("parentCommit")) and not head.oid.startswith(pc):
                    raise HttpError(412, "A commit has happened since. Please refresh and try again.")
            elif k == "file":
                tree[v["path"]] = Blob(base64.b64decode(v["content"]), False)
            elif k == "lfsFile":
                data = self.hub.lfs.get(v["oid"])
                if data is None and v["oid"] in self.hub.sha_to_xet:
                    data = self.xet_bytes(self.hub.sha_to_xet[v["oid"]])
                    assert hashlib.sha256(data).hexdigest() == v["oid"]
                    self.hub.lfs[v["oid"]] = data
                if data is None:
                    raise HttpError(400, f"LFS object {v['oid']} was not uploaded")
                tree[v["path"]] = Blob(data, True)
            elif k == "deletedFile":
                if tree.pop(v["path"], None) is None:
                    raise HttpError(404, "A file with this name doesn't exist", "EntryNotFound")
            elif k == "deletedFolder":
                pre = v["path"].rstrip("/") + "/"
                tree = {p: b for p, b in tree.items() if not p.startswith(pre)}
        oid = r.add_commit(ref, header["summary"], header.get("description", ""), tree)
        prefix = "" if r.type == "model" else r.type + "s/"
        self.reply(
            200,
            {
                "success": True,
                "commitOid": oid,
                "commitUrl": f"{self.hub.url}/{prefix}{r.id}/commit/{oid}",
                "hookOutput": "",
            },
        )

    # -- reading --------------------------------------------------------------------------------------------
    def entry(self, path, b, c, expand):
        e = {"type": "file", "oid": b.oid, "size": len(b.data), "path": path}
        if b.lfs:
            e["lfs"] = {"oid": b.sha256, **self.lfs_info(b)}
            if self.hub.xet and b.sha256 in self.hub.sha_to_xet:
                e["xetHash"] = self.hub.sha_to_xet[b.sha256]
        if expand:
            e["lastCommit"] = {"id": c.oid, "title": c.title, "date": c.date}
        return e

    @staticmethod
    def lfs_info(b):
        return {"sha256": b.sha256, "size": len(b.data), "pointerSize": len(b.pointer)}

    def tree(self, r, args):
        # revision is url-quoted (one segment), the path follows
        c = self.get_commit(r, args[0])
        base = "/".join(args[1:]).strip("/")
        rec = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        exp = self.query.get("expand", ["false"])[0].lower() in ("true", "1")
        pre = base + "/" if base else ""
        out, dirs = [], set()
        for path, b in sorted(c.tree.items()):
            if not path.startswith(pre):
                continue
            rest = path[len(pre) :].split("/")
            for i in range(1, len(rest) if rec else min(2, len(rest))):
                dirs.add(pre + "/".join(rest[:i]))
            if rec or len(rest) == 1:
                out.append(self.entry(path, b, c, exp))
        if base and not out and not dirs:
            raise HttpError(404, f'{base} does not exist on "{args[0]}"', "EntryNotFound")
        ds = [
            {"type": "directory", "oid": hashlib.sha1(d.encode()).hexdigest(), "size": 0, "path": d}
            for d in sorted(dirs)
        ]
        if exp:
            for d in ds:
                d["lastCommit"] = {"id": c.oid, "title": c.title, "date": c.date}
        self.reply(200, ds + out)

    def info(self, r, c):
        d = {
            "_id": "0" * 24,
            "id": r.id,
            "author": r.id.split("/")[0],
            "sha": c.oid,
            "lastModified": c.date,
            "createdAt": c.date,
            "private": r.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": p} for p in sorted(c.tree)],
        }
        if r.type == "model":
            d["modelId"] = r.id
        if "blobs" in self.query:
            d["siblings"] = [
                {
                    "rfilename": p,
                    "size": len(b.data),
                    "blobId": b.oid,
                    **({"lfs": self.lfs_info(b)} if b.lfs else {}),
                }
                for p, b in sorted(c.tree.items())
            ]
        return d

    def resolve_file(self, type_, id_, rev, path):
        r = self.get_repo(type_, id_)
        c = self.get_commit(r, rev)
        b = c.tree.get(path)
        h = {"X-Repo-Commit": c.oid, "Accept-Ranges": "bytes"}
        if b is None:
            raise HttpError(404, "Entry not found", "EntryNotFound", h)
        h |= {
            "ETag": f'"{b.etag}"',
            "X-Linked-Etag": f'"{b.etag}"',
            "X-Linked-Size": str(len(b.data)),
            "Last-Modified": email.utils.formatdate(usegmt=True),
            "Content-Disposition": f'inline; filename="{quote(os.path.basename(path))}"',
        }
        if self.hub.xet and b.lfs and b.sha256 in self.hub.sha_to_xet:
            prefix = {"model": "models", "dataset": "datasets", "space": "spaces"}[type_]
            h["X-Xet-Hash"] = self.hub.sha_to_xet[b.sha256]
            h["X-Xet-Refresh-Route"] = f"{self.hub.url}/api/{prefix}/{id_}/xet-read-token/{c.oid}"
        self.send_range(b.data, h)

    def send_range(self, data, h):
        g = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not g:
            return self.reply(200, data, h, "application/octet-stream")
        a, z = int(g[1]), min(int(g[2] or len(data) - 1), len(data) - 1)
        if a >= len(data):
            return self.reply(416, b"", {**h, "Content-Range": f"bytes */{len(data)}"})
        h = {**h, "Content-Range": f"bytes {a}-{z}/{len(data)}"}
        return self.reply(206, data[a : z + 1], h, "application/octet-stream")


if __name__ == "__main__":
    import argparse

    ap = argparse.ArgumentParser()
    ap.add_argument("--port", type=int, default=8765)
    ap.add_argument("--xet", action="store_true")
    a = ap.parse_args()
    hub = FakeHub(port=a.port, xet=a.xet)
    print(hub.url, "token:", WRITE, flush=True)
    hub.server.serve_forever()
