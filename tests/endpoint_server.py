"""A server of our own on this machine that speaks the OpenAI protocol, well or badly, as a script says."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = "application/json"


@dataclass
class Answer:
    """One HTTP answer."""

    body: str
    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = JSON
    wait_s: float = 0.0


def completion(text: Any, *, finish: Any = "stop", **message: Any) -> Answer:
    """A whole chat completion, 100 tokens in and 10 out."""
    content = {
        "id": "c1",
        "object": "chat.completion",
        "model": "judge-7b-0613",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": text, **message},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
    return Answer(json.dumps(content))


def refused(message: str, *, param: str | None = None, code: int = 400) -> Answer:
    """An error as OpenAI writes it."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return Answer(json.dumps({"error": error}), code)


def unsupported(name: str, use: str = "") -> Answer:
    """A parameter is refused by name, as OpenAI's reasoning models do it."""
    instead = f" Use '{use}' instead." if use else ""
    return refused(f"Unsupported parameter: '{name}' is not supported with this model.{instead}", param=name)


class Server:
    """Answers each request by `script(number from 0, the request's body)`; keeps what was asked."""

    def __init__(self, script: Callable[[int, dict[str, Any]], Answer], *, port: int = 0):
        self.script = script
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    number = len(server.asked)
                    server.asked.append(content)
                    server.keys.append(self.headers.get("Authorization"))
                answer = server.script(number, content)
                time.sleep(answer.wait_s)
                body = answer.body.encode()
                try:
                    self.send_response(answer.code)
                    for name, value in {"Content-Type": answer.kind, **answer.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()
