"""An app that serves what a task has made, and comes back when its server is killed.

A task indexes which modules of the standard library's top folder import which. The app gets that
file as a parameter, `RunOutput`, and answers over HTTP. Killing its server costs a second or two:
the process that looks after it starts another one at the same place.

    python examples/served_index.py
"""

import ast
import heapq
import http.server
import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import millstream
from millstream.app import AppEnvironment, Parameter, RunOutput
from millstream.io import File

tasks = millstream.TaskEnvironment("served_index")
made = RunOutput(type="file", task_name="served_index.build")
app = AppEnvironment(
    name="imports", port=8765, parameters=[Parameter(name="index", value=made)]
)  # fmt: skip


@tasks.task
async def build() -> File:
    """Return a JSON file: module -> the modules that import it."""
    index: dict[str, list[str]] = {}
    for path in sorted(Path(heapq.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    index.setdefault(alias.name, []).append(path.stem)
    file = File.new_remote()
    async with file.open("wb") as out:
        await out.write(json.dumps(index).encode())
    return file


@app.server
def serve(index: File) -> None:
    """Answer `/MODULE` with the modules that import it."""
    known = json.loads(Path(index.path).read_text())

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"pid": os.getpid(), "modules": known.get(self.path[1:], [])}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

    with http.server.HTTPServer(("127.0.0.1", app.get_port().port), Page) as server:
        server.serve_forever()


def ask(url: str) -> dict:
    """Return the answer, waiting for a server that is on its way."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise TimeoutError(url)


if __name__ == "__main__":
    millstream.init(root_dir=Path(__file__).parent)
    millstream.run(build).wait()
    with millstream.with_servecontext(mode="remote").serve(app).ephemeral_ctx_sync():
        url = millstream.remote.App.get(app.name).endpoint
        first = ask(f"{url}/heapq")
        print("sched imports heapq:", "sched" in first["modules"])
        os.kill(first["pid"], signal.SIGKILL)
        second = ask(f"{url}/heapq")
        print("another server:", second["pid"] != first["pid"])
        print("the same answer:", second["modules"] == first["modules"])
    print("still there:", millstream.remote.App.get(app.name).is_active())
