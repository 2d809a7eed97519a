"""The two services of service.py behind one method: `ask(request)` returns how many pictures came back."""
import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
from server_process import OPENMP, running_server

PROTO = "imagevariations/v1/image_variations.proto"
CALL_SECONDS = 600


def messages():
    """The request's and the reply's class, from the .proto itself; google/rpc is in the virtual environment."""
    with tempfile.NamedTemporaryFile(suffix=".pb") as file:
        subprocess.run(["protoc", "-I", os.path.join(ROOT, "proto"), *[word for folder in sys.path if folder.endswith(
            "site-packages") for word in ("-I", folder)], "--include_imports", "-o", file.name, PROTO], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for proto in files.file:
        pool.Add(proto)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"imagevariations.v1.GenerateVariations{kind}"))
            for kind in ("Request", "Response")]


class Contestant:
    """Stopped while the other one is measured: what waits must not take its cores."""

    def __init__(self, pid, is_group):
        self.pid, self.is_group = pid, is_group

    def signal(self, what):
        (os.killpg if self.is_group else os.kill)(self.pid, what)

    def cpu_seconds(self):
        """Of all its processes until now."""
        ticks = 0
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{process}/stat", encoding="utf-8") as stat:
                fields = stat.read().rpartition(")")[2].split()
                if int(process) == self.pid or self.is_group and int(fields[2]) == self.pid:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def awake(self):
        self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)


class Ours(Contestant):
    def __init__(self, pid, address, channels=4):
        super().__init__(pid, is_group=False)
        self.Request, Response = messages()
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self.calls = [grpc.insecure_channel(address, options).unary_unary(
            "/imagevariations.v1.VariationService/GenerateVariations",
            request_serializer=self.Request.SerializeToString, response_deserializer=Response.FromString)
            for _ in range(channels)]

    def ask(self, request):
        with open(request["picture"], "rb") as file:
            message = self.Request(image=file.read(), sample_count=request["count"], seed=request["seed"],
                                   guidance_scale=request["guidance"], step_count=request["steps"])
        reply = self.calls[request["seed"] % len(self.calls)](message, timeout=CALL_SECONDS)
        return len([v for v in reply.variations if v.outcome in (1, 2)])


class LitServe(Contestant):
    def __init__(self, pid, port):
        super().__init__(pid, is_group=True)
        self.port = port

    def ask(self, request):
        with open(request["picture"], "rb") as file:
            body = json.dumps(request | {"picture": base64.b64encode(file.read()).decode()})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS)
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        answer = reply.read()
        connection.close()
        if reply.status != 200:
            raise RuntimeError(f"LitServe: {reply.status} {answer[:300]}")
        return len(json.loads(answer)["pictures"])

    def is_ready(self):
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        return False


@contextlib.contextmanager
def ours(a):
    with running_server(a.bin, a.model, ["--dtype", "fp32", "--threads", str(a.threads)]) as (process, address):
        try:
            yield Ours(process.pid, address)
        finally:
            process.send_signal(signal.SIGCONT)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def litserve(a, batch_size):
    port = free_port()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "tools", "bench", "litserve_peer.py"), a.model, str(port), str(batch_size),
             str(a.batch_timeout), str(a.threads)],
            stdout=log, stderr=log, start_new_session=True, env={**OPENMP, **os.environ})
        try:
            peer = LitServe(process.pid, port)
            while not peer.is_ready():
                if process.poll() is not None:
                    log.seek(0)
                    sys.exit(f"LitServe did not start:\n{log.read()[-3000:]}")
                time.sleep(0.2)
            yield peer
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
