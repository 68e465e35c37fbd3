"""llama.cpp's server in place of Ollama: the same recipe on real Slurm."""

from __future__ import annotations

from project import Project


def test_llamacpp_serves_what_the_recipe_asks_for(project: Project) -> None:
    recipe = project.recipe(engine="llama.cpp", nodes=1, gpus=0, question="Who are you?")
    result = project.orch(recipe, "--no-monitoring")
    project.assert_benchmarked(result)
    assert "4 of 4 requests succeeded, 2 clients" in result.stdout
    record = project.records()[-1]
    assert project.host_of(record["jobs"]["llamacpp"]["id"]) == "gpu1"
    assert project.host_of(record["jobs"]["client"]["id"]) in ("cpu1", "cpu2")
    (engine,) = record["endpoints"]["llamacpp"]
    refused = ["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}"]
    assert project.cluster.on("login1", *refused, f"{engine}/props", check=True).stdout == "401"
    assert project.orch("--stop", record["id"]).returncode == 0
    project.assert_nothing_left()
