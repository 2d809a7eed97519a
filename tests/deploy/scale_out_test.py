"""Replicas behind the CLI's own round_robin and behind nginx: scale_out_test.py FAKE_SERVER CLI SERVER

FAKE_SERVER takes a real time for a UNet call and has no networks; SERVER has the bundled model. ROLLING_RESTARTS=10 restarts
as often as docs/operating.md says; with it the proxy's restarts and the throughput are measured too, which wants a machine
that does nothing else.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FAKE, CLI, SERVER = (sys.argv.pop(1) for _ in range(3))
PICTURE = ROOT / "demo" / "pictures" / "penguin.png"
MEASURES = "ROLLING_RESTARTS" in os.environ
ROLLING_RESTARTS = int(os.environ.get("ROLLING_RESTARTS", "2"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Replica:
    def __init__(self, command):
        self.address = f"127.0.0.1:{free_port()}"
        self.command = [*command, "--listen", self.address, "--metrics-listen", "127.0.0.1:0", "--log-level", "error"]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.metrics = [self.process.stdout.readline() for _ in range(2)][1].split()[-1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        with self.process:
            return self.process.wait(60)

    def requests(self):
        """That it has answered since it was started."""
        host, port = self.metrics.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as s:
            s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if line.startswith("image_variations_requests_total{") and 'code="OK"' in line)


class Nginx:
    """Plaintext HTTP/2 in, grpc_pass to the replicas in turn."""

    def __init__(self, replicas, folder):
        self.address = f"127.0.0.1:{free_port()}"
        servers = "".join(f"server {r.address} max_fails=1 fail_timeout=1s; " for r in replicas)
        (Path(folder) / "nginx.conf").write_text(f"""
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_max_body_size 16m;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream replicas {{ {servers} keepalive 64; }}
  server {{
    listen {self.address} http2; http2_max_concurrent_streams 1024; keepalive_requests 1000000;
    location / {{ grpc_pass grpc://replicas; grpc_read_timeout 600s; grpc_next_upstream error timeout; }}
  }}
}}
""")
        self.process = subprocess.Popen(["/usr/sbin/nginx", "-c", f"{folder}/nginx.conf", "-p", folder])
        for _ in range(100):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", int(self.address.split(":")[1]))) == 0:
                    return
            time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def bench(address, *options):
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        run = subprocess.run([CLI, "bench", PICTURE, "--server", address, "--json", report.name, *options],
                             capture_output=True, text=True)
        text = Path(report.name).read_text()
    assert text, run.stderr
    return json.loads(text)


def vary(address, seed):
    return subprocess.run([CLI, "vary", PICTURE, "-n", "1", "--steps", "4", "--seed", str(seed), "--server", address, "-o", "-"],
                          check=True, capture_output=True).stdout


class ScaleOut(unittest.TestCase):
    def replicas(self, count, command):
        made = [Replica(command) for _ in range(count)]
        for replica in made:
            self.addCleanup(replica.stop)
        return made

    def nginx(self, replicas):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        proxy = Nginx(replicas, folder)
        self.addCleanup(proxy.stop)
        return proxy.address

    @unittest.skipUnless(MEASURES, "measured with ROLLING_RESTARTS")
    def test_throughput_of_three_is_that_of_one_three_times(self):
        replicas = self.replicas(3, [FAKE, "50ms", "--max-rows", "4"])
        everybody = ",".join(r.address for r in replicas)
        load = ["--steps", "10", "--duration", "20s", "--connections", "8", "--seed", "2"]

        def throughput(address, callers):
            run = bench(address, "--concurrency", str(callers), *load)["runs"][0]
            return run["requests"]["finished"] / run["elapsed_seconds"]
        one = throughput(replicas[0].address, 12)
        for name, address in (("round_robin", everybody), ("nginx", self.nginx(replicas))):
            three = throughput(address, 48)
            print(f"scale_out: one {one:.2f}/s, three behind {name} {three:.2f}/s, {three / one:.2f} times", flush=True)
            self.assertGreaterEqual(three, 2.9 * one, name)

    def test_rolling_restarts_under_load_show_no_error(self):
        for name in ("round_robin", "nginx") if MEASURES else ("round_robin",):
            with self.subTest(name):
                self.restart_under_load(name)

    def restart_under_load(self, name):
        replicas = self.replicas(2, [FAKE, "5ms", "--drain-delay", "1s"])
        address = ",".join(r.address for r in replicas) if name == "round_robin" else self.nginx(replicas)
        stop, calls, errors = threading.Event(), [0] * 8, []

        def caller(number):
            while not stop.is_set():
                run = subprocess.run([CLI, "vary", PICTURE, "-n", "1", "--steps", "10", "--seed", str(number), "--server",
                                      address, "-o", "-"], capture_output=True)
                calls[number] += 1
                if run.returncode != 0:
                    errors.append(run.stderr.decode())
        threads = [threading.Thread(target=caller, args=[number]) for number in range(len(calls))]
        for thread in threads:
            thread.start()
        for _ in range(ROLLING_RESTARTS):
            for replica in replicas:
                self.assertEqual(replica.stop(), 0)
                replica.start()
                end = time.monotonic() + 20
                while replica.requests() == 0:  # as a cluster waits for readiness
                    self.assertLess(time.monotonic(), end, "a replica that was started again gets no requests")
                    time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join()
        print(f"scale_out: {ROLLING_RESTARTS} rolling restarts behind {name}: {sum(calls)} calls, {len(errors)} errors", flush=True)
        self.assertEqual(errors, [])
        self.assertGreaterEqual(min(calls), ROLLING_RESTARTS, calls)

    def test_a_channel_that_lives_through_restarts_shows_no_error(self):
        replicas = self.replicas(2, [FAKE, "5ms", "--drain-delay", "1s"])
        seconds, restarts = (60, 4) if MEASURES else (15, 1)
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            load = subprocess.Popen([CLI, "bench", PICTURE, "--server", ",".join(r.address for r in replicas), "--json", report.name,
                                     "--concurrency", "8", "--retries", "3", "--steps", "10", "--duration", f"{seconds}s"],
                                    stdout=subprocess.DEVNULL)
            end, restarted = time.monotonic() + seconds - 5, 0
            while time.monotonic() < end:
                replica = replicas[restarted % 2]
                self.assertEqual(replica.stop(), 0)
                replica.start()
                restarted += 1
                while replica.requests() == 0 and load.poll() is None:
                    time.sleep(0.05)
            load.wait(120)
            requests = json.loads(Path(report.name).read_text())["runs"][0]["requests"]
        print(f"scale_out: {restarted} restarts of a replica under one channel: {requests}", flush=True)
        self.assertEqual(requests["failed"], {})
        self.assertEqual(requests["finished"], requests["sent"])
        self.assertGreaterEqual(restarted, 2 * restarts)

    def test_every_replica_draws_the_same_bytes(self):
        replicas = self.replicas(3, [SERVER, "--model", "demo/model", "--threads", "1"])
        addresses = [r.address for r in replicas] + [",".join(r.address for r in replicas), self.nginx(replicas)]
        for seed in (1, 2):
            pictures = {vary(address, seed) for address in addresses}
            self.assertEqual(len(pictures), 1)


if __name__ == "__main__":
    unittest.main()
