"""Encodings that kill themselves at random points; run by test_encode_source.py, in a process of its own."""

import os
import random
import signal
import sys
import threading
from pathlib import Path

import torch
from tqdm import tqdm

from modeling_crh.data import open_source
from modeling_crh.encoding import Encoder, encode_source


def encode_in_a_child(encoder, source, out, last_call=None):
    """Encode up to the end, or to one of the calls of a function; gives the status, and how many calls there were."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        calls = os.read(reading, 100)
        os.close(reading)
        return os.waitpid(child, 0)[1], int(calls or 0)
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += 1
        if calls == last_call:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = {"model_name": "tiny", "shard_size": 4, "skip_bad": True}
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # the usual one is shared by all children, and one that is killed may hold it
    opened = open_source(source)
    sys.setprofile(count)
    encode_source(encoder, opened, out, **settings)
    sys.setprofile(None)
    os.write(writing, str(calls).encode())
    os._exit(0)


if __name__ == "__main__":  # python tests/encoding/killed_encodings.py CHECKPOINT SOURCE FOLDER
    checkpoint, source, folder = sys.argv[1:]
    arguments = Encoder.load(checkpoint, batch_size=3), source
    status, calls = encode_in_a_child(*arguments, Path(folder, "whole"))
    generator, statuses = random.Random(0), [status]
    for _ in range(10):
        last_call = 1 + int(calls * generator.uniform(0, 0.3))
        statuses.append(encode_in_a_child(*arguments, Path(folder, "killed"), last_call)[0])
    statuses.append(encode_in_a_child(*arguments, Path(folder, "killed"))[0])
    print(*statuses)
