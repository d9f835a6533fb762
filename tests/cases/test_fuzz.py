"""A slice of what `tests/support/fuzz/request_fuzz.py` sends by the ten thousand."""

import asyncio

from request_fuzz import fuzz, make_bodies


def test_random_bodies_get_no_server_error_and_refusals_that_name_a_field(server):
    bodies = make_bodies(server.url, seed=1, count=300)
    counts, findings = asyncio.run(fuzz(server.url, bodies, server.headers))
    assert findings == []
    assert sum(counts.values()) == len(bodies)
    # Not only refusals have been seen.
    for path in ("/v1/chat/completions", "/v1/vision/plan", "/tokenize"):
        assert {f"{path} 200", f"{path} 400"} <= counts.keys()
