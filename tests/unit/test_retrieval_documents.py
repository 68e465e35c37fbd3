"""Files become documents, or are named with the reason why not."""

import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.bounds import MAX_KEYS
from retrieval.chunks import chunks_of
from retrieval.documents import Skipped, find_files, read_document
from retrieval.errors import NoDocuments
from retrieval.settings import Chunking


def pdf_of(pages):
    """A PDF file whose pages have these lines of text."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    named = DictionaryObject({NameObject(k): NameObject(v) for k, v in font.items()})
    fonts = DictionaryObject({NameObject("/F1"): named})
    for text in pages:
        page = writer.add_blank_page(300, 300)
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(content)
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


def read(tmp_path, name, data, **more):
    path = tmp_path / name
    path.write_bytes(data)
    return read_document(path, **more)


def test_text_is_read_as_it_is(tmp_path):
    found = read(tmp_path, "a.txt", b"\xef\xbb\xbfGr\xc3\xb6\xc3\x9fe\n")
    assert [part.text for part in found.parts] == ["Größe\n"]
    assert found.source == str(tmp_path / "a.txt") and not found.markdown
    assert read(tmp_path, "b.md", b"# A\n").markdown


def test_text_in_utf_16_is_read_too(tmp_path):
    assert read(tmp_path, "a.txt", "Größe".encode("utf-16")).parts[0].text == "Größe"


def test_the_digest_is_of_the_content_alone(tmp_path):
    first, same = read(tmp_path, "a.txt", b"one"), read(tmp_path, "b.txt", b"one")
    assert first.digest == same.digest != read(tmp_path, "a.txt", b"two").digest


def test_each_line_of_jsonl_is_a_part_with_its_metadata(tmp_path):
    records = [{"text": "one", "lang": "en", "metadata": {"year": 2024}, "deep": {"x": 1}}]
    records.append({"text": "two\ud800"})
    lines = "\n".join(json.dumps(record) for record in records) + "\n\n"
    one, two = read(tmp_path, "a.jsonl", lines.encode()).parts
    assert (one.text, one.metadata) == ("one", {"lang": "en", "year": 2024, "line": 1})
    assert (two.text, two.metadata) == ("two\ufffd", {"line": 2})


def test_each_page_of_a_pdf_is_a_part(tmp_path):
    one, two = read(tmp_path, "a.pdf", pdf_of(["First page", "Second page"])).parts
    assert (one.text.strip(), one.metadata) == ("First page", {"page": 1})
    assert (two.text.strip(), two.metadata) == ("Second page", {"page": 2})


def encrypted():
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_of(["secret"]))))
    writer.encrypt("word", algorithm="RC4-128")
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


BAD = {
    "nothing": ("a.txt", b"", "empty", "nothing in it"),
    "blank": ("a.md", b" \n\t", "empty", "nothing in it"),
    "an image": ("a.txt", b"\x89PNG\r\n\x1a\n\0\0\0", "binary", "is binary"),
    "Latin-1": ("a.txt", b"Gr\xf6\xdfe", "binary", "not UTF-8 (byte 2)"),
    "a suffix": ("a.exe", b"text", "not known", ".md"),
    "cut JSON": ("a.jsonl", b'\n{"text": ', "unreadable", "line 2 is not JSON"),
    "deep JSON": ("a.jsonl", b"[" * 100_000, "unreadable", "line 1 is nested too deeply"),
    "no text": ("a.jsonl", b'{"body": "a"}', "unreadable", 'line 1 is no object with a "text"'),
    "a list": ("a.jsonl", b'["text"]', "unreadable", "line 1 is no object"),
    "a number": ("a.jsonl", b'{"text": 1}', "unreadable", "line 1 is no object"),
    "no PDF": ("a.pdf", b"%PDF-1.4 but no more", "unreadable", "no PDF file"),
    "a PDF without text": ("a.pdf", pdf_of([""]), "empty", "no text in it"),
    "an encrypted PDF": ("a.pdf", encrypted(), "unreadable", "asks for a password"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_the_reason(tmp_path, case):
    name, data, kind, words = BAD[case]
    found = read(tmp_path, name, data)
    assert isinstance(found, Skipped), found
    assert (found.source, found.kind) == (str(tmp_path / name), kind)
    assert words in found.words


def test_a_file_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(10**9)  # sparse: it takes no room
    found = read_document(path)
    assert (found.kind, found.words) == ("too large", "it has 1000.0 MB; at most 100 MB are read")
    assert read(tmp_path, "a.txt", b"abc", max_bytes=2).kind == "too large"


def test_folders_are_searched_without_hidden_files(tmp_path):
    for name in ("b/z.md", "b/.hidden.md", ".git/x.md", "a.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [str(p.relative_to(tmp_path)) for p in find_files([tmp_path, tmp_path / "a.md"])]
    assert found == ["a.md", "b/z.md"]


def test_a_path_that_is_not_there_or_has_no_files_is_refused(tmp_path):
    with pytest.raises(NoDocuments, match=r"there is no .*/none"):
        find_files([tmp_path / "none"])
    with pytest.raises(NoDocuments, match="there is no file in"):
        find_files([tmp_path])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\x85", "\v", "\f", "\u2029"])
def test_all_ends_of_lines_are_one(tmp_path, end):
    (part,) = read(tmp_path, "a.md", f"# A{end}text".encode()).parts
    assert part.text.replace("\n\n", "\n") == "# A\ntext"


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-32-be", "gb18030", "utf-7"]
)
def test_every_encoding_with_a_mark_is_read(tmp_path, encoding):
    text = "" if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    found = read(tmp_path, "a.txt", f"{text}Größe 数据".encode(encoding))
    assert found.parts[0].text == "Größe 数据"


def test_of_a_pdf_that_is_not_read_to_its_end_in_time_the_ingest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval.pdf.SECONDS", 1)
    monkeypatch.setattr("retrieval.pdf.SECONDS_PER_MB", 0)
    found = read(tmp_path, "a.pdf", pdf_of(["a) Tj (b" * 2_000_000]))
    assert (found.kind, found.words.rpartition(": ")[2]) == (
        "unreadable",
        "it takes longer than 1 s",
    )


def test_an_encrypted_pdf_that_opens_without_a_password_is_read(tmp_path):
    from pypdf import PdfReader, PdfWriter

    for algorithm in ("RC4-40", "AES-128", "AES-256-R5", "AES-256"):
        writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_of(["open to all"]))))
        writer.encrypt("", owner_password="owner", algorithm=algorithm)
        data = io.BytesIO()
        writer.write(data)
        assert read(tmp_path, "a.pdf", data.getvalue()).parts[0].text == "open to all"


def test_each_file_and_folder_is_read_once_and_other_names_are_told(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("x")
    (tmp_path / "real" / "b.txt").hardlink_to(tmp_path / "real" / "a.txt")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "first").symlink_to(tmp_path / "real")
    (tmp_path / "c.txt").symlink_to(tmp_path / "real" / "a.txt")
    found = find_files([tmp_path, tmp_path / "real"])
    assert [one for one in found if not isinstance(one, Skipped)] == [tmp_path / "real" / "a.txt"]
    told = {one.source: one.kind for one in found if isinstance(one, Skipped)}
    names = ("real/b.txt", "real/loop", "first", "c.txt")
    assert told == {str(tmp_path / name): "duplicate" for name in names}


@given(st.sampled_from([".txt", ".md", ".jsonl", ".ndjson"]), st.binary(max_size=300))
def test_whatever_the_bytes_are_a_file_is_read_or_named(suffix, data):
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), f"a{suffix}", data)
    if isinstance(found, Skipped):
        assert found.words
    else:
        for chunk in chunks_of(found, Chunking()):
            json.dumps(vars(chunk), allow_nan=False, ensure_ascii=False).encode()


def test_whatever_is_json_is_read_within_the_bounds_of_the_service(tmp_path):
    numbers = {"big": 2**70, "nan": float("nan"), "far": -(10**30), "ok": 5}
    record = {"text": "a\0b", **numbers, "metadata": {f"k{n}": n for n in range(80)}}
    found = read(tmp_path, "a.jsonl", json.dumps(record).encode())
    (part,) = found.parts
    assert part.text == "a\ufffdb" and len(part.metadata) == MAX_KEYS
    assert (part.metadata["big"], part.metadata["ok"]) == (str(2**70), 5)
    assert "nan" not in part.metadata and found.left_out.count == 1
