"""What the layers of a model keep: every token, a window, or a recurrent state. A pattern that nobody states is not guessed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from aim_engine.catalog.architectures import Architecture, Keeps, layer_types
from aim_engine.hub.config_reader import ConfigError, Reader, shown


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers of a model by what they keep."""

    full: int
    windowed: int = 0
    window: int | None = None
    recurrent: int = 0


def kept_layers(reader: Reader, kind: Architecture, layers: int) -> Layers:
    """The layers; raises ConfigError where the file does not say which have a window."""
    listed = reader.items("layer_types")
    if listed:
        return _listed(reader, listed, layers)
    if kind.linear is not None:
        interval = reader.count("full_attention_interval", required=False) or kind.linear
        full = layers // interval
        return Layers(full, recurrent=layers - full)
    window = _window(reader, kind)
    if window is None:
        return Layers(layers)
    windowed = _windowed(reader, kind, layers)
    return Layers(layers - windowed, windowed, window) if windowed else Layers(layers)


def _listed(reader: Reader, listed: list[object], layers: int) -> Layers:
    known = layer_types()
    foreign = next((name for name in listed if str(name) not in known), None)
    if foreign is not None:
        raise ConfigError(f"layer_types has {shown(foreign)}; known are {', '.join(known)}")
    if len(listed) != layers:
        raise ConfigError(f"layer_types has {len(listed)} entries for {layers} layers")
    kept = Counter(known[str(name)] for name in listed)
    windowed = kept[Keeps.WINDOW]
    window = reader.must("sliding_window", "attention_chunk_size") if windowed else None
    return Layers(kept[Keeps.FULL], windowed, window, kept[Keeps.STATE])


def _window(reader: Reader, kind: Architecture) -> int | None:
    on = reader.flag("use_sliding_window", default=not kind.window_switch)
    return reader.count("sliding_window", "attention_chunk_size", required=False) if on else None


def _windowed(reader: Reader, kind: Architecture, layers: int) -> int:
    """Layers that have the window."""
    marks = reader.items("no_rope_layers")
    if kind.no_rope_layers and marks:
        return sum(1 for mark in marks[:layers] if mark)
    interval = "no_rope_layer_interval" if kind.no_rope_layers else "sliding_window_pattern"
    every = reader.count(interval, required=False) or kind.full_every
    if every is not None:
        return layers - layers // every
    if kind.window_everywhere:
        return layers
    if kind.window_after:
        return max(0, layers - reader.must("max_window_layers"))
    size = reader.count("sliding_window", "attention_chunk_size")
    raise ConfigError(
        f"sliding_window is {size}, and neither layer_types nor sliding_window_pattern says which layers have it"
    )
