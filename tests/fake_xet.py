"""What hf_xet speaks: the content-addressed store of `fake_hub.py`, with its routes and binary format."""

import re
import struct


class XetStore:
    """Routes below `/_cas`, for the request handler of a FakeHub; what returns None is answered with 404."""

    def cas(self, p, body):
        hub, m = self.hub, self.command
        if m == "POST" and (g := re.fullmatch(r"/v1/xorbs/[^/]+/([0-9a-f]{64})", p)):
            new = g[1] not in hub.xorbs
            hub.xorbs[g[1]] = body
            return self.reply(200, {"was_inserted": new})
        # /v2/shards and /v1/xorb-grants: 404, after which hf_xet falls back to the v1 routes
        if m == "POST" and p == "/v1/shards":
            self.read_shard(body)
            return self.reply(200, {"result": 1})
        if m == "GET" and p.startswith("/v1/chunks/"):
            return None  # no global dedup
        if m == "GET" and (g := re.fullmatch(r"/v1/reconstructions/([0-9a-f]{64})", p)):
            return self.reply(200, self.reconstruction(g[1])) if g[1] in hub.xet_files else None
        if m == "GET" and (g := re.fullmatch(r"/xorb/([0-9a-f]{64})", p)):
            return self.send_range(hub.xorbs[g[1]], {})
        return None

    @staticmethod
    def hexhash(b):  # xet prints each little-endian u64 as hex
        return "".join(f"{x:016x}" for x in struct.unpack("<4Q", b))

    def read_shard(self, s):
        pos = 48  # header: tag[32] version u64 footer_size u64
        while True:
            h, (flags, n) = s[pos : pos + 32], struct.unpack("<II", s[pos + 32 : pos + 40])
            pos += 48
            if h == b"\xff" * 32:
                break
            segs = []
            for _ in range(n):
                xorb = self.hexhash(s[pos : pos + 32])
                _f, unpacked, a, z = struct.unpack("<IIII", s[pos + 32 : pos + 48])
                segs.append((xorb, unpacked, a, z))
                pos += 48
            if flags & (1 << 31):
                pos += 48 * n  # verification entries
            fh = self.hexhash(h)
            self.hub.xet_files[fh] = segs
            if flags & (1 << 30):
                self.hub.sha_to_xet[self.hexhash(s[pos : pos + 32])] = fh  # metadata ext: sha256
                pos += 48

    def chunk_offsets(self, xorb):
        d, pos, out = self.hub.xorbs[xorb], 0, [0]
        while pos + 8 <= len(d) and d[pos] == 0 and d[pos : pos + 7] != b"XETBLOB":
            pos += 8 + int.from_bytes(d[pos + 1 : pos + 4], "little")
            out.append(pos)
        return out

    def reconstruction(self, fh):
        terms, fetch = [], {}
        for xorb, unpacked, a, z in self.hub.xet_files[fh]:
            off = self.chunk_offsets(xorb)
            terms.append({"hash": xorb, "unpacked_length": unpacked, "range": {"start": a, "end": z}})
            fetch.setdefault(xorb, []).append(
                {
                    "range": {"start": a, "end": z},
                    "url": f"{self.hub.url}/_cas/xorb/{xorb}",
                    "url_range": {"start": off[a], "end": off[z] - 1},
                }
            )
        return {"offset_into_first_range": 0, "terms": terms, "fetch_info": fetch}

    def xet_bytes(self, fh):
        """Decode a file from its xorbs, which a plain GET of /resolve/ needs."""
        out = b""
        for xorb, _unpacked, a, z in self.hub.xet_files[fh]:
            d, off = self.hub.xorbs[xorb], self.chunk_offsets(xorb)
            for i in range(a, z):
                scheme, usize = d[off[i] + 4], int.from_bytes(d[off[i] + 5 : off[i] + 8], "little")
                raw = d[off[i] + 8 : off[i + 1]]
                if scheme in (1, 2):
                    raw = lz4_frame(raw)
                if scheme == 2:  # byte-grouping by 4
                    q, rem = divmod(len(raw), 4)
                    sizes = [q + (k < rem) for k in range(4)]
                    cuts = [sum(sizes[:k]) for k in range(5)]
                    g = [raw[cuts[k] : cuts[k + 1]] for k in range(4)]
                    buf = bytearray(len(raw))
                    for k in range(4):
                        buf[k::4] = g[k]
                    raw = bytes(buf)
                assert len(raw) == usize, (scheme, len(raw), usize)
                out += raw
        return out


def lz4_frame(d: bytes) -> bytes:
    """Decode an LZ4 frame, which is what hf_xet sends; no checksums."""
    assert d[:4] == b"\x04\x22\x4d\x18"
    flg = d[4]
    pos = 6 + (8 if flg & 8 else 0) + (4 if flg & 1 else 0) + 1
    out = bytearray()
    while True:
        n = int.from_bytes(d[pos : pos + 4], "little")
        pos += 4
        if n == 0:
            return bytes(out)
        raw, n = n >> 31, n & 0x7FFFFFFF
        blk = d[pos : pos + n]
        pos += n + (4 if flg & 16 else 0)
        if raw:
            out += blk
            continue
        i = 0
        while i < len(blk):
            t = blk[i]
            i += 1
            ll = t >> 4
            if ll == 15:
                while True:
                    b = blk[i]
                    i += 1
                    ll += b
                    if b != 255:
                        break
            out += blk[i : i + ll]
            i += ll
            if i >= len(blk):
                break
            o = blk[i] | blk[i + 1] << 8
            i += 2
            ml = t & 15
            if ml == 15:
                while True:
                    b = blk[i]
                    i += 1
                    ml += b
                    if b != 255:
                        break
            ml += 4
            s = len(out) - o
            for k in range(ml):
                out.append(out[s + k])
