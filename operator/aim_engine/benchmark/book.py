"""What is noted of a run, and why it ended. Pure; times are seconds of one clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from aim_engine.benchmark.chat import Exchange
from aim_engine.benchmark.samples import Samples
from aim_engine.benchmark.wire import Fault, RequestError


class Ending(StrEnum):
    """Why a run ended."""

    DURATION = "duration"
    REQUESTS = "requests"
    INTERRUPTED = "interrupted"
    GAVE_UP = "gave_up"


@dataclass(slots=True)
class Failures:
    """Requests that failed for one reason."""

    count: int
    example: str


@dataclass(slots=True)
class Run:
    """What happened since `began`; what came before does not count, also of requests that were sent before."""

    began: float
    seconds: float = 0.0
    ending: Ending = Ending.DURATION
    answered: int = 0
    cut: int = 0
    """Requests that were in flight at the end."""
    output_tokens: float = 0.0
    """Tokens that came, also of requests that were cut."""
    prompt_tokens: int = 0
    """Of answered requests."""
    answer_tokens: int = 0
    """Of answered requests."""
    answer_texts: int = 0
    """Pieces in which they came."""
    counted: bool = True
    """Whether the server counted the tokens of every answer; otherwise a piece of text counts as one."""
    first_token: Samples = field(default_factory=Samples)
    inter_token: Samples = field(default_factory=Samples)
    latency: Samples = field(default_factory=Samples)
    failures: dict[Fault, Failures] = field(default_factory=dict)
    client_share: float = 0.0
    """Share of one core that the load generator used, 0..1."""

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(each.count for each in self.failures.values())

    def answer(self, exchange: Exchange) -> None:
        """An answer is whole."""
        tokens = exchange.completion_tokens
        if tokens is None or exchange.prompt_tokens is None:
            self.counted = False
        self.answered += 1
        self.prompt_tokens += exchange.prompt_tokens or 0
        self.answer_tokens += len(exchange.texts) if tokens is None else tokens
        self.answer_texts += len(exchange.texts)
        if exchange.ended is not None:
            self.latency.add(exchange.ended - exchange.sent)
        self._texts(exchange, 1.0 if tokens is None else tokens / len(exchange.texts))

    def fail(self, error: RequestError) -> None:
        """A request failed; nothing of it counts as delivered."""
        known = self.failures.setdefault(error.fault, Failures(0, str(error)))
        known.count += 1

    def break_off(self, exchange: Exchange) -> None:
        """The run ended in the middle of an answer."""
        self.cut += 1
        self._texts(exchange, self.answer_tokens / self.answer_texts if self.answer_texts else 1.0)

    def _texts(self, exchange: Exchange, tokens_each: float) -> None:
        """Several tokens in a piece came at one time: the time since the piece before is shared among them."""
        texts = exchange.texts
        if texts and texts[0] >= self.began:
            self.first_token.add(texts[0] - exchange.sent)
            self.output_tokens += tokens_each
        for before, now in pairwise(texts):
            if now >= self.began:
                self.output_tokens += tokens_each
                self.inter_token.add((now - before) / max(1.0, tokens_each))
