"""Stand-ins for what Prometheus scrapes: they say what a deployment under load would say.

There is no client service, no Ollama and no GPU behind them; the names are those of the real ones.
Counters grow with time, so that rates are not zero.
"""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SOURCES = ("query", "benchmark")
HISTOGRAMS = ("time_to_first_token", "inter_token_latency", "e2e_request_latency")


def histogram(name, labels, count):
    """Of `count` observations a third is up to 0.1 s, another up to 1 s, the rest up to 10 s."""
    bounds = {"0.1": count / 3, "1.0": count * 2 / 3, "10.0": count, "+Inf": count}
    for bound, below in bounds.items():
        yield f'{name}_bucket{{{labels},le="{bound}"}} {below}'
    yield f"{name}_sum{{{labels}}} {count * 2}"
    yield f"{name}_count{{{labels}}} {count}"


def client(seconds):
    """The client service's /metrics, after so many seconds."""
    for source in SOURCES:
        labels = f'source="{source}"'
        for name in HISTOGRAMS:
            yield from histogram(f"orch_{name}_seconds", labels, 4 * seconds)
        yield f"orch_prompt_tokens_total{{{labels}}} {100 * seconds}"
        yield f"orch_generation_tokens_total{{{labels}}} {50 * seconds}"
        yield f'orch_requests_total{{{labels},outcome="ok"}} {4 * seconds}'
        yield f'orch_requests_total{{{labels},outcome="error"}} {seconds / 10}'
        yield f"orch_requests_in_flight{{{labels}}} 4"
    yield from histogram("orch_queue_wait_seconds", 'queue="engines"', 4 * seconds)
    yield 'orch_queue_length{queue="engines"} 3\norch_door_replicas_up 1'
    yield f'orch_user_requests_total{{user="owner"}} {4 * seconds}'
    yield f'orch_user_generation_tokens_total{{user="owner"}} {50 * seconds}'
    yield from histogram("orch_client_request_duration_seconds", 'route="/query"', 4 * seconds)
    yield f'orch_client_requests_total{{route="/query",status="200"}} {4 * seconds}'
    yield f"orch_client_retries_total {seconds / 10}"
    yield "orch_client_replicas 1\norch_client_replicas_out 0\norch_client_benchmark_running 1"
    yield "orch_benchmark_requests_planned 64\norch_benchmark_requests_done 8"
    yield "orch_output_free_bytes 5e11\norch_output_size_bytes 1e12"
    yield f"orch_job_end_timestamp_seconds {time.time() + 3600}"
    yield f"process_cpu_seconds_total {seconds / 10}\nprocess_resident_memory_bytes 5e7"


def ollama(seconds):
    """Ollama's exporter; its job ends in five minutes, for which there is an alert."""
    yield 'ollama_up 1\nollama_version_info{version="0.17.4"} 1'
    yield "ollama_models_on_disk 2\nollama_models_loaded 1"
    yield 'ollama_model_size_bytes{model="m:7b"} 4e9\nollama_model_vram_bytes{model="m:7b"} 4e9'
    yield f'ollama_model_expires_timestamp_seconds{{model="m:7b"}} {time.time() + 300}'
    yield "ollama_scrape_duration_seconds 0.004\norch_gpus_requested 1"
    yield f"orch_job_end_timestamp_seconds {time.time() + 300}"


def gpu(seconds):
    """dcgm-exporter, with the fields that need special rights."""
    labels = 'gpu="0",UUID="GPU-0",device="nvidia0",modelName="NVIDIA H100",Hostname="n1"'
    values = {"GPU_UTIL": 90, "MEM_COPY_UTIL": 40, "FB_USED": 40000, "FB_FREE": 40000}
    values |= {"POWER_USAGE": 400, "GPU_TEMP": 60, "SM_CLOCK": 1700, "MEM_CLOCK": 2600}
    values |= {"TOTAL_ENERGY_CONSUMPTION": 400e3 * seconds, "CLOCK_THROTTLE_REASONS": 4}
    for name, value in values.items():
        yield f"DCGM_FI_DEV_{name}{{{labels}}} {value}"
    yield f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{labels}}} 0.3"
    yield f"DCGM_FI_PROF_DRAM_ACTIVE{{{labels}}} 0.6"


def pushed(begin, end):
    """What a benchmark pushes when it has ended."""
    yield f"orch_benchmark_start_timestamp_seconds {begin}"
    yield f"orch_benchmark_end_timestamp_seconds {end}"
    yield "orch_benchmark_valid 1"
    yield 'orch_benchmark_requests{outcome="ok"} 63\norch_benchmark_requests{outcome="error"} 1'
    yield "orch_benchmark_requests_per_second 4\norch_benchmark_output_tokens_per_second 200"
    for figure in ("ttft", "itl", "tpot", "e2e"):
        for stat in ("mean", "p50", "p95", "p99"):
            labels = f'figure="{figure}",stat="{stat}"'
            yield f"orch_benchmark_latency_seconds{{{labels}}} 0.2"


@contextlib.contextmanager
def served(lines):
    """The address at which what lines(seconds since the start) yields is to be scraped."""
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            text = "\n".join(lines(time.monotonic() - began)) + "\n"
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
