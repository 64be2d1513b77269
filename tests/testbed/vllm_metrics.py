"""What a vLLM server would report under a given load: counters that advance with time, and their text form.

Names, types, labels and histogram bounds are those of vLLM 0.32; only the metrics that dashboards, alerts and
autoscalers commonly use are here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")
TTFT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
TOKEN_BOUNDS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
REQUEST_BOUNDS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
LENGTH_BOUNDS = tuple(float(digit * 10**power) for power in range(5) for digit in (1, 2, 5))[:14]
"""Of the lengths of requests: vLLM goes in steps of 1, 2, 5 up to the longest context, here 32768."""
VARIETY = (0.5, 0.7, 0.8, 0.9, *(1.0,) * 8, 1.1, 1.2, 1.3, 1.5, 1.8, 2.2, 2.8, 4.0)
"""What one request in turn needs, as a share of the usual."""


@dataclass(frozen=True)
class Load:
    """A steady state of one engine. All rates follow from the generated tokens a second."""

    tokens_per_second: float = 0.0
    """Generated tokens a second, all requests together."""
    tokens_per_request: float = 128.0
    prompt_tokens_per_request: float = 512.0
    running: int = 0
    """Requests in the batch."""
    waiting: int = 0
    """Requests in the queue."""
    kv_cache_usage: float = 0.0
    """Share of the KV cache in use, 0 to 1."""
    prefix_cache_hit_ratio: float = 0.0
    """Share of prompt tokens found in the prefix cache, 0 to 1."""
    preemptions_per_second: float = 0.0
    ttft: float = 0.05
    """Seconds to the first token."""
    inter_token_latency: float = 0.01
    """Seconds between tokens of one request."""
    queue_time: float = 0.0
    """Seconds in the queue."""
    error_ratio: float = 0.0
    """Share of requests that end with an error of the engine, answered with status 500; 0 to 1."""
    varied: bool = False
    """Whether requests differ: times and lengths are then those above for most of them, down to half and up to four
    times as much for others."""
    healthy: bool = True
    """Whether /health answers 200 (else 503)."""


@dataclass
class Histogram:
    """Cumulative counts at each upper bound, the last being infinity."""

    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float, times: int = 1) -> None:
        """Add ``times`` observations of ``value``."""
        for index, bound in enumerate((*self.bounds, float("inf"))):
            if value <= bound:
                self.counts[index] += times
        self.total += value * times


@dataclass
class EngineState:
    """The metrics of one engine since its start at ``created`` (seconds since the epoch)."""

    created: float
    load: Load = field(default_factory=Load)
    prompt_tokens: int = 0
    generation_tokens: int = 0
    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FINISHED_REASONS, 0))
    ttft: Histogram = field(default_factory=lambda: Histogram(TTFT_BOUNDS))
    inter_token: Histogram = field(default_factory=lambda: Histogram(TOKEN_BOUNDS))
    e2e: Histogram = field(default_factory=lambda: Histogram(REQUEST_BOUNDS))
    queue: Histogram = field(default_factory=lambda: Histogram(REQUEST_BOUNDS))
    prefill: Histogram = field(default_factory=lambda: Histogram(REQUEST_BOUNDS))
    decode: Histogram = field(default_factory=lambda: Histogram(REQUEST_BOUNDS))
    prompt_lengths: Histogram = field(default_factory=lambda: Histogram(LENGTH_BOUNDS))
    answer_lengths: Histogram = field(default_factory=lambda: Histogram(LENGTH_BOUNDS))
    answers: dict[str, int] = field(default_factory=lambda: {"2xx": 0, "5xx": 0})
    """HTTP answers by class of status."""
    turn: int = 0
    """Whose turn it is in VARIETY."""
    owed: dict[str, float] = field(default_factory=dict)
    """Fractions of tokens, requests and so on that do not make a whole yet."""

    def advance(self, seconds: float) -> None:
        """Let the load act for so many seconds."""
        load = self.load
        requests_per_second = load.tokens_per_second / load.tokens_per_request
        tokens = self._whole("tokens", load.tokens_per_second * seconds)
        prompt = self._whole("prompt", requests_per_second * load.prompt_tokens_per_request * seconds)
        requests = self._whole("requests", requests_per_second * seconds)
        self.generation_tokens += tokens
        self._count_prompt(prompt)
        self.preemptions += self._whole("preemptions", load.preemptions_per_second * seconds)
        for share, times in self._shares(max(0, tokens - requests)):
            self.inter_token.observe(load.inter_token_latency * share, times)
        failed = self._whole("errors", requests * load.error_ratio)
        self._count_requests(failed, "error", load.prompt_tokens_per_request, load.tokens_per_request)
        self._count_requests(
            requests - failed, "stop", load.prompt_tokens_per_request, load.tokens_per_request
        )

    def count_request(self, prompt_tokens: int, generated: int, finished_reason: str) -> None:
        """Count one real request."""
        self.generation_tokens += generated
        self._count_prompt(prompt_tokens)
        self.inter_token.observe(self.load.inter_token_latency, max(0, generated - 1))
        self._count_requests(1, finished_reason, prompt_tokens, generated)

    def _count_prompt(self, tokens: int) -> None:
        self.prompt_tokens += tokens
        self.prefix_queries += tokens
        self.prefix_hits += self._whole("hits", tokens * self.load.prefix_cache_hit_ratio)

    def _count_requests(self, requests: int, finished_reason: str, prompt: float, generated: float) -> None:
        load = self.load
        decode = load.inter_token_latency * max(0.0, generated - 1)
        self.finished[finished_reason] += requests
        self.answers["5xx" if finished_reason == "error" else "2xx"] += requests
        observed = (
            (self.ttft, load.ttft),
            (self.queue, load.queue_time),
            (self.prefill, max(0.0, load.ttft - load.queue_time)),
            (self.decode, decode),
            (self.e2e, load.ttft + decode),
            (self.prompt_lengths, prompt),
            (self.answer_lengths, generated),
        )
        for share, times in self._shares(requests):
            for histogram, value in observed:
                histogram.observe(value * share, times)

    def _shares(self, times: int) -> Iterable[tuple[float, int]]:
        """(share of the usual, how often) for so many requests or tokens."""
        if not self.load.varied:
            yield 1.0, times
            return
        each = len(VARIETY)
        for index, share in enumerate(VARIETY):
            yield (
                share,
                (times + self.turn % each + each - 1 - index) // each
                - (self.turn % each + each - 1 - index) // each,
            )
        self.turn += times

    def _whole(self, key: str, amount: float) -> int:
        due = self.owed.get(key, 0.0) + amount
        self.owed[key] = due - int(due)
        return int(due)


def render(state: EngineState, model: str) -> str:
    """The text a scrape of /metrics gets."""
    labels = {"engine": "0", "model_name": model}
    load = state.load
    finished = [({**labels, "finished_reason": reason}, count) for reason, count in state.finished.items()]
    lines = [
        *_gauge("num_requests_running", "Requests in the batch.", labels, load.running),
        *_gauge("num_requests_waiting", "Requests in the queue.", labels, load.waiting),
        *_gauge("kv_cache_usage_perc", "Used share of the KV cache, 1 is all.", labels, load.kv_cache_usage),
        *_counter(
            "prefix_cache_queries", "Tokens looked up.", [(labels, state.prefix_queries)], state.created
        ),
        *_counter("prefix_cache_hits", "Tokens found.", [(labels, state.prefix_hits)], state.created),
        *_counter("num_preemptions", "Preempted requests.", [(labels, state.preemptions)], state.created),
        *_counter("prompt_tokens", "Prompt tokens.", [(labels, state.prompt_tokens)], state.created),
        *_counter(
            "generation_tokens", "Generated tokens.", [(labels, state.generation_tokens)], state.created
        ),
        *_counter("request_success", "Finished requests.", finished, state.created),
        *_histogram("time_to_first_token_seconds", "Time to first token.", labels, state.ttft, state.created),
        *_histogram(
            "inter_token_latency_seconds", "Time between tokens.", labels, state.inter_token, state.created
        ),
        *_histogram("e2e_request_latency_seconds", "Time of a request.", labels, state.e2e, state.created),
        *_histogram("request_queue_time_seconds", "Time in the queue.", labels, state.queue, state.created),
        *_histogram(
            "request_prefill_time_seconds", "Time of the prompt.", labels, state.prefill, state.created
        ),
        *_histogram(
            "request_decode_time_seconds", "Time of the answer.", labels, state.decode, state.created
        ),
        *_histogram("request_prompt_tokens", "Prompt length.", labels, state.prompt_lengths, state.created),
        *_histogram(
            "request_generation_tokens", "Answer length.", labels, state.answer_lengths, state.created
        ),
        *_http(state.answers),
    ]
    return "\n".join(lines) + "\n"


def _http(answers: Mapping[str, int]) -> list[str]:
    """What the HTTP server counts beside the engine; it knows no model."""
    about = ["# HELP http_requests_total Requests.", "# TYPE http_requests_total counter"]
    where = 'handler="/v1/chat/completions",method="POST"'
    return about + [
        f'http_requests_total{{{where},status="{status}"}} {float(count)!r}'
        for status, count in answers.items()
    ]


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP vllm:{name} {text}", f"# TYPE vllm:{name} {kind}"]


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    pairs = ",".join(f'{key}="{_escaped(labels[key])}"' for key in sorted(labels))
    return f"vllm:{name}{{{pairs}}} {float(value)!r}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _gauge(name: str, text: str, labels: Mapping[str, str], value: float) -> list[str]:
    return [*_head(name, "gauge", text), _sample(name, labels, value)]


def _created(name: str, text: str, all_labels: Iterable[Mapping[str, str]], created: float) -> list[str]:
    return [
        *_head(f"{name}_created", "gauge", text),
        *(_sample(f"{name}_created", labels, created) for labels in all_labels),
    ]


def _counter(
    name: str, text: str, samples: Sequence[tuple[Mapping[str, str], int]], created: float
) -> list[str]:
    return [
        *_head(f"{name}_total", "counter", text),
        *(_sample(f"{name}_total", labels, value) for labels, value in samples),
        *_created(name, text, [labels for labels, _ in samples], created),
    ]


def _histogram(
    name: str, text: str, labels: Mapping[str, str], histogram: Histogram, created: float
) -> list[str]:
    bounds = [*(repr(float(bound)) for bound in histogram.bounds), "+Inf"]
    return [
        *_head(name, "histogram", text),
        *(
            _sample(f"{name}_bucket", {**labels, "le": bound}, count)
            for bound, count in zip(bounds, histogram.counts, strict=True)
        ),
        _sample(f"{name}_count", labels, histogram.counts[-1]),
        _sample(f"{name}_sum", labels, histogram.total),
        *_created(name, text, [labels], created),
    ]
