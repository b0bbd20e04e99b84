#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""A counter that goes on counting over a live update. Usage: service.py [SOCKET]"""

import mmap
import os
import sys
import time

from luo_client import SOCKET, Client, Gone

ID, TOKEN, SIZE = "counter", 1, 4096


def serve(path, memory):
    with Client(path) as luod:
        arrived = luod.claim(ID)
        if arrived:
            memory = arrived.retrieve(TOKEN)
            luod.finished(ID, arrived)
        number = mmap.mmap(memory, SIZE)
        luod.subscribe(ID)
        print("counting from", int.from_bytes(number[:8], "little"), flush=True)
        while True:
            event = luod.next_event(timeout=0.1)
            if event is None:
                count = int.from_bytes(number[:8], "little") + 1
                number[:8] = count.to_bytes(8, "little")
            elif event["type"] == "START_PRESERVATION":
                try:
                    event["session"].preserve(memory, TOKEN)
                    luod.ready(ID, event["session"])
                    print("ready", flush=True)
                except OSError as error:
                    luod.decline(ID, str(error))
            elif event["type"] == "ABORT":
                print("goes on:", ascii(event["reason"]), flush=True)


memory = os.memfd_create("counter")
os.truncate(memory, SIZE)
while True:
    try:
        serve(sys.argv[1] if len(sys.argv) > 1 else SOCKET, memory)
    except (Gone, FileNotFoundError, ConnectionRefusedError) as error:
        print("without luod:", error, file=sys.stderr, flush=True)
        time.sleep(1)
