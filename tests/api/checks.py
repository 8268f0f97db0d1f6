"""What every answer of the server keeps to, whatever was asked; schemathesis loads this beside its own checks."""

import schemathesis
from schemathesis.specs.openapi.checks import response_schema_conformance

MODEL, ENCODER = "scripted", "encoder"
NOT_NOW = {429, 503, 529}


@schemathesis.check
def says_when_to_come_back(context, response, case):
    """No fault of the server's own, and who is sent away is told for how long; health is a view, and sends nobody away."""
    status = response.status_code
    if case.path.startswith("/health/") and status == 503:
        return
    assert status < 500 or status in NOT_NOW, f"a fault of the server: {status}"
    assert status not in NOT_NOW or response.headers.get("retry-after"), f"{status} without Retry-After"


@schemathesis.check
def is_as_described(context, response, case):
    """JSON has the shape that the description gives it; of streams it gives what is in their events."""
    if response.headers.get("content-type", [""])[0].startswith("application/json"):
        response_schema_conformance(context, response, case)


@schemathesis.hook
def map_body(context, body):
    """Half of what names a model means one that is there: the rest of a call is not looked at without one."""
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 2:
        return body | {"model": ENCODER if "embed" in context.operation.path else MODEL}
    return body
