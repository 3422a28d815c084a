#!/usr/bin/env python3
"""Goes past each bound of docs/reliability.md on real servers, and prints what was answered, how fast, and the server's memory.

    dotnet build Sessions.Api -c Release && python3 bench/bounds.py Sessions.Api/bin/Release/net10.0/Sessions.Api.dll
"""
import concurrent.futures
import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

KIB, MIB = 1024, 1024 * 1024
PROGRAM = sys.argv[1]


class Model(http.server.BaseHTTPRequestHandler):
    """A language model that does as the last message says: wait SECONDS, say BYTES, pieces NUMBER; and tells how much it was given."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        word, _, number = str(json.loads(body)["messages"][-1]["content"]).partition(" ")
        number = float(number) if number.replace(".", "", 1).isdigit() else 0
        if word == "wait":
            time.sleep(number)
        text = "x" * int(number) if word == "say" else str(len(body))
        try:
            if word == "pieces":
                self.stream(int(number))
            else:
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                self.answer(json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}).encode())
        except OSError:
            pass  # The server has had enough of it.

    def answer(self, data):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, number):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        choice = {"index": 0, "delta": {"content": "x"}}
        piece = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        data = f"data: {json.dumps(piece)}\n\n".encode()
        for _ in range(number // 1000):
            self.wfile.write(data * 1000)
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


class Server:
    """The API as a process, with settings as on its command line."""

    def __init__(self, **settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = tempfile.TemporaryDirectory()
        config = os.path.join(self.folder.name, "config.yaml")
        open(config, "w").close()
        arguments = [f"--{name.replace('__', ':')}={value}" for name, value in settings.items()]
        environment = {**os.environ, "SESSIONS_CONFIG": config, "AGENTS__ADVANCED__API_KEY": "none"}
        self.process = subprocess.Popen(
            ["dotnet", PROGRAM, "--port", str(self.port), *arguments], env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                if self.ask("GET", "/health")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def ask(self, method, path, body=None, source="127.0.0.1", **headers):
        """Status, body and milliseconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300, source_address=(source, 0))
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.connect()
        began = time.perf_counter()
        try:
            connection.request(method, path, data, {"Content-Type": "application/json", **headers})
        except OSError:
            pass  # It may be answered before everything was sent.
        answer = connection.getresponse()
        text = answer.read()
        took = (time.perf_counter() - began) * 1000
        connection.close()
        return answer.status, json.loads(text) if text and answer.headers.get_content_type().endswith("json") else text, took

    def query(self, query, **more):
        return self.ask("POST", "/query", {"query": query, **more})

    def raw(self, data, wait=300):
        """What is answered to bytes, and after how many seconds."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as s:
            began = time.perf_counter()
            s.sendall(data)
            try:
                return s.recv(200).split(b"\r\n")[0].decode(), time.perf_counter() - began
            except OSError as error:
                return str(error), time.perf_counter() - began

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


def report(what, answer, extra=""):
    status, body, took = answer
    code = body.get("code", "") if isinstance(body, dict) else ""
    print(f"{what}: {status} {code} in {took:.1f} ms{'; ' + extra if extra else ''}", flush=True)


def half_sent(server, source, size):
    """A request whose body is on its way, but not all of it."""
    s = socket.create_connection(("127.0.0.1", server.port), source_address=(source, 0))
    s.sendall(f"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {size + 1}\r\n\r\n".encode())
    s.sendall(b'{"input":[],"query":"' + b"a" * (size - 21))
    return s


def sent():
    with Server() as server:
        server.query("warm up")
        report("body of 1 MiB + 1", server.ask("POST", "/sessions", b'{"user_id":"' + b"a" * MIB + b'"}'))
        report("content of 20 MiB + 1", server.ask("POST", "/query", b'{"input":"' + b"a" * 20 * MIB + b'"}'))
        report("query of 64 KiB + 1", server.query("a" * (64 * KIB + 1)))
        report("65 keys", server.ask("POST", "/sessions", {"metadata": {f"k{i}": i for i in range(65)}}))
        report("metadata of 16 KiB + 1", server.ask("POST", "/sessions", {"metadata": {"k": "a" * 16 * KIB}}))
        print("headers of 33 KiB:", server.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 33 * KIB + b"\r\n\r\n"))
        print("line of 9 KiB:", server.raw(b"GET /" + b"a" * 9 * KIB + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        before = server.memory()
        open_bodies = [half_sent(server, "127.0.0.1", 19 * MIB) for _ in range(6)]
        time.sleep(1)
        body = b'{"input":"' + b"a" * 19 * MIB + b'"}'
        report("a 7th body of 19 MiB of one caller", server.ask("POST", "/query", body))
        open_bodies += [half_sent(server, "127.0.0.2", 19 * MIB) for _ in range(6)]
        open_bodies.append(half_sent(server, "127.0.0.3", 19 * MIB))
        time.sleep(1)
        report("a 14th of a third caller", server.ask("POST", "/query", body, "127.0.0.3"), f"memory {before} to {server.memory()} MiB")
        for s in open_bodies:
            s.close()
    with Server(rate_limit__requests_per_minute=60, rate_limit__burst=20, rate_limit__loopback="true") as server:
        answers = [server.ask("GET", "/sessions/stats") for _ in range(30)]
        report(f"rate: {sum(a[0] == 200 for a in answers)} of 30 answered, the last", answers[-1])
    with Server(limits__connections=100) as server:
        opened = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        time.sleep(0.5)
        try:
            print("connection 101:", server.raw(b"GET /alive HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        except OSError as error:
            print("connection 101:", error)
        for s in opened:
            s.close()


def running(model):
    agent = {"agents__advanced__provider": "openai", "agents__advanced__model": "m", "agents__advanced__endpoint": model}
    with Server(**agent, limits__concurrent_requests=50, agents__advanced__timeout_seconds=20) as server:
        with concurrent.futures.ThreadPoolExecutor(60) as pool:
            waiting = [pool.submit(server.query, "wait 3") for _ in range(50)]
            time.sleep(1.5)
            report("request 51 of 50", server.query("now"), f"health {server.ask('GET', '/health')[0]}")
            concurrent.futures.wait(waiting)
            print("the 50:", {w.result()[0] for w in waiting})
    with Server(**agent, agents__advanced__timeout_seconds=1, agents__advanced__max_retries=0) as server:
        server.query("warm up")
        report("an agent that takes longer than 1 s", server.query("wait 5"))
    with Server(**agent, agents__advanced__history_turns=1000, agents__advanced__max_retries=0) as server:
        with concurrent.futures.ThreadPoolExecutor(60) as pool:
            waiting = [pool.submit(server.query, "wait 2", thread_id="busy") for _ in range(33)]
            time.sleep(1)
            report("query 34 on one session", server.query("now", thread_id="busy"))
            server.ask("DELETE", "/sessions/busy")
            concurrent.futures.wait(waiting)
        for _ in range(100):
            server.query("a" * 64 * KIB, thread_id="long")
        given = server.query("how much", thread_id="long")
        report("a history of 6.3 MiB", given, f"the model is given {given[1].get('response')} bytes")
        page = server.ask("GET", "/sessions/long/history?limit=100")
        turns, more = page[1]["turns"], page[1]["has_more"]
        report("a page of 100 such turns", page, f"{len(turns)} turns, has_more {more}, {len(json.dumps(page[1]))} bytes")
        before = server.memory()
        report("an answer of 1 MiB + 1", server.query(f"say {MIB + 1}"))
        report("an answer of 70 MiB", server.query(f"say {70 * MIB}"), f"memory {before} to {server.memory()} MiB")
        report("an answer in 300,000 pieces", server.query("pieces 300000", stream=True), f"memory {server.memory()} MiB")


def kept():
    with Server() as server:
        answers = [server.query("hello", user_id="ada") for _ in range(11)]
        report("session 11 of a user", answers[-1], f"{len(server.ask('GET', '/users/ada/sessions')[1]['sessions'])} are left")
    with Server(limits__stored_bytes=64 * MIB) as server:
        number = 0
        while (answer := server.query("a" * 64 * KIB, user_id=f"u{number}"))[0] == 200:
            number += 1
        report("the memory store of 64 MiB", answer, f"{number} sessions of 64 KiB, memory {server.memory()} MiB")
        report("reading it", server.ask("GET", "/users/u1/sessions"))
    with Server(limits__unowned_bytes=MIB) as server:
        number = 0
        while (answer := server.query("a" * 64 * KIB))[0] == 200:
            number += 1
        report("1 MiB bound to nobody", answer, f"{number} sessions; with a user: {server.query('hello', user_id='ada')[0]}")
    with Server(limits__responses_bytes_per_user=MIB) as server:
        made = [server.ask("POST", "/v1/responses?user_id=ada", {"input": "a" * 64 * KIB})[1]["id"] for _ in range(40)]
        left = sum(server.ask("GET", f"/v1/responses/{one}?user_id=ada")[0] == 200 for one in made)
        print(f"40 responses of 64 KiB, 1 MiB for a user: {left} are left")


def waited():
    with Server() as server:
        status, took = server.raw(b"GET / HTTP/1.1\r\nHost: local")
        print(f"half of the headers: {status} after {took:.1f} s")
        head = b"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n"
        status, took = server.raw(head + b"{")
        print(f"a body that stands still: {status} after {took:.1f} s")


if __name__ == "__main__":
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    listener.daemon_threads = True
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    sent()
    running(f"http://127.0.0.1:{listener.server_port}/v1")
    kept()
    waited()
