"""Pieces of queries that the boards share.

Both replicas of the operator tell of the same objects, so everything about an object is taken once (`each`) before it
is added up or joined.
"""

from __future__ import annotations

DEPLOYMENT = "namespace, aimdeployment"
ALL = 'namespace=~"$namespace"'
"""Selector of a board with a variable for several namespaces."""
ONE = 'namespace="$namespace",aimdeployment="$aimdeployment"'
"""Selector of a board about one deployment."""
RATE = "$__rate_interval"
QUEUED = 0.5
"""Mean waiting requests from which a deployment has more to do than it can."""
EXPORTER = "${exporter_prefix:raw}"
"""Goes before the names of AMD's device metrics exporter."""


def each(metric: str, where: str = "", by: str = DEPLOYMENT) -> str:
    """One series for each object, with only the labels named."""
    return f"max by ({by}) ({metric}{{{where}}})"


def condition(kind: str, status: str, where: str) -> str:
    """Number of deployments whose condition has a status; 0 when there are none."""
    found = each("aim_deployment_status_condition", f'condition="{kind}",status="{status}",{where}')
    return f"count({found}) or vector(0)"


def demanded(query: str, where: str = "") -> str:
    """The query's series of deployments in which requests wait: without demand a low throughput says nothing.

    The gauge is a mean of some minutes; below a half, requests waited in fewer than half of the looks.
    """
    waiting = each("aim_performance_requests_waiting", where)
    return f"{query} and on ({DEPLOYMENT}) ({waiting} >= {QUEUED})"


def of_expected(where: str) -> str:
    """Tokens a second of a measured replica over what one is expected to give: replicas that could not be read are in neither."""
    measured, expected = (
        f"{each(f'aim_{total}_tokens_per_second', where)} / ({each(f'aim_{replicas}', where)} > 0)"
        for total, replicas in (
            ("performance", "performance_replicas"),
            ("deployment_expected", "deployment_status_replicas_ready"),
        )
    )
    return f"{measured} / ({expected} > 0)"


def either(name: str, where: str) -> str:
    """The series of that name of vLLM and of SGLang."""
    return f'{{__name__=~"vllm:{name}|sglang:{name}",{where}}}'


def quantile(share: float, name: str, where: str, by: str = "", window: str = RATE) -> str:
    """A quantile of a histogram that vLLM and SGLang both serve."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, sum by ({labels}) (rate({either(f'{name}_bucket', where)}[{window}])))"


def per_minute(counter: str, by: str, where: str = "") -> str:
    """Events a minute: counts over the window of a rate would overlap and add up to too many."""
    return f"sum by ({by}) (rate({counter}{{{where}}}[{RATE}])) * 60"


def by_recipe(metric: str, where: str = "", recipe: str = 'aimrecipe=~"$aimrecipe"') -> str:
    """A series of a deployment with the recipe it uses as a label."""
    info = each("aim_deployment_info", recipe, f"{DEPLOYMENT}, aimrecipe")
    return f"{each(metric, where)} * on ({DEPLOYMENT}) group_left (aimrecipe) {info}"


def constant_label(query: str, label: str, text: str) -> str:
    """The query's series with one more label of a fixed text, such as advice."""
    return f'label_replace({query}, "{label}", "{text}", "", "")'
