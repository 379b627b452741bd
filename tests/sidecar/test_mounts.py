"""Which container a process is in, from mountinfo as runtimes write it."""

import pytest

from wsgi_sidecar.mounts import container_named

ROOT = "1 0 0:99 / / rw,relatime - overlay overlay rw,lowerdir=/x"
HOSTS = "2 1 8:1 /var/lib/kubelet/pods/e50f/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw"
WEB = "3 1 8:1 /var/lib/kubelet/pods/e50f/containers/web/3404dd90 /dev/termination-log rw,relatime - ext4 /dev/sda1 rw"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param((ROOT, HOSTS, WEB), "web", id="containerd, CRI-O and docker"),
        pytest.param(
            (ROOT, WEB.replace("/var/lib/kubelet", "")), "web", id="the kubelet's folder is a disk of its own"
        ),
        pytest.param((WEB.replace("/var", "/docker/volumes/minikube/_data"),), "web", id="minikube"),
        pytest.param((WEB.replace("/dev/termination-log", "/tmp/last\\040words"),), "web", id="another path inside"),
        pytest.param((WEB.replace("3404dd90", "3404dd90//deleted"),), "web", id="removed on the node"),
        pytest.param((WEB, WEB.replace("3 1", "4 1")), "web", id="twice the same"),
        pytest.param((WEB, WEB.replace("/web/", "/admin/")), None, id="two that disagree"),
        pytest.param((ROOT, HOSTS), None, id="none: a sandbox, another root, a machine"),
        pytest.param((WEB.replace("/containers/web/", "/volume-subpaths/data/web/"),), None, id="a subPath"),
        pytest.param((HOSTS.replace("/etc/hosts", "/pods/e50f/containers/web/3404dd90"),), None, id="a path, no root"),
        pytest.param((WEB.replace("/3404dd90", ""),), None, id="the folder above"),
        pytest.param((), None, id="nothing"),
    ],
)
def test_the_file_for_a_containers_last_words_names_it(lines: tuple[str, ...], expected: str | None) -> None:
    assert container_named("".join(f"{line}\n" for line in lines).encode()) == expected
