"""The benchmark, run by the client service: started, followed, and found again by --attach."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from contracts.errors import BenchmarkInvalid, ServiceError
from hpc.following.answers import Answered, PartialSummary, ProgressSoFar, Result, RunState, read
from hpc.recipe.schema import Recipe
from hpc.web import Answer, NoAnswer, call

PROGRESS_S = 0.5
#: A service that does not answer for so long while its job runs is broken. A node that swaps, or a
#: network that has a bad moment, comes back sooner.
SILENCE_S = 60.0
#: A load generator that is told to end writes its results within a second; of many requests, on a
#: machine that is busy with other things, it took more than five.
RESULTS_S = 30.0
#: Some models never end an answer by themselves.
ANSWER_TOKENS, ANSWER_TIMEOUT_S = 256, 600.0


def run_benchmark(
    url: str,
    run_id: str,
    recipe: Recipe,
    model: str,
    check_jobs: Callable[[], None],
    on_progress: Callable[[ProgressSoFar], None],
    token_file: Path | None = None,
) -> Result:
    """Have the client service at `url` run the recipe's benchmark as `run_id`; its result.

    A run of that id which is under way, or done, is taken up again. `check_jobs` raises when a
    job of the deployment has ended. Raises ServiceError when the run fails.
    """
    service = recipe.job.service
    body = {
        "id": run_id,
        "wait": False,
        **service.load,
        "model": model,
        "retrieval": service.wanted_retrieval is not None and service.wanted_retrieval.benchmark,
    }

    def ask(method: str, path: str, body: object = None) -> Answer:
        return call(method, f"{url}{path}", body, token_file=token_file)

    started = _patiently(lambda: ask("POST", "/benchmark", body), check_jobs)
    if started.status not in (200, 202):
        raise ServiceError(f"the client service refuses the benchmark: {started.error}.")
    while True:
        answer = _patiently(lambda: ask("GET", f"/benchmark/{run_id}"), check_jobs)
        run = read(RunState, answer.json)
        if run.state == "done":
            return read(Result, answer.json)
        if run.state != "running":
            raise ServiceError(f"the benchmark {run_id} failed: {answer.error}.")
        on_progress(run.progress)
        time.sleep(PROGRESS_S)


def _patiently(ask: Callable[[], Answer], check_jobs: Callable[[], None]) -> Answer:
    """The answer, as long as the jobs live and are silent for no more than SILENCE_S.

    503 says that the client service does not reach Ollama: perhaps its job is ending just now.
    """
    deadline = time.monotonic() + SILENCE_S
    while True:
        check_jobs()
        try:
            answer = ask()
            if answer.status != 503:
                return answer
            problem = answer.error
        except NoAnswer as error:
            problem = error.message
        if time.monotonic() > deadline:
            raise ServiceError(f"{problem.rstrip('.')}; the benchmark is given up.")
        time.sleep(PROGRESS_S)


def cut_short(
    url: str, run_id: str, folder: Path, token_file: Path | None = None
) -> PartialSummary:
    """End a run that has lost a job which it needs; what was measured, without counts when nothing
    was.

    The client service may be what was lost: its load generator ends with it, and the results are
    where all hosts see them.
    """
    at = f"{url}/benchmark/{run_id}"
    try:
        call("DELETE", at, token_file=token_file)
        run = read(RunState, call("GET", at, token_file=token_file).json)
    except (NoAnswer, ServiceError):
        pass
    else:
        if run.state in ("cancelled", "failed") and not run.progress.done:
            return PartialSummary()  # there will be no file
    deadline = time.monotonic() + RESULTS_S
    while time.monotonic() < deadline:
        try:
            return PartialSummary.model_validate_json((folder / "summary.json").read_text())
        except (OSError, ValueError):
            time.sleep(0.1)
    return PartialSummary()


def check_valid(result: Result) -> None:
    """Raise BenchmarkInvalid, with the reasons, when the figures must not be used."""
    if not result.validity.valid:
        reasons = list(result.validity.reasons)
        raise BenchmarkInvalid("the benchmark is not valid; do not use its figures.", reasons)


def ask(
    url: str,
    question: str,
    model: str,
    retrieval: bool = False,
    token_file: Path | None = None,
) -> Answered:
    """Ollama's answer to one question, through /query; with `retrieval` from what was ingested.

    Raises ServiceError.
    """
    options = {"num_predict": ANSWER_TOKENS, "temperature": 0}  # the same answer each time
    body = {"prompt": question, "model": model, "options": options, "retrieval": retrieval}
    try:
        answer = call("POST", f"{url}/query", body, ANSWER_TIMEOUT_S, token_file)
    except NoAnswer as error:
        raise ServiceError(f"the client service does not answer a question: {error}.") from error
    if answer.status != 200:
        raise ServiceError(f"the client service cannot answer a question: {answer.error}.")
    return read(Answered, answer.json)
