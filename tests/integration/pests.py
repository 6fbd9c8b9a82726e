#!/usr/bin/python3
"""
Pests: a thousand clients that do the server no good, in one process.

    pests.py SOCKET COUNT

COUNT of each kind. It prints "ready" when all are connected and at work, and goes on until its standard input is closed.

    flooder      asks without end and reads no answer
    half         sends half a request, and waits
    dripper      follows from the oldest event and reads a byte a second
    deaf         follows from the oldest event and reads nothing
    comer        connects, begins a request, and goes away at once, again and again
"""

import os
import selectors
import socket
import sys
import time

FLOOD = b'{"status":{}}\n' * 256
FOLLOW = b'{"subscribe":{"since":"oldest"}}\n'


def connect(path):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(path)
    client.setblocking(False)
    return client


def send(client, data):
    """Returns False when the server has ended the connection."""
    try:
        client.send(data)
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    clients = {kind: [connect(path) for _ in range(count)] for kind in ("flooder", "half", "dripper", "deaf")}
    for half in clients["half"]:
        send(half, b'{"subscr')
    for kind in ("dripper", "deaf"):
        for client in clients[kind]:
            send(client, FOLLOW)
    flooded, come, dripped = 0, 0, 0
    last_drip = time.monotonic()
    said_ready = False
    while not selector.select(0):
        for number in range(50):
            client = clients["flooder"][(flooded + number) % count]
            if not send(client, FLOOD):
                client.close()
                clients["flooder"][(flooded + number) % count] = connect(path)
        flooded += 50
        for _ in range(10):
            with connect(path) as comer:
                send(comer, b'{"sync":' if come % 2 else b"")
            come += 1
        if time.monotonic() - last_drip >= 1:
            last_drip = time.monotonic()
            dripped += 1
            for client in clients["dripper"]:
                try:
                    client.recv(1)
                except OSError:
                    pass
        if not said_ready and flooded > 4 * count and come > count and dripped > 1:
            said_ready = True
            print("ready", flush=True)
    print(f"{flooded} floods, {come} comers, {dripped} drips", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
