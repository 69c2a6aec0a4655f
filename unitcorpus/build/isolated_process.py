"""The process of an IsolatedWorker: builds what it is told, and says first what the models get.

    python -m unitcorpus.build.isolated_process DESCRIPTOR

DESCRIPTOR is of a pipe, over which come the arguments of a Worker and then orders. It ends when the
other side does, whatever it is at.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue

from unitcorpus.build.isolated import Begun, Order
from unitcorpus.build.worker import Care, Worker, exhaust


def serve(link: Connection) -> None:
    """Carries out orders until one fails, or the other side goes away."""
    orders: SimpleQueue[Order] = SimpleQueue()
    arguments = link.recv()
    threading.Thread(target=_listen, args=(link, orders), daemon=True).start()
    try:
        worker = Worker(*arguments)
        while True:
            _carry_out(worker, orders.get(), link)
    except Exception as error:
        link.send(_portable(error))


def _listen(link: Connection, orders: SimpleQueue[Order]) -> None:
    try:
        while True:
            orders.put(link.recv())
    except (EOFError, OSError):
        os._exit(1)


def _carry_out(worker: Worker, order: Order, link: Connection) -> None:
    care = Care(order.killers, lambda places, due: link.send(Begun(tuple(places), due)))
    if order.alone:
        worker.alone(order.shard, order.alone, care)
        link.send(None)
    else:
        link.send(exhaust(worker.steps(order.shard, order.attempt, care), link.send))


def _portable(error: Exception) -> Exception:
    """The error, or one like it that can travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    serve(Connection(int(sys.argv[1])))
