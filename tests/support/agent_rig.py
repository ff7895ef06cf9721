"""An agent's core on a bench: fed by hand, and everything that it says kept."""

from collections.abc import Sequence
from typing import TypeVar

from millstream_events.reports import (
    UNNUMBERED,
    Credit,
    Hello,
    Order,
    Release,
    Report,
    StartAction,
    ToAgent,
    Work,
)
from millstream_events.values import (
    WORKER_THREAD,
    ErrorRecord,
    Inline,
    Policy,
    TaskRef,
)
from millstream_executor.agent_core import AgentCore
from millstream_executor.agent_state import CoreSettings
from millstream_executor.effects import (
    Effect,
    StartWorker,
)
from millstream_executor.fleet_types import WorkerExit
from millstream_executor.link import (
    AttemptBegan,
    AttemptEnded,
    CallChild,
    FromWorker,
    Ready,
    RunAttempt,
    ToWorker,
)

MS = 1_000_000
RUN = "lo00-00000000-00000001"
INC = "inc"
TASK = TaskRef("env.f", "m", "f", b"identity")
T = TypeVar("T")
ELSEWHERE = Policy(queue="elsewhere")
THREAD = Policy(worker=WORKER_THREAD)


class Rig:
    """A core, and everything that it has said so far."""

    def __init__(
        self,
        slots: int = 1,
        workers: int = 1,
        former: Sequence[Report] = (),
        processes_max: int = 64,
        parked_alone_max: int = 256,
    ) -> None:
        self.now = 10_000 * MS
        self.settings = CoreSettings(
            incarnation=INC,
            pool="p",
            region="lo",
            slots=slots,
            workers=workers,
            processes_max=processes_max,
            parked_alone_max=parked_alone_max,
        )
        self.core = AgentCore(self.settings, now_ns=self.now, former=former)
        self.up: list[Report] = []
        self.numbers: list[int] = []
        self.effects: list[Effect] = []
        self.told: list[tuple[str, ToWorker]] = []
        self.given: dict[bytes, str] = {}
        self.auto_ready = True
        self.take()

    def take(self) -> None:
        out = self.core.take(self.now)
        self.effects += out.effects
        for key, messages in out.messages.items():
            for message in messages:
                self.told.append((key, message))
                if isinstance(message, RunAttempt):
                    self.given[message.work.token] = key
        for up in out.ups:
            number = up.first
            for item in up.items:
                self.up.append(item)
                numbered = not isinstance(item, UNNUMBERED)
                self.numbers.append(number if numbered else 0)
                number += numbered
        starts = [effect.key for effect in out.effects if isinstance(effect, StartWorker)]
        if self.auto_ready and starts:
            for key in starts:
                self.core.on_worker(key, [Ready(100)], self.now)
            self.take()

    def orders(self, *items: Order, epoch: int = 1, acked: int = 0) -> None:
        self.core.on_orders(ToAgent(epoch, INC, acked, items), self.now)
        self.take()

    def worker(self, key: str, *messages: FromWorker) -> None:
        self.core.on_worker(key, messages, self.now)
        self.take()

    def exit(self, key: str, **fields: object) -> None:
        self.core.on_worker_exit(key, WorkerExit(**fields), self.now)  # type: ignore[arg-type]
        self.take()

    def wait(self, ms: int, *, step_ms: int = 0) -> None:
        for _ in range(ms // step_ms if step_ms else 1):
            self.now += (step_ms or ms) * MS
            self.core.on_tick(self.now)
            self.take()

    def work(self, n: int, *, action: int | None = None, **fields: object) -> Work:
        names: dict[str, object] = {
            "generation": self.core.state.credit.generation,
            "run": RUN,
            "action": n if action is None else action,
            "id": bytes([n if action is None else action]) * 10,
            "attempt": 1,
            "token": token(n),
            "task": TASK,
            "inputs": Inline("msgpack", bytes([n])),
        }
        return Work(**{**names, **fields})  # type: ignore[arg-type]

    def where(self, n: int) -> str:
        """Return the key of the worker that was given attempt `n`."""
        assert token(n) in self.given, f"attempt {n} was given to nobody"
        return self.given[token(n)]

    def begin(self, n: int, **fields: object) -> str:
        """Dispatch attempt `n` and let its worker say that it runs."""
        self.orders(self.work(n, **fields))
        key = self.where(n)
        self.worker(key, AttemptBegan(token(n), 5))
        return key

    def end(self, n: int, *, error: ErrorRecord | None = None, took_ns: int = 80 * MS) -> None:
        self.worker(self.where(n), ended(n, error=error, took_ns=took_ns))

    def call(self, n: int, child: int, policy: Policy | None = ELSEWHERE) -> None:
        self.worker(self.where(n), CallChild(call(n, child, policy)))

    def said(self, kind: type[T]) -> list[T]:
        return [item for item in self.up if isinstance(item, kind)]

    def did(self, kind: type[T]) -> list[T]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def heard(self, kind: type[T]) -> list[T]:
        return [message for _, message in self.told if isinstance(message, kind)]

    def clear(self) -> None:
        self.up.clear()
        self.numbers.clear()
        self.effects.clear()
        self.told.clear()

    @property
    def granted(self) -> int:
        grants = [item for item in self.up if isinstance(item, Hello | Credit)]
        return grants[-1].granted


def token(n: int) -> bytes:
    return n.to_bytes(8, "big")


def child_id(n: int) -> bytes:
    return n.to_bytes(10, "big")


def call(n: int, child: int, policy: Policy | None = ELSEWHERE) -> StartAction:
    """Return a call of a task that, unless `policy` says otherwise, the leader has to place."""
    return StartAction(RUN, n, token(n), child_id(child), "task", TASK, None, b"", policy=policy)


def release(n: int, child: int) -> Release:
    return Release(RUN, token(n), child_id(child), 99, "SUCCEEDED")


def ended(n: int, *, error: ErrorRecord | None = None, took_ns: int = 80 * MS) -> AttemptEnded:
    return AttemptEnded(token(n), None, error, 1_000, 1_000 + took_ns)
