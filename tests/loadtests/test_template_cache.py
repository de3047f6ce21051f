from loadtests.template_cache import Phase


def test_a_phase_says_what_a_core_of_the_api_does() -> None:
    phase = Phase("304", "device", requests=1000, seconds=2.0, cpu_s={"api": 0.25, "postgres": 0.05})
    phase.latencies.add(1.5)
    found = phase.summary()
    assert (found["requests_per_s"], found["requests_per_s_and_core"]) == (500, 4000)
    assert found["cpu_us_per_request"] == {"api": 250.0, "postgres": 50.0}
    assert Phase("redis", "service").summary()["requests_per_s_and_core"] == 0
