"""The routes of files and batches, as OpenAI's API has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from flask import Blueprint, Response, jsonify, request, send_file
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from client.batches.files import FileStore
from client.batches.jobs import Batches
from client.batches.records import BatchBody
from client.batches.uploads import receive
from client.compatible.errors import (
    ApiError,
    BadRequest,
    NotFound,
    NotKept,
    TooLarge,
    WrongMethod,
)
from client.compatible.validation import read
from contracts.json_object import JsonObject

#: Entries of an answer at most, and of batches if nothing is said.
_MOST_FILES, _MOST_BATCHES, _BATCHES = 10_000, 100, 20
_MOST_BODY_BYTES = 65_536


class Listed(Protocol):
    """What a list has."""

    @property
    def id(self) -> str:
        """By which it is found."""

    def as_json(self) -> JsonObject:
        """As it goes out."""


Entry = TypeVar("Entry", bound=Listed)


def batch_routes(batches: Batches, user: Callable[[], str]) -> Blueprint:
    """Return the routes; `user` says whose request is answered."""
    routes, files = Blueprint("batches", __name__, url_prefix="/v1"), batches.files
    routes.register_error_handler(ApiError, refusal)
    _add_files(routes, files, batches, user)

    @routes.post("/batches")
    def create() -> JsonObject:
        return batches.create(user(), read(_body(), BatchBody)).as_json()

    @routes.get("/batches")
    def list_batches() -> JsonObject:
        found = list(reversed(batches.of(user())))
        return _page(found, _limit(_BATCHES, _MOST_BATCHES))

    @routes.get("/batches/<batch_id>")
    def show(batch_id: str) -> JsonObject:
        return batches.get(user(), batch_id).as_json()

    @routes.post("/batches/<batch_id>/cancel")
    def cancel(batch_id: str) -> JsonObject:
        try:
            return batches.cancel(user(), batch_id).as_json()
        except OSError as error:
            raise NotKept(f"The batch cannot be ended: {error.strerror}.") from error

    return routes


def _add_files(
    routes: Blueprint, files: FileStore, batches: Batches, user: Callable[[], str]
) -> None:
    @routes.post("/files")
    def upload() -> JsonObject:
        return receive(files, user()).as_json()

    @routes.get("/files")
    def list_files() -> JsonObject:
        found, purpose = files.of(user()), request.args.get("purpose")
        if request.args.get("order", "desc") != "asc":
            found.reverse()
        listed = [one for one in found if purpose in (None, one.purpose)]
        return _page(listed, _limit(_MOST_FILES, _MOST_FILES))

    @routes.get("/files/<file_id>")
    def show_file(file_id: str) -> JsonObject:
        return files.get(user(), file_id).as_json()

    @routes.get("/files/<file_id>/content")
    def content(file_id: str) -> Response:
        path = files.path(files.get(user(), file_id))
        try:
            return send_file(path, mimetype="application/jsonl", etag=False)
        except OSError as error:
            raise NotKept(f"The file cannot be read: {error.strerror}.") from error

    @routes.delete("/files/<file_id>")
    def delete(file_id: str) -> JsonObject:
        batches.check_unused(user(), file_id)
        files.delete(user(), file_id)
        return {"id": file_id, "object": "file", "deleted": True}


def refusal(error: ApiError) -> tuple[Response, int]:
    """Return an error as OpenAI's API has it."""
    answer = jsonify(error.as_json())
    answer.headers.update(error.headers)
    return answer, error.status


def refused(error: HTTPException) -> tuple[Response, int]:
    """Return an error of Flask's own likewise."""
    if error.code == 405:
        return refusal(WrongMethod(f"Not allowed to {request.method} on {request.path[:200]}."))
    if error.code == 404:
        return refusal(NotFound(f"Unknown request URL: {request.method} {request.path[:200]}."))
    found = ApiError(str(error.description))
    found.status = error.code or found.status
    return refusal(found)


def _body() -> bytes:
    request.max_content_length = _MOST_BODY_BYTES
    try:
        return request.get_data()
    except RequestEntityTooLarge as error:
        raise TooLarge(f"The body of a batch has at most {_MOST_BODY_BYTES} bytes.") from error
    except ClientDisconnected as error:
        raise BadRequest("The body did not come to its end.") from error


def _limit(usual: int, most: int) -> int:
    """Raises BadRequest."""
    given = request.args.get("limit", str(usual))
    if not (given.isascii() and given.isdigit() and len(given) < 9 and 1 <= int(given) <= most):
        raise BadRequest(f"limit must be a whole number from 1 to {most}.", "limit",
                         "invalid_value")  # fmt: skip
    return int(given)


def _page(found: Sequence[Entry], limit: int) -> JsonObject:
    """Those after the one that is named. Raises BadRequest."""
    after = request.args.get("after")
    if after is not None:
        ids = [one.id for one in found]
        if after not in ids:
            raise BadRequest(f"after names none of them: {after[:100]}.", "after", "invalid_value")
        found = found[ids.index(after) + 1 :]
    page = found[:limit]
    return {
        "object": "list",
        "data": [one.as_json() for one in page],
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
        "has_more": len(found) > limit,
    }
