"""Questions on the console: in local mode the person at the terminal answers conditions.

One daemon thread asks, one question after the other. It is an offer and no more: where nobody
can be asked (no terminal, the input at its end), the condition goes on waiting for `signal`,
its timeout or an abort.
"""

import builtins
import os
import select
import sys
import threading
import types
from collections.abc import Mapping
from typing import Final

from millstream._context import Question
from millstream._init import installation
from millstream._reader import follow_run
from millstream._syncify import background
from millstream_events.conditions import SCALAR_TYPES, Scalar, encode_scalar
from millstream_events.errors import MillstreamError, RejectedError

#: Between two looks whether the question still stands.
_LOOK_S: Final = 0.2
_WORDS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "1", "yes", "y", "t"), True),
    **dict.fromkeys(("false", "0", "no", "n", "f"), False),
}


def parse_answer(text: str, expects: str) -> Scalar:
    """Return what a person means by `text`.

    Raises:
        ValueError: It is no value of the type that is asked for.
    """
    if expects == "bool":
        word = _WORDS.get(text.strip().lower())
        if word is None:
            raise ValueError(f"could not parse {text!r} as bool")
        return word
    if expects == "str":
        return text
    try:
        return SCALAR_TYPES[expects](text.strip())
    except ValueError as exc:
        raise ValueError(f"could not parse {text!r} as {expects}") from exc


class Prompts:
    """The questions that wait for the person at the terminal."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        #: By run as well: the same question has the same id in each run of a program.
        self._waiting: dict[tuple[str, bytes], Question] = {}
        self._asker: threading.Thread | None = None

    def ask(self, run: str, question: Question) -> None:
        """Ask, after the questions that wait already."""
        with self._changed:
            self._waiting[run, question.id] = question
            self._changed.notify()
            if self._asker is None:
                self._asker = threading.Thread(
                    target=self._ask_all, name="millstream-prompts", daemon=True
                )
                self._asker.start()

    def forget(self, run: str, question: Question) -> None:
        """Take a question back: it has been answered, or nobody waits for it any more."""
        with self._changed:
            self._waiting.pop((run, question.id), None)

    def _ask_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                (run, _), question = next(iter(self._waiting.items()))
            try:
                self._ask_one(run, question)
            except (EOFError, OSError, ValueError, MillstreamError):
                # No terminal, a closed one, or a run that is gone: nobody can answer here.
                self._say(f"condition {question.name!r} waits for `signal`: nobody to ask here")
                with self._changed:
                    self._asker = None
                    self._waiting.clear()
                return

    def _ask_one(self, run: str, question: Question) -> None:
        background.run(_opened(run, question.id))
        hint = " [y/n]" if question.expects == "bool" else ""
        self._say(f"\nCondition: {question.name}")
        if question.extras.description:
            self._say(question.extras.description)
        key = run, question.id
        while key in self._waiting:
            text = self._line(f"{question.prompt}{hint}: ", key)
            if text is None:
                return
            try:
                answer = parse_answer(text, question.expects)
            except ValueError:
                self._say(f"Please enter a valid {question.expects}")
                continue
            self.forget(run, question)
            try:
                background.run(_signal(run, question.id, answer))
            except RejectedError as exc:
                self._say(str(exc))  # Somebody else was faster, or its time was up.

    def _line(self, prompt: str, question: tuple[str, bytes]) -> str | None:
        """Return the next line that is typed, or None when the question is taken back."""
        patched = not isinstance(builtins.input, types.BuiltinFunctionType)
        if patched or not _is_file(sys.stdin):
            return input(prompt)
        # On stderr: stdout is for what the program prints.
        sys.stderr.write(prompt)
        sys.stderr.flush()
        # Not `input`: a daemon thread that blocks in it ends the interpreter with a crash.
        descriptor = sys.stdin.fileno()
        line = bytearray()
        while not line.endswith(b"\n"):
            if question not in self._waiting:
                return None
            if select.select([descriptor], [], [], _LOOK_S)[0]:
                byte = os.read(descriptor, 1)
                if not byte and not line:
                    raise EOFError
                if not byte:
                    break
                line += byte
        return line.decode(errors="replace").rstrip("\r\n")

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _is_file(stream: object) -> bool:
    try:
        stream.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
    return True


async def _opened(run: str, question: bytes) -> None:
    """Return when the log has the condition: an answer before that would be refused."""
    client = await installation().client("local")
    async for step in follow_run(client.log, run):
        if question in step.run.ordinals:
            return


async def _signal(run: str, question: bytes, answer: Scalar) -> None:
    client = await installation().client("local")
    await client.signal_condition(run, question, encode_scalar(answer))


#: The one console of this process.
prompts: Final = Prompts()
