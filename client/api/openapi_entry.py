"""The routes by which somebody comes in, as OpenAPI has them: a login, and a browser's link."""

from __future__ import annotations

from pydantic.json_schema import JsonSchemaValue as Schema

from client import errors
from client.api.openapi_parts import BODY_ERRORS, in_json, named, operation


def paths() -> Schema:
    """Return the routes, by their paths."""
    return {
        "/login": {"get": _login_place(), "post": _login()},
        "/links": {"post": _make_link()},
    }


def _login_place() -> Schema:
    return operation(
        "loginPlace",
        "What a credential is made for, with which somebody logs in. Needs no token.",
        {"200": in_json("As follows.", named("LoginPlace"))},
        {404: errors.NotShared.__doc__},
    )


def _login() -> Schema:
    kinds = (errors.BadCredential, errors.NotAllowed, errors.NotShared, errors.NoMunge)
    taken = f"{errors.NameInUse.__doc__} Or: the service's own address is not known (yet)."
    given = "A token; the one of an earlier login is valid no more."
    return operation(
        "login",
        "Turn a MUNGE credential into a token, as `orch.py --login` does. Needs no token.",
        {"200": in_json(given, named("LoggedIn"))},
        {**BODY_ERRORS, **{kind.status: kind.__doc__ for kind in kinds}, 409: taken},
        "Login",
    )


def _make_link() -> Schema:
    return operation(
        "makeLink",
        "Make a link that lets one browser in to the page, once, within five minutes.",
        {"201": in_json("The link; it is kept nowhere else.", named("Link"))},
        {
            403: "No token was sent, but a browser's cookie, or it was just revoked.",
            404: "The service is of no deployment.",
            500: errors.CannotWrite.__doc__,
        },
    )
