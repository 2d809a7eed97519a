"""A running image-variations-server for the scripts beside this file: takes free ports, always stops."""
import contextlib
import os
import select
import subprocess
import sys
import tempfile

# Threads that wait spin for some microseconds, as those of the container image do, and then give their core away, or a
# busy machine is all that is measured.
OPENMP = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}


@contextlib.contextmanager
def running_server(bin_folder, model, flags=(), while_starting=lambda pid: None):
    """Yields (process, address) once it serves. `while_starting(pid)` is called every 20 ms until then."""
    program = os.path.join(bin_folder, "image-variations-server")
    if not os.access(program, os.X_OK):
        sys.exit(f"no program {program}: make release")
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [program, "--model", model, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", *flags],
            stdout=subprocess.PIPE, stderr=log, text=True, env={**OPENMP, **os.environ})
        try:
            while not select.select([process.stdout], [], [], 0.02)[0]:
                while_starting(process.pid)
            listening, _, address = process.stdout.readline().strip().rpartition(" ")
            if listening != "listening on":
                log.seek(0)
                sys.exit(f"the server did not start (status {process.wait()}):\n{''.join(log.readlines()[-20:])}")
            yield process, address
        finally:
            process.terminate()
            process.wait(timeout=120)
