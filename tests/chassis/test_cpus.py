"""How many CPUs a process may use, by trees as Linux shows them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from lensmesh_chassis.process.cpus import cpu_count, cpu_quota


def tree(root: Path, self_cgroup: str, **files: str) -> Path:
    """A root folder whose `proc/self/cgroup` says so, with files of control groups by their paths."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(self_cgroup)
    (root / "sys/fs/cgroup").mkdir(parents=True)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("self_cgroup", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {}, None),
        ("", {"cpu.max": "200000 100000\n"}, None),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "900000 100000\n", "a/b/cpu.max": "300000 100000\n"}, 3.0),
        # The host's path, and the container's own group mounted as the root.
        ("0::/kubepods/pod1/c1\n", {"cpu.max": "400000 100000\n"}, 4.0),
        ("0::/../../pod1/c1\n", {"cpu.max": "400000 100000\n"}, 4.0),
        ("0::/\n", {"cpu.max": "broken\n"}, None),
        ("0::/\n", {"cpu.max": "100000 0\n"}, None),
        (
            "4:cpu,cpuacct:/docker/x\n2:memory:/docker/x\n",
            {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        (
            "4:cpu,cpuacct:/docker/x\n",
            {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "50000\n"},
            2.0,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("4:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        # Both at once: version 1 has the controller.
        (
            "4:cpu:/\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n", "unified/cgroup.procs": ""},
            3.0,
        ),
    ],
)
def test_the_least_quota_of_the_groups_counts(
    tmp_path: Path, self_cgroup: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(tree(tmp_path, self_cgroup, **files)) == quota


@pytest.mark.parametrize(
    ("cpu_max", "count"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("9900000 100000", 8)]
)
def test_a_quota_is_rounded_down_and_there_is_one_cpu_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cpu_max: str, count: int
) -> None:
    tree(tmp_path, "0::/\n", **{"cpu.max": cpu_max})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    with caplog.at_level(logging.INFO):
        assert cpu_count(tmp_path) == cpu_count(tmp_path) == count
    assert len(caplog.records) == 1
    assert "8 by affinity" in caplog.text
    assert ("no quota" in caplog.text) is cpu_max.startswith("max")
