"""Encodings that kill themselves at random points; run by test_encode_source.py, in a process of its own."""

import multiprocessing
import os
import random
import signal
import sys
import threading
from pathlib import Path

from tqdm import tqdm

from modeling_crh.data import open_source
from modeling_crh.encoding import Encoder, encode_source

FORK = multiprocessing.get_context("fork")


def encode(encoder, source, out, last_call, calls):
    """Encode up to the end, or to one of the calls of a function; counts the calls."""

    def count(frame, event, argument):
        calls.value += 1
        if calls.value == last_call:
            os.kill(os.getpid(), signal.SIGKILL)

    tqdm.set_lock(threading.RLock())  # the usual one is shared by all children, and one that is killed may hold it
    opened = open_source(source)
    sys.setprofile(count)
    encode_source(encoder, opened, out, model_name="tiny", shard_size=4, skip_bad=True)
    sys.setprofile(None)


def encode_in_a_child(*arguments, last_call=None):
    """Encode in a process of its own; gives how it ended, and how many calls there were."""
    calls = FORK.RawValue("q", 0)
    child = FORK.Process(target=encode, args=(*arguments, last_call, calls))
    child.start()
    child.join()
    return -child.exitcode, calls.value


if __name__ == "__main__":  # python tests/encoding/killed_encodings.py CHECKPOINT SOURCE FOLDER
    checkpoint, source, folder = sys.argv[1:]
    arguments = Encoder.load(checkpoint, batch_size=3), source
    status, calls = encode_in_a_child(*arguments, Path(folder, "whole"))
    generator, statuses = random.Random(0), [status]
    for _ in range(10):
        last_call = 1 + int(calls * generator.uniform(0, 0.3))
        statuses.append(encode_in_a_child(*arguments, Path(folder, "killed"), last_call=last_call)[0])
    statuses.append(encode_in_a_child(*arguments, Path(folder, "killed"))[0])
    print(*statuses)
