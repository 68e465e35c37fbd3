"""Documents of many kinds, good and broken, as people's folders have them.

Each good one has a word of its own, by which it must be found again; each broken one must be named.
"""

import io
import json
import os
import stat
from pathlib import Path

from pypdf import PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject


def pdf_of(text, password=None, algorithm=None):
    """A PDF file of one page; `password` for opening it, as the algorithm says."""
    writer = PdfWriter()
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    named = DictionaryObject({NameObject(k): NameObject(v) for k, v in font.items()})
    page = writer.add_blank_page(300, 300)
    fonts = DictionaryObject({NameObject("/F1"): named})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    content = DecodedStreamObject()
    content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(content)
    data = io.BytesIO()
    writer.write(data)
    if algorithm:
        locked = PdfWriter(clone_from=PdfReader(io.BytesIO(data.getvalue())))
        locked.encrypt(password, owner_password="owner", algorithm=algorithm)
        data = io.BytesIO()
        locked.write(data)
    return data.getvalue()


def _json(**fields):
    return json.dumps(fields).encode() + b"\n"


#: Makers of good files by suffix: each is given the words that it must hold.
GOOD = {
    "plain.txt": lambda w: f"A note on {w}.\n".encode(),
    "windows.md": lambda w: f"# Guide\r\n\r\n## {w} ##\r\n\r\nAbout {w} here.\r\n".encode(),
    "mac.md": lambda w: f"# Old\r\rAbout {w} here.\r".encode(),
    "utf8-mark.txt": lambda w: f"About {w}".encode("utf-8-sig"),
    "utf16.txt": lambda w: f"About {w}".encode("utf-16"),
    "utf16be.txt": lambda w: b"\xfe\xff" + f"About {w}".encode("utf-16-be"),
    "utf32le.txt": lambda w: b"\xff\xfe\0\0" + f"About {w}".encode("utf-32-le"),
    "utf32be.txt": lambda w: b"\0\0\xfe\xff" + f"About {w}".encode("utf-32-be"),
    "blanks.txt": lambda w: f"begin {w}{' ' * 30_000}end".encode(),
    "heading.md": lambda w: f"# a{' ' * 3_200}b\n\nAbout {w}.\n".encode(),
    "chinese.txt": lambda w: f"超级计算机由许多节点组成。 {w} 用户提交任务。".encode(),
    "marks.txt": lambda w: (f"{w} a" + "\u0301" * 3_000).encode(),
    "nan.jsonl": lambda w: _json(text=w, score=float("nan"), most=float("inf")),
    "huge.jsonl": lambda w: b'{"text": "%s", "n": %s, "x": 1e999}' % (w.encode(), b"9" * 5_000),
    "emoji.jsonl": lambda w: _json(text=f"{w} \ud83d", title="cut \ud83d", **{"\udc00": 1}),
    "wide.jsonl": lambda w: _json(text=w, **{f"column_{i}": i for i in range(90)}),
    "long.jsonl": lambda w: _json(text=w, raw="y" * 60_000),
    "separators.jsonl": lambda w: f'\ufeff{{"text": "a\u2028b\x85 {w}"}}\r\n'.encode(),
    "twins.jsonl": lambda w: b'{"text": "no", "text": "%s", "metadata": "x"}' % w.encode(),
    "half.jsonl": lambda w: _json(text=w) + b'{"text": ',
    "page.pdf": pdf_of,
    "restricted.pdf": lambda w: pdf_of(w, "", "AES-256"),
}
#: Broken files by suffix.
BAD = {
    "empty.txt": b"",
    "invisible.txt": "\u200b\ufeff\n".encode(),
    "image.txt": b"\x89PNG\r\n\0\0",
    "latin1.txt": b"Gr\xf6\xdfe",
    "cut.txt": b"\xff\xfea\0b",
    "cut.jsonl": b'{"text": ',
    "deep.jsonl": b"[" * 50_000,
    "list.jsonl": b'["text"]\n17\nnull\n',
    "headings.md": b"# Only\n## Headings\n",
    "none.pdf": b"%PDF-1.4 but no more",
    "broken.pdf": b"%PDF-1.7\nstartxref\n99999999999999\n%%EOF",
    "locked.pdf": pdf_of("secret", "word", "AES-256"),
    "archive.zip": b"PK\x03\x04",
}


def write_documents(folder, copies):
    """Each kind `copies` times; the words by the path of a good file, and the paths of bad ones."""
    good, bad = {}, set()
    for copy in range(copies):
        for number, (name, make) in enumerate(GOOD.items()):
            word = f"zq{chr(97 + copy)}{chr(97 + number)}x"
            path = folder / f"{copy}-{name}"
            path.write_bytes(make(word))
            good[str(path)] = word
        for name, data in BAD.items():
            path = folder / f"{copy}-{name}"
            path.write_bytes(data)
            bad.add(str(path))
    return good, bad


def write_odd_files(folder):
    """What is no ordinary file, and names of all kinds; as `write_documents`."""
    good = {}
    for number, name in enumerate([b"caf\xe9.txt", b"two\nlines.txt", "数据 😀.txt".encode()]):
        word = f"zodd{chr(97 + number)}"
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.write_text(f"About {word}.")
        good[os.fsencode(path).decode("utf-8", "backslashreplace")] = word
    os.mkfifo(folder / "pipe.txt")
    os.mknod(folder / "s.txt", stat.S_IFSOCK | 0o600)
    (folder / "nothing.txt").symlink_to(folder / "is not there")
    (folder / "self.txt").symlink_to(folder / "self.txt")
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "again").symlink_to(folder / "sub")
    with (folder / "sparse.txt").open("wb") as file:
        file.truncate(10**9)
    names = ("pipe.txt", "s.txt", "nothing.txt", "self.txt", "sub/up", "again", "sparse.txt")
    return good, {str(folder / name) for name in names}
