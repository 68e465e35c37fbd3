"""Apptainer and the test images work on the cluster's hosts, as an ordinary user."""

from __future__ import annotations

from images import Images
from project import Project
from slurmcluster import PATIENCE_S, wait_until

DEFINITION = "Bootstrap: localimage\nFrom: {base}\n%post\n  echo built >/made\n"


def test_user_runs_an_image_in_a_job(project: Project, images: Images) -> None:
    inside = ["apptainer", "exec", str(images.ollama), "ollama", "--version"]
    shown = project.cluster.on("login1", "srun", "-p", "gpu", *inside, check=True)
    assert "version is" in shown.stdout
    venv = ["apptainer", "exec", str(images.base), "python3", "-m", "venv", "/tmp/orch-venv"]
    removed = ["rm", "-r", "/tmp/orch-venv"]
    project.cluster.on("cpu1", *venv, check=True)
    project.cluster.on("cpu1", *removed, check=True)


def test_user_builds_an_image_on_a_host(project: Project, images: Images) -> None:
    host, folder = project.cluster, images.folder
    (folder / "made.def").write_text(DEFINITION.format(base=images.base))
    build = ["apptainer", "build", "--force", "--disable-cache", "made.sif", "made.def"]
    host.on("cpu1", *build, cwd=folder, check=True)
    shown = host.on("cpu2", "apptainer", "exec", "made.sif", "cat", "/made", cwd=folder, check=True)
    assert shown.stdout == "built\n"


def test_ollama_in_an_image_serves_other_hosts(project: Project, images: Images) -> None:
    serve = ["apptainer", "exec", "--env", "OLLAMA_HOST=0.0.0.0:11434,HOME=/tmp/orch-ollama",
             str(images.ollama), "sh", "-c", "trap 'rm -r $HOME' EXIT; ollama serve"]  # fmt: skip
    process = project.cluster.popen("gpu1", *serve)
    try:
        wait_until(
            lambda: 11434 in project.cluster.listening("gpu1"), PATIENCE_S, "Ollama to listen"
        )
        assert "version" in project.curl("http://gpu1:11434/api/version")
    finally:
        process.send_signal(15)
        process.wait(PATIENCE_S)
    project.assert_nothing_left()


def test_client_service_is_built_without_a_registry(images: Images, project: Project) -> None:
    inside = ["apptainer", "--silent", "exec", "--pwd", "/opt/orch", str(images.client())]
    shown = project.cluster.on("cpu1", *inside, "python", "-c", "import clientService, gunicorn")
    assert (shown.returncode, shown.stderr) == (0, "")
    proxy = project.cluster.on("cpu1", *inside, "haproxy", "-vv", check=True)
    assert " +OPENSSL " in proxy.stdout
