"""Tasks over msgpack, with the port that `attempt` asks of a task."""

import asyncio
import ctypes
import gc
import inspect
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from millstream._context import Call, current
from millstream_events.values import TaskRef


class Interface:
    output_names = ("o0",)

    def __init__(self, func):
        self.is_async = inspect.iscoroutinefunction(func)

    def decode_call(self, codec, content):
        return (msgspec.msgpack.decode(content) if content else ()), {}

    def encode_output(self, value, sink):
        return None if value is None else ("msgpack", msgspec.msgpack.encode(value))


class Task:
    max_inline_io_bytes = 10 * 1024 * 1024
    report = False

    def __init__(self, func):
        self.body = func
        self.interface = Interface(func)


def call_of(name, *args, number=0):
    return Call(
        number.to_bytes(10, "big"),
        "task",
        TaskRef(name, "flow", name),
        msgspec.msgpack.encode(args),
        "msgpack",
        b"h",
    )


def task(func):
    return Task(func)


@task
def add(x, y):
    return x + y


@task
async def aadd(x, y):
    await asyncio.sleep(0)
    return x + y


@task
def nested_loop():
    async def inner():
        return "fine"

    return asyncio.run(inner())


@task
def fail(text):
    raise ValueError(text)


@task
def leave():
    sys.exit(3)


@task
async def leave_async():
    sys.exit(3)


@task
def hard_exit(code):
    os._exit(code)


@task
def segfault():
    ctypes.string_at(0)


@task
def wait():
    time.sleep(600)


@task
async def full_collections():
    return gc.get_stats()[2]["collections"]


@task
async def await_long():
    await asyncio.sleep(600)


@task
def unstorable():
    return object()


@task
def grow():
    blocks = []
    while True:
        blocks.append(bytearray(os.urandom(1024) * 1024 * 4))
        time.sleep(0.002)


@task
def grab(size):
    return len(bytearray(size))


@task
def orphan(path):
    # A daemon: own session, parent gone.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            part = Path(path + ".part")
            part.write_text(str(os.getpid()))
            part.rename(path)
            time.sleep(600)
        os._exit(0)
    while not Path(path).exists():
        time.sleep(0.005)


@task
async def chat(name, times):
    for n in range(times):
        print(name, n)
        sys.stdout.write(f"{name} half ")
        await asyncio.sleep(0)
        print("whole", n)
        threading.Thread(target=print, args=(name, "thread", n)).start()
        await asyncio.to_thread(print, name, "pool", n)


@task
def native(text):
    subprocess.run(["echo", text], check=True)
    ctypes.CDLL(None).puts(text.encode())
    os.write(2, (text + " half").encode())


@task
def flood():
    for n in range(200_000):
        print(n)


@task
async def parent(x):
    context = current.get()
    entry = await context.controller.call(call_of("add", x, 1))
    return msgspec.msgpack.decode(entry.output.content)


@task
def nest(depth):
    if depth == 0:
        return 0
    context = current.get()
    entry = asyncio.run_coroutine_threadsafe(
        context.controller.call(call_of("nest", depth - 1, number=depth)), context.loop
    ).result()
    return msgspec.msgpack.decode(entry.output.content) + 1


@task
async def nap():
    context = current.get()
    await context.controller.sleep(b"nap", 1)
    return "rested"


@task
async def recorded():
    context = current.get()
    return [context.controller.recorded(n.to_bytes(10, "big")).action for n in range(3)]


@task
def size_of(text):
    return len(text)


@task
def repeat(n):
    return "x" * n


@task
def environment(name):
    return [os.environ.get(name), str(Path.cwd())]
