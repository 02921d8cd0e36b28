import os

import pytest


@pytest.mark.skipif(os.name != "posix", reason="another platform lets two listen on one port")
def test_a_port_that_is_taken_is_told_with_what_to_do(stand_in, shell):
    api = stand_in()
    port = api.url.rpartition(":")[2]
    refused = shell(api, "sandbox", "--port", port)
    assert refused.code == 2
    assert f"port {port} is taken, most likely by a sandbox that runs already" in refused.said
    assert "choose another --port" in refused.said
