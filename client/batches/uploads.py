"""A file that comes in as a form of several parts, straight to where it stays: of any length, in a
little memory."""

from __future__ import annotations

from flask import request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from client.batches.files import BATCH, MOST_FILE_BYTES, FileRecord, FileStore, Upload
from client.compatible.errors import BadRequest, TooLarge

#: Bytes of all that is around a file, and what werkzeug holds in memory, at a time, of all.
_MOST_FORM, _MOST_HELD = 1 << 16, 1 << 18
_FIELDS = ("purpose",)
_MOST_NAME = 255


def receive(files: FileStore, user: str) -> FileRecord:
    """Keep the file of the request that is answered. Raises ApiError."""
    if request.mimetype != "multipart/form-data":
        raise BadRequest("The body must be multipart/form-data, with `file` and `purpose`.",
                         code="invalid_value")  # fmt: skip
    begun: list[Upload] = []

    def begin(*_: object, **__: object) -> Upload:
        if begun:
            raise BadRequest("Only one file can come at once.", "file", "invalid_value")
        begun.append(files.begin(user))
        return begun[0]

    try:
        name = _read(begin)
        return files.keep(begun[0], user, name)
    finally:
        for upload in begun:
            upload.drop()


def _read(begin: object) -> str:
    """Read the form, and return what its file is called. Raises BadRequest, TooLarge."""
    request.max_content_length = MOST_FILE_BYTES + _MOST_FORM
    parser = FormDataParser(
        begin, max_form_memory_size=_MOST_HELD, max_form_parts=8, silent=False  # type: ignore[arg-type]
    )  # fmt: skip
    try:
        _, fields, sent = parser.parse(
            request.stream, request.mimetype, request.content_length, request.mimetype_params
        )
    except RequestEntityTooLarge as error:
        raise TooLarge(f"A file has at most {MOST_FILE_BYTES} bytes here, and a form one file and "
                       "its purpose.", "file") from error  # fmt: skip
    except ClientDisconnected as error:  # or it has stalled: see client/serving.py
        raise BadRequest("The body did not come to its end.", "file") from error
    except ValueError as error:
        raise BadRequest(f"The body is no form of several parts: {error}.") from error
    for key in fields:
        if key not in _FIELDS:
            raise BadRequest(f"Unrecognized request argument supplied: {key[:100]}.", key[:100],
                             "unknown_parameter")  # fmt: skip
    purpose = fields.get("purpose")
    if purpose is None:
        raise BadRequest("Missing required parameter: purpose.", "purpose",
                         "missing_required_parameter")  # fmt: skip
    if purpose != BATCH:
        raise BadRequest(f"The purpose of a file can be batch here, not {purpose[:100]!r}.",
                         "purpose", "invalid_value")  # fmt: skip
    return _name(sent.get("file"))


def _name(file: FileStorage | None) -> str:
    if file is None:
        raise BadRequest("Missing required parameter: file.", "file",
                         "missing_required_parameter")  # fmt: skip
    return (file.filename or "")[:_MOST_NAME]
