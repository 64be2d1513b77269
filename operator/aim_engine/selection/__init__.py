"""Request x recipes x inventory -> an explained decision."""

from aim_engine.selection.capacity import capacity_verdict, pod_need
from aim_engine.selection.catalogue import FileProblem, catalogue_problems, identity, recipe_file_problems
from aim_engine.selection.decide import (
    can_ever_serve,
    decide,
    eligible_anywhere,
    hold,
    relevant,
    wants_of,
)
from aim_engine.selection.difference import difference
from aim_engine.selection.images import image_problems
from aim_engine.selection.order import outranks, preference
from aim_engine.selection.report import (
    choice_document,
    choice_version,
    inventory_summary,
    list_schema,
    report,
    schema,
)
from aim_engine.selection.spec_problems import Check, SpecProblem, least_bytes, spec_problems, told
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
    Evidence,
    Facts,
    Observation,
    Prediction,
    Recorded,
    Request,
    Source,
    Verdict,
    Want,
    candidate,
    content_hash,
    request_of,
)
from aim_engine.selection.validity import recipe_fit, validity_problems

__all__ = [
    "Assessment", "Candidate", "CatalogueFacts", "Check", "Choice", "Decision", "Evidence", "Facts", "FileProblem", "Memo", "Observation", "Prediction", "Recorded", "Request", "Source", "SpecProblem", "Verdict", "Want", "can_ever_serve", "candidate", "capacity_verdict", "catalogue_problems", "choice_document", "choice_version", "content_hash", "decide", "describe", "difference", "effective_args", "eligible_anywhere", "hold", "identity", "image_problems", "inventory_summary", "least_bytes", "list_schema", "outranks", "pod_need", "preference", "recipe_file_problems", "recipe_fit", "recipe_problems", "relevant", "report", "request_of", "schema", "spec_problems", "tenant_trust", "told", "validity_problems", "wants_of",
]  # fmt: skip
