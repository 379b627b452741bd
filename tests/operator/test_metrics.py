"""What the operator counts of itself."""

from prometheus_client.parser import text_string_to_metric_families

from wsgi_operator.metrics import Meters


def samples(meters: Meters) -> dict[tuple[str, ...], float]:
    """By name and label values."""
    families = text_string_to_metric_families(meters.text().decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_pods_and_servers_are_summed_over_the_last_rounds():
    meters = Meters()
    meters.saw("a", ready=True, reporting=3, silent=0)
    meters.saw("a", ready=False, reporting=2, silent=1)
    meters.saw("b", ready=True, reporting=5, silent=0)
    told = samples(meters)
    assert (told["wsgi_operator_pods", "reporting"], told["wsgi_operator_pods", "silent"]) == (7, 1)
    assert (told["wsgi_operator_servers", "True"], told["wsgi_operator_servers", "False"]) == (1, 1)
    meters.forget("b")
    assert samples(meters)["wsgi_operator_pods", "reporting"] == 2


def test_rounds_are_counted_and_timed_even_if_they_fail():
    meters = Meters()
    try:
        with meters.round():
            raise RuntimeError
    except RuntimeError:
        meters.ended("failed")
    told = samples(meters)
    assert told["wsgi_operator_round_seconds_count",] == 1
    assert (told["wsgi_operator_rounds_total", "failed"], told["wsgi_operator_rounds_total", "settled"]) == (1, 0)


def test_requests_without_an_answer_are_counted_apart():
    meters = Meters()
    meters.requested("PATCH", 409)
    meters.requested("GET", 0)
    told = samples(meters)
    assert told["wsgi_operator_api_requests_total", "PATCH", "409"] == 1
    assert told["wsgi_operator_api_requests_total", "GET", "0"] == 1


def test_no_sample_is_labelled_by_workload_or_pod():
    meters = Meters()
    meters.saw("a", ready=True, reporting=1, silent=0)
    families = text_string_to_metric_families(meters.text().decode())
    labels = {name for family in families for sample in family.samples for name in sample.labels}
    assert labels == {"outcome", "le", "state", "ready"}
