"""The section of docs/api.md on files and batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from client.batches.files import MOST_BYTES, MOST_FILE_BYTES, MOST_FILES
from client.batches.jobs import MOST_BATCHES, MOST_OPEN
from client.batches.records import BatchBody

_INTRO = f"""## Files and batches

Many prompts at once, as OpenAI's API has it: a file of lines goes up, a batch is made of it, its
answers are a file that comes down. OpenAI's own client does it unchanged:

    file = client.files.create(file=open("in.jsonl", "rb"), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions",
                                  completion_window="24h")
    batch = client.batches.retrieve(batch.id)     # until its status is completed
    client.files.content(batch.output_file_id).write_to_file("out.jsonl")

- A line is `{{"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {{…}}}}`, or
  in short `{{"prompt": …}}`, which is a chat; its `url` is the batch's `endpoint`. All lines are
  checked before any is sent: a batch with a line that is wrong is `failed`, and `errors` has each
  of the first of them by its number.
- Batches are worked off one after another, as `python3 -m batch` does it; `validating` is also one
  whose turn has not come. They stand behind everything else at the door (`orch-priority: batch`),
  and take what is free of the engines' slots (`GET /slots`).
- Each request of a batch is one of whoever has asked for it: it counts in his usage and towards his
  limits, and if his token is revoked or expires the batch has `failed`.
- `cancel` ends it within a second; what was answered is in its output file. Lines that have failed
  in the end are in `error_file_id`, each with why.
- A client service that begins again goes on where the one before it was; what was answered is not
  asked again.
- Files and batches belong to the name of a token, and nobody sees another's: 404. They are in the
  deployment's own folder, of mode 600, and **are removed with the deployment**: fetch what you
  need before that.
- A file has at most {MOST_FILE_BYTES:,} bytes; of each name there may be {MOST_FILES:,} files with
  {MOST_BYTES:,} bytes, outputs included, {MOST_BATCHES:,} batches, and {MOST_OPEN} of them that are
  not over. Then the code is `storage_limit_exceeded`.
"""
_ROUTES: Mapping[str, str] = {
    "POST /v1/files": "a form (multipart/form-data) with `file` and `purpose`, which is `batch`",
    "GET /v1/files": "all of them; `purpose`, `order`, `limit` and `after` as OpenAI has them",
    "GET /v1/files/ID": "one of them",
    "GET /v1/files/ID/content": "its content",
    "DELETE /v1/files/ID": "removes it; 409 if a batch is made of it that is not over",
    "POST /v1/batches": "begins a batch (below)",
    "GET /v1/batches": "all of them, the newest first; `limit`, `after`",
    "GET /v1/batches/ID": "how far it is",
    "POST /v1/batches/ID/cancel": "ends it; 409 if it is over",
}


def section() -> Iterator[str]:
    """Yield the lines of the section."""
    yield from (_INTRO, "| route | |", "|---|---|")
    yield from (f"| `{route}` | {words} |" for route, words in _ROUTES.items())
    yield from ("", "| key of the body of a batch | meaning |", "|---|---|")
    for name, field in BatchBody.model_fields.items():
        required = ", **required**" * field.is_required()
        yield f"| `{name}`{required} | {field.description} |"
    yield from ("", "Errors are those [of /v1](#errors-of-v1).")
