"""Documents are cut always in the same way, and nothing of them gets lost."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.chunks import chunks_of, count_tokens, point_id, split, version_of
from retrieval.documents import Document, Part, read_document
from retrieval.settings import Chunking

PROJECT = Path(__file__).resolve().parents[2]


def markdown(text):
    return Document("/x.md", "d", [Part(text)], markdown=True)


def squeezed(text):
    return "".join(text.split())


@given(st.text(max_size=400), st.integers(1, 40), st.integers(0, 20))
def test_pieces_are_short_enough_and_cover_the_text(text, size, overlap):
    pieces = list(split(text, size, min(overlap, size // 2)))
    assert all(0 < count_tokens(piece) <= size for piece in pieces)
    assert all(piece in text for piece in pieces)
    place = 0
    for piece in pieces:  # each begins in or right behind what the ones before it cover
        blank = len(text[place:]) - len(text[place:].lstrip())
        at = text.rfind(piece, 0, place + blank + len(piece))  # the same text may stand before, too
        assert at >= 0
        place = max(place, at + len(piece))
    assert not text[place:].strip()


def test_without_overlap_the_pieces_are_the_text(tmp_path):
    text = (PROJECT / "README.md").read_text()
    assert squeezed("".join(split(text, 50, 0))) == squeezed(text)


def test_a_piece_ends_with_a_paragraph_rather_than_a_line_or_a_sentence():
    sentence = "one two three."
    text = f"{sentence} {sentence}\n\n{sentence} {sentence}\n{sentence}"
    assert next(split(text, 15, 0)) == f"{sentence} {sentence}"
    assert next(split(f"{sentence} {sentence} four five six", 10, 0)) == f"{sentence} {sentence}"


def test_the_overlap_is_of_whole_words():
    words = " ".join(f"word{n}" for n in "abcdefghijklmnop")
    first, second, *_ = split(words, 8, 4)
    shared = [word for word in second.split() if word in first.split()]
    assert shared and len(shared) <= 4
    assert first.split()[-len(shared) :] == shared == second.split()[: len(shared)]


def test_tokens_are_pieces_of_words_digits_and_signs():
    assert count_tokens("a supercomputer has 10240 cores.") == 1 + 3 + 1 + 2 + 1 + 1
    assert count_tokens("größe 数据") == 4 + 2


def test_chunks_of_markdown_keep_their_headings_and_never_cross_one():
    text = "intro\n# A\nof a\n## B\n```\n# no heading\n```\n# C #\nof c\n## D\n"
    found = [(chunk.heading, chunk.text) for chunk in chunks_of(markdown(text), Chunking())]
    assert found == [
        ("", "intro"),
        ("A", "of a"),
        ("A > B", "```\n# no heading\n```"),
        ("C", "of c"),
    ]


def test_in_plain_text_a_number_sign_is_no_heading():
    document = Document("/x.txt", "d", [Part("# A\ntext")])
    assert [chunk.text for chunk in chunks_of(document, Chunking())] == ["# A\ntext"]


def test_headings_count_but_leave_room():
    heading = "word " * 100
    chunks = list(chunks_of(markdown(f"# {heading}\n{'text ' * 100}"), Chunking(40, 0)))
    assert len(chunks) == 5 and all(count_tokens(chunk.text) == 20 for chunk in chunks)


def test_records_are_cut_apart_and_positions_go_on():
    document = Document("/x.jsonl", "d", [Part("one", {"line": 1}), Part("two", {"line": 2})])
    found = [(c.position, c.text, c.metadata) for c in chunks_of(document, Chunking())]
    assert found == [(0, "one", {"line": 1}), (1, "two", {"line": 2})]


def test_ids_are_the_same_for_the_same_and_differ_for_all_else():
    ids = {point_id(*of) for of in (("c", "s", "d", 0), ("c", "s", "d", 1), ("c", "s", "e", 0),
                                    ("c", "t", "d", 0), ("b", "s", "d", 0))}  # fmt: skip
    assert len(ids) == 5
    assert point_id("c", "s", "d", 0) == "5dbdb959-2248-572a-80f2-bd23bc84d4a5"


def test_another_way_of_cutting_is_another_version():
    document = markdown("text")
    versions = {version_of(document, Chunking(tokens, 8)) for tokens in (32, 64)}
    assert len(versions) == 2
    assert version_of(document, Chunking(32, 8)) in versions


def test_a_file_is_cut_in_the_same_way_each_time():
    path = PROJECT / "docs" / "measurement.md"
    one, two = (list(chunks_of(read_document(path), Chunking(64, 8))) for _ in range(2))
    assert one == two and len(one) > 20


SENTENCES = {
    "Chinese": "超级计算机由许多节点组成。",
    "quoted": "他说\uff1a「节点有内存。」",
    "Japanese": "ジョブを投入します。",
    "Hindi": "यह एक वाक्य है।",
    "Urdu": "یہ ایک جملہ ہے۔",  # noqa: RUF001
    "Arabic": "هل هذا سؤال؟",
    "Armenian": "Սա նախադասություն է։",  # noqa: RUF001
    "Amharic": "ይህ ዓረፍተ ነገር ነው።",
    "Burmese": "ဒါဟာဝါကျပါ။",
    "Thai": "นี่คือประโยคหนึ่ง ",
    "English": 'He said "stop." ',
}


@pytest.mark.parametrize("script", SENTENCES)
def test_chunks_end_with_sentences_in_every_script(script):
    sentence = SENTENCES[script]
    *pieces, _ = split(sentence * 20, 2 * count_tokens(sentence), 0)
    assert len(pieces) > 5 and all(piece.endswith(sentence.strip()) for piece in pieces)


@pytest.mark.parametrize("seen", ["e\u0301", "กำ", "👩\u200d🚀", "नि", "\U0001f1e9\U0001f1ea"])
def test_what_is_seen_as_one_character_is_never_cut(seen):
    for piece in split(seen * 60, 7, 3):
        assert len(piece) % len(seen) == 0 and piece == seen * (len(piece) // len(seen))


def test_a_long_run_of_blanks_is_no_part_of_a_chunk():
    assert list(split("begin" + " " * 250_000 + "end", 16, 0)) == ["begin", "end"]


def test_headings_are_those_of_commonmark():
    lines = ["---", "title: x", "---", "Top", "===", "", "a", "", "Sub", "---", "b", "````", "```",
             "# no", "````", "## c# ##", "- item", "---", "##", "end"]  # fmt: skip
    found = [chunk.heading for chunk in chunks_of(markdown("\n".join(lines)), Chunking())]
    assert found == ["", "Top", "Top > Sub", "Top > c#", "Top"]
