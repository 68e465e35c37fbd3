"""With whom a deployment is shared: who may log in by MUNGE."""

from __future__ import annotations

import grp
import pwd
import shutil

from contracts.errors import UsageError
from hpc.planning.parts import Given
from hpc.recipe.sections import Access


def plan_share(given: Given, security: Access) -> tuple[str, ...]:
    """Return who may log in, as recipe or site name them. Raises UsageError if nobody could."""
    asked, at_site = given.recipe.job.share, given.site.share
    shared = tuple((at_site if asked is None else asked) or ())
    if not shared:
        return ()
    where = "site" if asked is None else "recipe"
    if security == "none":
        raise UsageError(
            f'share is given ({where}), but security is "none", with which everybody gets in; '
            'choose "token" or "required", or leave share out.'
        )
    if shutil.which("unmunge") is None:
        raise UsageError(
            f"share is given ({where}), but there is no unmunge on PATH, by which colleagues are "
            "known: MUNGE is not here; leave share out and give tokens by --token add NAME."
        )
    for entry in shared:
        _check_known(entry, where)
    given.notes.add("share", ", ".join(shared), where)
    return shared


def _check_known(entry: str, where: str) -> None:
    """Raises UsageError."""
    kind, _, name = entry.partition(":")
    try:
        if kind == "user":
            pwd.getpwnam(name)
        else:
            grp.getgrnam(name)
    except KeyError as error:
        raise UsageError(
            f"share names {entry!r} ({where}), but this machine knows no {kind} {name!r}; correct "
            "the name, or leave it out."
        ) from error
