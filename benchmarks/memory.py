"""Peak memory and time of the two inputs that could grow without bound, each through a named pipe.

    python benchmarks/memory.py stream [--gigabytes 10] [--source CAPTURE]
    python benchmarks/memory.py flows [--flows 5000000] [--payload]

``stream`` is a capture of many gigabytes scaled from a recording, in which every connection is real; ``flows`` is one
packet for each of so many flows, bare SYNs or with payload. Nothing is stored: the pipe's writer makes the octets.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FLOWS_A_BLOCK = 1 << 16


def write_flows(out: BinaryIO, flows: int, payload: bytes) -> None:
    """One Ethernet frame for each of `flows` different TCP flows: a SYN, or a segment with `payload`."""
    length = 14 + 20 + 20 + len(payload)
    record = bytearray(16 + length)
    record[8:16] = length.to_bytes(4, sys.byteorder) * 2
    record[16:30] = bytes.fromhex("020000000001020000000002") + b"\x08\x00"
    record[30:50] = bytes([0x45, 0]) + (length - 14).to_bytes(2, "big") + bytes([0, 1, 0, 0, 64, 6, 0, 0]) + bytes(8)
    record[50:70] = bytes(12) + bytes([0x50, 0x18 if payload else 2, 255, 255]) + bytes(4)
    record[70:] = payload
    out.write(np.array([0xA1B2C3D4], "u4").tobytes() + np.array([2, 4], "u2").tobytes())
    out.write(np.array([0, 0, 262144, 1], "u4").tobytes())
    for start in range(0, flows, FLOWS_A_BLOCK):
        number = np.arange(start, min(flows, start + FLOWS_A_BLOCK), dtype=np.int64)
        block = np.tile(np.frombuffer(bytes(record), np.uint8), (number.shape[0], 1))
        stamp = np.stack([1_700_000_000 + number // 100_000, number % 100_000 * 10], axis=1).astype("=u4")
        block[:, :8] = stamp.view(np.uint8).reshape(-1, 8)
        # 10.0.0.0/8 and 60,000 ports give more flows than anybody waits for.
        source, port = 0x0A000000 + number % 0xFFFFFF, 1024 + number // 0xFFFFFF
        block[:, 42:46] = source.astype(">u4").view(np.uint8).reshape(-1, 4)
        block[:, 46:50] = (10, 96, 0, 1)
        block[:, 50:52] = port.astype(">u2").view(np.uint8).reshape(-1, 2)
        block[:, 52:54] = (6443 >> 8, 6443 & 255)
        block[:, 54:58] = (number * 2654435761 % 2**32).astype(">u4").view(np.uint8).reshape(-1, 4)
        out.write(block.tobytes())


def measure(writer: list[str], pipe: Path, extra: list[str]) -> None:
    """Let `writer` fill the pipe and the program read it; print what that took."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "analyzer", "analyze", "-q", str(pipe), "--json", str(result)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        begin = time.monotonic()
        making = subprocess.Popen(writer, env=env)
        reading = subprocess.Popen([*command, "--fail-on", "never", *extra], env=env)
        _, status, usage = os.wait4(reading.pid, 0)
        reading.returncode = os.waitstatus_to_exitcode(status)
        making.wait()
        seconds = time.monotonic() - begin
        document = json.loads(result.read_text())
    ledger, capture = document["ledger"], document["captures"][0]
    left_out = ledger["left_out"]
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{capture['octets'] / 1e9:.2f} GB, {ledger['frames']:,} frames, {ledger['flows']:,} flows kept")
    print(
        f"{left_out['packets']:,} packets of about {left_out['flows']:,} flows past the limit of {left_out['limit']:,}"
    )
    print(f"peak resident memory {usage.ru_maxrss / 1024:.0f} MiB, CPU {cpu:.0f} s, wall {seconds:.0f} s")
    print(f"exit status {reading.returncode}, ledger balanced: {ledger['balanced']}")
    print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, numpy {np.__version__}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stream", "flows", "write-flows"))
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--source", type=Path, default=ROOT / "captures" / "01-default-insecure-kubelet.pcap")
    parser.add_argument("--flows", type=int, default=5_000_000)
    parser.add_argument("--payload", action="store_true", help="every packet carries an HTTP request")
    parser.add_argument("--target", type=Path, help="of write-flows")
    parser.add_argument("rest", nargs="*", metavar="OPTION", help="options of planewire analyze, after --")
    options = parser.parse_args()
    payload = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" if options.payload else b""
    if options.what == "write-flows":
        with options.target.open("wb") as out:
            write_flows(out, options.flows, payload)
        return
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "capture.pcap"
        os.mkfifo(pipe)
        if options.what == "stream":
            from analyzer.capture.source import open_capture

            frames = octets = 0
            with open_capture(str(options.source)) as reader:
                for chunk in reader:
                    frames += len(chunk)
                    octets += int((chunk.captured_len + 16).sum())
            packets = round(options.gigabytes * 1e9 * frames / octets)
            script = str(ROOT / "benchmarks" / "generate.py")
            writer = [sys.executable, script, str(options.source), str(pipe), "--packets", str(packets)]
        else:
            writer = [sys.executable, __file__, "write-flows", "--flows", str(options.flows), "--target", str(pipe)]
            writer += ["--payload"] if options.payload else []
        measure(writer, pipe, options.rest)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
