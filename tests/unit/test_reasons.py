"""Slurm's reasons for a job that waits: which clear, which do not, and the words for them."""

import re

import pytest

from contracts.jobs.reasons import explain
from contracts.jobs.states import _WORDS, JobStatus, Outlook, Verdict

#: All that is built from parts, as Slurm 22.05 to 24.05 write them.
LIMITS = """
AssocGrpBBMinutes AssocGrpBillingRunMinutes AssocGrpCPUMinutesLimit AssocGrpCPURunMinutesLimit
AssocGrpCpuLimit AssocGrpEnergy AssocGrpGRES AssocGrpGRESMinutes AssocGrpJobsLimit
AssocGrpLicense AssocGrpMemLimit AssocGrpMemRunMinutes AssocGrpNodeLimit AssocGrpNodeMinutes
AssocGrpSubmitJobsLimit AssocGrpUnknown AssocGrpWallLimit AssocMaxBBPerNode AssocMaxBillingPerJob
AssocMaxCpuMinutesPerJobLimit AssocMaxCpuPerJobLimit AssocMaxCpuPerNode AssocMaxGRESMinutesPerJob
AssocMaxGRESPerJob AssocMaxGRESPerNode AssocMaxJobsLimit AssocMaxMemPerJob AssocMaxNodePerJobLimit
AssocMaxSubmitJobLimit AssocMaxWallDurationPerJobLimit QOSGrpCpuLimit QOSGrpGRES QOSGrpJobsLimit
QOSGrpMemoryMinutes QOSGrpMemoryRunMinutes QOSGrpNodeLimit QOSGrpWallLimit
QOSMaxCpuMinutesPerJobLimit QOSMaxCpuPerJobLimit QOSMaxCpuPerNode QOSMaxCpuPerUserLimit
QOSMaxGRESPerJob QOSMaxGRESPerNode QOSMaxGRESPerUser QOSMaxJobsPerUserLimit QOSMaxMemoryPerJob
QOSMaxMemoryPerUser QOSMaxNodePerJobLimit QOSMaxNodePerUserLimit QOSMaxSubmitJobPerUserLimit
QOSMaxWallDurationPerJobLimit QOSMinCpuNotSatisfied QOSMinGRES QOSMinMemory QOSMinNode
MaxMemPerLimit MaxCpuPerAccount MaxJobsPerAccount MaxGRESPerAccount
"""
OTHERS = """
Resources Priority Dependency DependencyNeverSatisfied PartitionDown PartitionInactive
PartitionTimeLimit PartitionNodeLimit BadConstraints JobHeldUser JobHeldAdmin BeginTime Licenses
Reservation ReservationDeleted Cleaning NodeDown FrontEndDown Prolog InvalidAccount InvalidQOS
AccountNotAllowed QOSNotAllowed QOSUsageThreshold QOSJobLimit QOSResourceLimit QOSTimeLimit
AssociationJobLimit AssociationResourceLimit AssociationTimeLimit JobArrayTaskLimit
BurstBufferResources BurstBufferStageIn BurstBufferOperation JobHoldMaxRequeue DeadLine
SystemFailure JobLaunchFailure SchedDefer PowerNotAvail PowerReserved None
"""


def expected_of_a_limit(code):
    """By the rule: what the job alone exceeds stays so; what others use up comes free."""
    if re.search(r"Per(Job|Node|Limit)|Min(?!utes)", code):
        return Outlook.NEVER
    budget = re.search(r"Grp(?!.*RunMinutes).*Minutes|GrpWall", code)
    return Outlook.SOMEBODY if budget else Outlook.ITSELF


@pytest.mark.parametrize("code", LIMITS.split())
def test_limit_is_judged_by_whether_the_job_alone_exceeds_it(code):
    reason = explain(code, "12")
    assert reason.outlook is expected_of_a_limit(code)
    assert "{" not in reason.words + reason.remedy


@pytest.mark.parametrize("code", (LIMITS + OTHERS).split())
def test_every_code_has_words_of_its_own_and_a_remedy_where_one_is_needed(code):
    reason = explain(code, "12")
    assert code not in reason.words
    assert reason.remedy or reason.outlook is Outlook.ITSELF


def test_unknown_code_is_passed_on_and_waited_for():
    assert explain("MoonPhase", "12").outlook is Outlook.ITSELF
    assert "MoonPhase" in explain("MoonPhase", "12").words


@pytest.mark.parametrize(
    ("code", "words", "remedy"),
    [
        ("JobHeldUser", "held by its user", "scontrol release 12"),
        ("launch failed requeued held", "launch failed", "scontrol release 12"),
        ("job_requeued_in_held_state", "requeued and is held", "scontrol release 12"),
        ("QOSMaxGRESPerUser", "use all GPUs that its QOS allows", ""),
        ("AssocGrpCpuLimit", "jobs of its account use all cores", ""),
        ("QOSMaxMemoryPerJob", "more memory than its QOS allows", '"qos"'),
        ("MaxMemPerLimit", "more memory than its partition allows", "ask for less"),
        ("QOSMaxWallDurationPerJobLimit", "its time limit is longer", 'lower "time"'),
        ("ReqNodeNotAvail, UnavailableNodes:cpu1", "busy, reserved or down", ""),
        ("ReqNodeNotAvail, May be reserved for other job", "maintenance", 'shorter "time"'),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority "
         "partitions", "down, drained", "sinfo -R"),
    ],
)  # fmt: skip
def test_words_name_the_thing_and_the_knob(code, words, remedy):
    reason = explain(code, "12")
    assert words in reason.words
    assert remedy in reason.remedy


#: squeue(1), JOB STATE CODES: what lets us wait, go on, and give up.
STATES = {
    Verdict.WAITING: "PENDING CONFIGURING POWER_UP_NODE REQUEUED REQUEUE_FED REQUEUE_HOLD "
    "SPECIAL_EXIT RESV_DEL_HOLD SUSPENDED STOPPED EXPEDITING REVOKED",
    Verdict.RUNNING: "RUNNING COMPLETING RESIZING SIGNALING STAGE_OUT",
    Verdict.ENDED: "COMPLETED",
    Verdict.FAILED: "BOOT_FAIL CANCELLED DEADLINE FAILED LAUNCH_FAILED NODE_FAIL OUT_OF_MEMORY "
    "PREEMPTED RECONFIG_FAIL TIMEOUT",
}


def test_every_state_has_its_verdict():
    assert {v: set(names.split()) for v, names in STATES.items()} == {
        verdict: {name for name, (v, _) in _WORDS.items() if v is verdict} for verdict in STATES
    }


def test_only_states_of_the_queue_say_that_a_job_was_requeued():
    waiting = STATES[Verdict.WAITING].split()
    assert {name for name in waiting if not JobStatus(name).in_queue} == {
        "CONFIGURING", "POWER_UP_NODE", "SUSPENDED", "STOPPED", "EXPEDITING", "REVOKED"
    }  # fmt: skip
