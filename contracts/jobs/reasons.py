"""Why Slurm does not start a job yet, in plain words (squeue(1), JOB REASON CODES)."""

from __future__ import annotations

import re

from contracts.jobs.ids import cluster_of, number_of
from contracts.jobs.states import Outlook, Reason

_BUSY, _ADMIN, _NEVER = Outlook.ITSELF, Outlook.SOMEBODY, Outlook.NEVER
_ASK = "ask the administrators"
_RELEASE = "scontrol {cluster}release {job}"
_LESS = 'ask for less in the recipe, or name another "qos" or "account"'
_TIME = 'lower "time" in the recipe, or name another'
_TIME_QOS = f'{_TIME} "qos" or "account"'
_OTHER_ACCOUNT = 'name another "account" or "qos" in the recipe'

#: The first pattern that matches the whole code counts; Slurm has some 130 codes, most of them
#: built as WHO, Grp|Max|Min, WHAT, PerJob|PerNode|PerUser.
_REASONS: tuple[tuple[str, Reason], ...] = (
    # the machine is busy
    (r"Resources", Reason(_BUSY, "the nodes that it needs are busy")),
    (r"Priority", Reason(_BUSY, "jobs of higher priority come first")),
    (r"None|", Reason(_BUSY, "Slurm has not looked at it yet")),
    (r"SchedDefer|WaitingForScheduling", Reason(_BUSY, "Slurm has not looked at it yet")),
    (r"Dependency", Reason(_BUSY, "the job that it depends on has not begun")),
    (r"BeginTime", Reason(_BUSY, "its earliest begin has not come")),
    (r"Licenses", Reason(_BUSY, "the licences that it needs are in use")),
    (r"Reservation", Reason(_BUSY, "its reservation has not begun, or is full")),
    (r"Cleaning", Reason(_BUSY, "its earlier run is being cleaned up")),
    (r"Prolog", Reason(_BUSY, "its nodes are being made ready")),
    (r"BurstBuffer(Resources|StageIn)", Reason(_BUSY, "its burst buffer is being made ready")),
    (r"JobArrayTaskLimit", Reason(_BUSY, "enough tasks of its array run")),
    (r"Power(NotAvail|Reserved)", Reason(_BUSY, "there is not enough electrical power")),
    (r"ReqNodeNotAvail, May be reserved.*",
     Reason(_BUSY, "the nodes that it needs are reserved, perhaps for maintenance",
            'a shorter "time" may fit in before it')),
    (r"ReqNodeNotAvail.*", Reason(_BUSY, "nodes that it needs are busy, reserved or down")),
    (r"Nodes required for job are DOWN.*",
     Reason(_BUSY, "the nodes that it needs are down, drained or reserved",
            "see sinfo -R; if they stay so, name another partition")),
    (r"NodeDown|FrontEndDown", Reason(_BUSY, "a node that it needs is down", "see sinfo -R")),
    # held, or the place is closed
    (r"JobHeldUser", Reason(_ADMIN, "it is held by its user", _RELEASE)),
    (r"JobHeldAdmin", Reason(_ADMIN, "it is held by an administrator", _ASK)),
    (r"JobHoldMaxRequeue",
     Reason(_ADMIN, "it was requeued too often and is held now", _RELEASE)),
    (r"launch failed requeued held",
     Reason(_ADMIN, "its launch failed on a node, and it is held now", _RELEASE)),
    (r"job requeued in held state", Reason(_ADMIN, "it was requeued and is held", _RELEASE)),
    (r"ReservationDeleted",
     Reason(_ADMIN, "its reservation was deleted, and it is held now", _RELEASE)),
    (r"PartitionDown",
     Reason(_ADMIN, "its partition is closed (DOWN)", "name another partition, or wait for "
            "the administrators to open it")),
    (r"PartitionInactive",
     Reason(_ADMIN, "its partition is inactive", "name another partition, or wait for the "
            "administrators to open it")),
    (r"BurstBufferOperation", Reason(_ADMIN, "an operation of its burst buffer failed", _ASK)),
    (r"QOSUsageThreshold",
     Reason(_ADMIN, "the account has used up so much that its QOS does not serve it",
            _OTHER_ACCOUNT)),
    (r"SystemFailure|JobLaunchFailure",
     Reason(_ADMIN, "it could not be launched", f"see the logs; {_ASK}")),
    # never
    (r"PartitionTimeLimit",
     Reason(_NEVER, "its time limit is longer than its partition allows", f"{_TIME} partition")),
    (r"PartitionNodeLimit|PartitionM(ax|in)Nodes",
     Reason(_NEVER, "its partition does not give a job that many nodes (or they are all down)",
            'change "nodes", or name another partition')),
    (r"BadConstraints",
     Reason(_NEVER, "no node has what it asks for (memory, cores, GPUs, features)",
            'lower "mem_gb", "cpus" or "gpus", or name another partition')),
    (r"DependencyNeverSatisfied",
     Reason(_NEVER, "the job that it depends on ended in a way that forbids it",
            "look at that job, and deploy again")),
    (r"DeadLine", Reason(_NEVER, "it cannot end before its deadline", 'lower "time"')),
    (r"InvalidAccount|AccountNotAllowed",
     Reason(_NEVER, "its account is not valid here",
            'name another "account" (sacctmgr show assoc user=$USER lists yours)')),
    (r"InvalidQOS|QOSNotAllowed",
     Reason(_NEVER, "its QOS is not valid here",
            'name another "qos" (sacctmgr show assoc user=$USER lists yours)')),
    (r"(QOS|Assoc)MaxWallDurationPerJobLimit",
     Reason(_NEVER, "its time limit is longer than its {who} allows", _TIME_QOS)),
    (r"(QOS|Assoc)Max.*MinutesPerJob.*|MaxMemMinutesPerJob",
     Reason(_NEVER, "it asks for more {what} x minutes than its {who} allows a job", _TIME_QOS)),
    (r"(QOS|Assoc)?Max.*Per(Job|Node|CPU|Limit).*",
     Reason(_NEVER, "it asks for more {what} than its {who} allows a job", _LESS)),
    (r"QOSMin.*",
     Reason(_NEVER, "it asks for less {what} than its {who} demands of a job",
            'ask for more in the recipe, or name another "qos"')),
    # limits on many jobs together
    (r"(QOS|Assoc)Grp.*RunMinutes.*",
     Reason(_BUSY, "running jobs of its {who} have promised all {what} x minutes")),
    (r"(QOS|Assoc)GrpWall.*|(QOS|Association)TimeLimit",
     Reason(_ADMIN, "the {who}'s budget of time is used up", _OTHER_ACCOUNT)),
    (r"(QOS|Assoc)Grp.*Minutes.*",
     Reason(_ADMIN, "the {who}'s budget of {what} x minutes is used up", _OTHER_ACCOUNT)),
    (r"(QOS|Assoc)Grp.*",
     Reason(_BUSY, "jobs of its {who} use all {what} that it has (should this one alone ask for "
            "more than that, it never starts)")),
    (r"(QOS|Assoc)?Max.*|(QOS|Association)(Job|Resource)Limit",
     Reason(_BUSY, "other jobs use all {what} that its {who} allows at once")),
)  # fmt: skip
_COMPILED = tuple((re.compile(pattern), reason) for pattern, reason in _REASONS)

_WHO = {"QOS": "QOS", "Ass": "account", "Max": "partition"}
_WHAT = re.compile(r"Cpu|CPU|GRES|Mem|Node|Jobs|SubmitJob|License|Billing|BB|Energy")
_THINGS = {
    "Cpu": "cores", "CPU": "cores", "GRES": "GPUs", "Mem": "memory", "Node": "nodes",
    "Jobs": "jobs", "SubmitJob": "jobs", "License": "licences", "Billing": "billing units",
    "BB": "burst buffer", "Energy": "energy",
}  # fmt: skip


def explain(code: str, job_id: str) -> Reason:
    """What Slurm's reason `code` means for the pending job `job_id`.

    A code that we have never heard of is passed on as it is, and taken as one that clears.
    """
    text = code.replace("_", " ").strip("()")
    for pattern, reason in _COMPILED:
        if pattern.fullmatch(text):
            values = {"who": _WHO.get(text[:3], "partition"), "what": _what(text), **_where(job_id)}
            return Reason(
                reason.outlook, reason.words.format(**values), reason.remedy.format(**values)
            )
    return Reason(Outlook.ITSELF, f"Slurm says {code}")


def _where(job_id: str) -> dict[str, str]:
    cluster = cluster_of(job_id)
    return {"job": number_of(job_id), "cluster": f"-M {cluster} " if cluster else ""}


def _what(code: str) -> str:
    """The resource that a limit is about: the first named after Grp, Max or Min."""
    found = _WHAT.search(code)
    return _THINGS.get(found.group(), "resources") if found else "resources"
