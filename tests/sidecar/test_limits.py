"""Limits and pressure from the texts of cgroup files: pure, in tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_sidecar.core.limits import UNLIMITED, Limits, Pressure, counters, limits_of, pressure_of

# As Linux 6.1 prints them in a container of a cgroup v2 machine.
MEMORY_EVENTS = "low 0\nhigh 0\nmax 1432\noom 3\noom_kill 2\noom_group_kill 0\n"
CPU_STAT_V2 = (
    "usage_usec 4170000\nuser_usec 4000000\nsystem_usec 170000\n"
    "nr_periods 120\nnr_throttled 77\nthrottled_usec 5600000\nnr_bursts 0\nburst_usec 0\n"
)
PRESSURE = "some avg10=1.53 avg60=0.87 avg300=0.21 total=2500000\nfull avg10=0.00 avg60=0.12 avg300=0.03 total=400000\n"


@pytest.mark.parametrize(
    ("version", "level", "expected"),
    [
        (2, {"cpu.max": "50000 100000\n"}, Limits(cpu_cores=0.5)),
        (2, {"cpu.max": "max 100000\n"}, Limits(cpu_cores=UNLIMITED)),
        (2, {"cpu.max": "max"}, Limits(cpu_cores=UNLIMITED)),
        (2, {"cpu.max": "250000 100000\n", "memory.max": "536870912\n"}, Limits(cpu_cores=2.5, memory_bytes=2**29)),
        (2, {"memory.max": "max\n", "pids.max": "1024\n"}, Limits(memory_bytes=UNLIMITED, pids=1024)),
        (1, {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, Limits(cpu_cores=UNLIMITED)),
        (1, {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"}, Limits(cpu_cores=1.5)),
        (1, {"memory.limit_in_bytes": "9223372036854771712\n"}, Limits(memory_bytes=UNLIMITED)),
        (1, {"memory.limit_in_bytes": "9223372036854710272\n"}, Limits(memory_bytes=UNLIMITED)),  # 64 KiB pages
        (1, {"memory.limit_in_bytes": "134217728\n", "pids.max": "max\n"}, Limits(memory_bytes=2**27, pids=UNLIMITED)),
    ],
)
def test_a_limit_reads_as_the_kernel_means_it(version, level, expected):
    assert limits_of(version, [level]) == expected


@pytest.mark.parametrize("text", ["", "\n", "lots\n", "-5\n", "1.5\n", "100000\n", "50000 0\n", "50000 x\n"])
def test_a_quota_that_makes_no_sense_is_unknown_and_not_unlimited(text):
    assert limits_of(2, [{"cpu.max": text}]).cpu_cores is None


def test_no_limit_is_told_apart_from_an_unknown_one():
    assert limits_of(2, [{"memory.max": "max"}]).memory_bytes == math.inf
    assert limits_of(2, [{}]).memory_bytes is None
    assert limits_of(1, []).memory_bytes is None


def test_the_tightest_limit_on_the_way_up_counts():
    levels = [{"memory.max": "max"}, {"memory.max": "268435456"}, {"memory.max": "536870912"}, {}]
    assert limits_of(2, levels).memory_bytes == 268435456


def test_pressure_reads_the_counters_of_cgroup_v2():
    own = {
        "cpu.stat": CPU_STAT_V2,
        "memory.current": "300000\n",
        "memory.stat": "anon 200000\nfile 100000\ninactive_file 80000\nactive_file 20000\n",
        "memory.peak": "500000\n",
        "memory.events": MEMORY_EVENTS,
        "pids.current": "12\n",
        "pids.events": "max 4\n",
        "cpu.pressure": PRESSURE,
        "memory.pressure": PRESSURE,
    }
    assert pressure_of(2, own) == Pressure(
        memory_used_bytes=300000, memory_working_set_bytes=220000, memory_peak_bytes=500000, memory_limit_hits=1432,
        oom_kills=2, cpu_used_s=pytest.approx(4.17), periods=120, throttled_periods=77, throttled_s=pytest.approx(5.6),
        pids=12, pids_limit_hits=4, cpu_stalled_s=pytest.approx(2.5), memory_stalled_s=pytest.approx(0.4),
    )  # fmt: skip


def test_pressure_reads_the_counters_of_cgroup_v1():
    own = {
        "cpu.stat": "nr_periods 10\nnr_throttled 9\nthrottled_time 2000000000\nnr_bursts 0\nburst_time 0\n",
        "cpuacct.usage": "3500000000\n",
        "memory.usage_in_bytes": "300000\n",
        "memory.stat": "cache 1\ninactive_file 7\ntotal_inactive_file 100000\n",
        "memory.max_usage_in_bytes": "400000\n",
        "memory.failcnt": "17\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    }
    assert pressure_of(1, own) == Pressure(
        memory_used_bytes=300000, memory_working_set_bytes=200000, memory_peak_bytes=400000, memory_limit_hits=17,
        oom_kills=3, cpu_used_s=pytest.approx(3.5), periods=10, throttled_periods=9, throttled_s=pytest.approx(2.0),
    )  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
def test_what_was_not_read_is_unknown_and_not_zero(version):
    assert pressure_of(version, {}) == Pressure()


def test_an_old_kernel_without_an_oom_counter_leaves_it_unknown():
    # Linux before 4.13 has no oom_kill line in memory.oom_control
    assert pressure_of(1, {"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}).oom_kills is None


def test_a_cache_that_grew_between_two_reads_does_not_make_memory_negative():
    own = {"memory.current": "100", "memory.stat": "inactive_file 150\n"}
    assert pressure_of(2, own).memory_working_set_bytes == 0


def test_lines_that_are_no_counters_are_left_out():
    assert counters("max 3\nnonsense\nfoo bar\nneg -1\n\na 1 2\nhigh 4") == {"max": 3, "high": 4}


NAMES = st.sampled_from(
    ["cpu.max", "cpu.stat", "memory.max", "memory.current", "memory.events", "memory.stat", "memory.pressure",
     "pids.max", "cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.limit_in_bytes", "memory.oom_control",
     "cpuacct.usage"]
)  # fmt: skip
WORDS = st.one_of(
    st.text(), st.integers().map(str), st.sampled_from(["max", "full", "some", "total=", "oom_kill", "9" * 5000])
)
TEXTS = st.one_of(st.text(), st.lists(WORDS).map(" ".join), st.lists(WORDS).map("\n".join))


@given(version=st.sampled_from([1, 2]), texts=st.dictionaries(NAMES, TEXTS))
def test_no_text_brings_the_reading_down(version, texts):
    limits, pressure = limits_of(version, [texts]), pressure_of(version, texts)
    assert all(value is None or value >= 0 for value in (limits.cpu_cores, limits.memory_bytes, limits.pids))
    assert pressure.oom_kills is None or pressure.oom_kills >= 0
