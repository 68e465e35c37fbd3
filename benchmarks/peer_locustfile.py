"""For locust: each user asks one question after another; its TTFT is a request of its own."""

from __future__ import annotations

from time import perf_counter

from locust import FastHttpUser, constant, task

BODY = {
    "model": "known:latest",
    "messages": [{"role": "user", "content": "Why is the sea salt?"}],
    "stream": True,
    "max_tokens": 64,
}


class Asker(FastHttpUser):
    """Streams an answer, and stamps its first bytes as they come."""

    wait_time = constant(0)

    @task
    def ask(self) -> None:
        """One question. What comes is read in pieces: lines would be held back."""
        began = perf_counter()
        with self.client.post("/v1/chat/completions", json=BODY, stream=True) as response:
            response.stream.read(1)
            first_ms = (perf_counter() - began) * 1000
            while response.stream.read(65_536):
                pass
        self.environment.events.request.fire(
            request_type="TTFT", name="ttft", response_time=first_ms, response_length=0,
            exception=None, context={},
        )  # fmt: skip
