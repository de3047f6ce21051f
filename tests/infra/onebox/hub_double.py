"""A process that looks like a hub to whoever supervises and reads it: ready, with a number from a file, gone on
SIGTERM. It starts in a moment, which a real hub does not.
"""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

__all__: list[str] = []


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b""
        if self.path == "/metrics":
            number = (Path(os.environ["FLEETWIRE_TEST_FOLDER"]) / os.environ["FLEETWIRE_HUB_NAME"]).read_text()
            body = f"# HELP fleetwire_hub_connections Open.\nfleetwire_hub_connections {number}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    HTTPServer(("127.0.0.1", int(os.environ["FLEETWIRE_OPS_PORT"])), _Answers).serve_forever()
