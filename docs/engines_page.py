"""The page of the engines: images, metrics, and who may set which flag and variable."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aim_engine.api.enums import Backend
from aim_engine.catalog.flags import FlagClass, FlagTable, env_rules, flag_table, flag_versions
from aim_engine.catalog.gpus import gpu_catalog
from aim_engine.engines import engine

Table = Callable[..., str]


def page(table: Table) -> str:
    """All backends: images, metrics, and the flags that not everybody may set."""
    parts = [
        "# Engines\n\n",
        "`backend` of a recipe. An engine's flags are checked against the table of the version that `engineVersion` names; "
        "an administrator may use another version, whose unknown flags are then not checked.\n",
    ]
    parts += [*(_engine(backend, table) for backend in Backend), _variables(table)]
    return "".join(parts)


def _engine(backend: Backend, table: Table) -> str:
    module = engine(backend)
    images = {
        gpu.architecture: module.default_image(module.DEFAULT_VERSION, gpu, "ORG/MODEL")
        for gpu in gpu_catalog().values()
        if not module.check_gpu(gpu)
    }
    facts = [
        ("Default version", f"`{module.DEFAULT_VERSION}`"),
        (
            "Versions with a flag table",
            ", ".join(f"`{v}`" for v in flag_versions(backend)) or "none: the image decides",
        ),
        ("Image", ", ".join(f"`{image}` ({architecture})" for architecture, image in images.items())),
        ("Port, probes", f"{module.PORT}, `{module.HEALTH_PATH}`"),
        (
            "API key",
            f"variable `{module.API_KEY.variable}` from the Secret"
            + (f", as `{' '.join(module.API_KEY.args)}`" if module.API_KEY.args else ""),
        ),
    ]
    parts = [f"\n## {backend.value}\n\n{module.NOTE}\n\n", table(("", ""), facts)]
    parts.append(
        "\nMetrics:\n\n"
        + table(
            ("Meaning", "Series"),
            (
                (meaning, ", formerly ".join(f"`{n}`" for n in names))
                for meaning, names in module.METRICS.items()
            ),
        )
    )
    found = flag_table(backend, module.DEFAULT_VERSION)
    if found is not None:
        parts += _classes(found, table)
    return "".join(parts)


def _classes(found: FlagTable, table: Table) -> Iterator[str]:
    """Who may set which flag, and why."""
    flags = found.flags.values()
    yield f"\nFlags of {found.version} that not everybody may set:\n\n"
    restricted = [flag for flag in flags if flag.flag_class is not FlagClass.ALLOWED]
    yield table(("Flag", "Class", "Why"), ((f"`{f.name}`", f.flag_class.value, f.why) for f in restricted))
    inner = [(flag, f"key `{key}`", why) for flag in flags for key, why in flag.denied_keys.items()]
    inner += [
        (flag, f"{f'`{key}` of ' if key else ''}value `{pattern}`", why)
        for flag in flags
        for key, patterns in flag.denied_values.items()
        for pattern, why in patterns.items()
    ]
    if inner:
        yield "\nDenied inside the values of flags that are allowed (values are regular expressions):\n\n"
        yield table(
            ("Flag", "Denied", "Why: it"), ((f"`{flag.name}`", what, why) for flag, what, why in inner)
        )
    yield "\nAllowed to whoever may create an AIMDeployment, by what they do:\n\n"
    allowed = [flag for flag in flags if flag.flag_class is FlagClass.ALLOWED]
    reasons = dict.fromkeys(flag.why for flag in allowed)
    yield table(
        ("It", "Flags"), ((why, ", ".join(f"`{f.name}`" for f in allowed if f.why == why)) for why in reasons)
    )


def _variables(table: Table) -> str:
    """Who may set which variable, and why."""
    rules = env_rules(Backend.VLLM)
    rows = [
        *((f"`{name}`", "owned", why) for name, why in rules.owned.items()),
        *((f"`{name}`", "denied", why) for name, why in rules.denied.items()),
        *((f"`{name}`", "admin-only", why) for name, why in rules.admin_only.items()),
    ]
    allowed = ", ".join(f"`{name}`" for name in rules.tenant_allowed)
    return (
        "\n## Environment variables\n\nThe rules hold for all engines. `*` stands for anything; the first rule that fits counts. A cluster recipe may set "
        f"whatever is neither owned nor denied; an AIMDeployment and a ConfigMap recipe, of the rest, only {allowed}.\n\n"
        + table(("Variable", "Class", "Why: it"), rows)
        + "\nA name that sounds like a file, a host, code or a log needs a cluster recipe even where a pattern would allow it: engines read more "
        "variables than any list has. These were looked at and are allowed:\n\n"
        + table(("Variable", "What it is"), ((f"`{name}`", what) for name, what in rules.reviewed.items()))
    )
