"""Request x recipes x inventory -> an explained decision."""

from aim_engine.selection.capacity import capacity_verdict, pod_need
from aim_engine.selection.decide import decide, hold, relevant
from aim_engine.selection.stages import (
    Memo,
    describe,
    effective_args,
    recipe_problems,
    tenant_trust,
)
from aim_engine.selection.types import (
    Assessment,
    Candidate,
    CatalogueFacts,
    Choice,
    Decision,
    Facts,
    Request,
    Source,
    Verdict,
    Want,
    candidate,
    content_hash,
    request_of,
)

__all__ = [
    "Assessment", "Candidate", "CatalogueFacts", "Choice", "Decision", "Facts", "Memo", "Request", "Source", "Verdict", "Want",
    "candidate", "capacity_verdict", "content_hash", "decide", "describe", "effective_args", "hold", "pod_need", "recipe_problems", "relevant", "request_of", "tenant_trust",
]  # fmt: skip
