"""With whom a deployment is shared, who may log in by MUNGE; and who is told of it."""

from __future__ import annotations

import grp
import pwd
import shutil
from dataclasses import replace

from contracts.errors import UsageError
from hpc.planning.parts import Given, JobPlan
from hpc.recipe.notify import Notify
from hpc.recipe.schema import Recipe
from hpc.recipe.sections import Access
from hpc.site import Site


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


def notify_of(recipe: Recipe, site: Site) -> Notify | None:
    """Return who is told of a deployment; None: nobody."""
    chosen = site.notify if recipe.job.notify is None else recipe.job.notify
    return chosen if chosen and chosen.model_dump(exclude_none=True) else None


def with_mail(given: Given, client: JobPlan) -> JobPlan:
    """Return the client's job as one of whose begin and end the scheduler writes, if that is
    wanted; notes who is told. Raises UsageError if the scheduler writes to nobody."""
    told = notify_of(given.recipe, given.site)
    if told is None:
        return client
    where = "site" if given.recipe.job.notify is None else "recipe"
    ways = told.model_dump(exclude_none=True)
    given.notes.add("notify", ", ".join(ways), where)
    if told.mail is None:
        return client
    if not given.kind.mails:
        raise UsageError(
            f"notify.mail is given ({where}), but no scheduler writes mails at the site "
            f"{given.site.name}; use notify.command or notify.webhook, or leave mail out."
        )
    return replace(client, resources=replace(client.resources, mail=told.mail))
