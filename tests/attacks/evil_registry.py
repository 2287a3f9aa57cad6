"""A compromised developer registry: it sends nginx any response that might open something.

It is put on the PATH as `docker-registry`. The trusted registry is the real program. The file `answer.json`
beside it has the response: a list of headers, a body, and whether to return the request instead.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
REAL = "/usr/bin/docker-registry"


class Evil(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        said = json.loads((HERE / "answer.json").read_text())
        body = (str(self.headers) if said["echoes"] else said["body"]).encode()
        self.send_response(200)
        for name, value in said["headers"]:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def main() -> None:
    configuration = json.loads(Path(sys.argv[2]).read_text())
    if "trusted" in Path(sys.argv[2]).name:
        os.execv(REAL, [REAL, *sys.argv[1:]])
    host, _, port = configuration["http"]["addr"].rpartition(":")
    ThreadingHTTPServer((host, int(port)), Evil).serve_forever()


if __name__ == "__main__":
    main()
