# SPDX-License-Identifier: MIT OR Apache-2.0
"""The client and the service against a luod that says what it is told to.

With the program luod in LUOD, also against that one: it needs no kernel for
what is asked of it here.
"""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

import luo_client
from luo_client import Client, Gone, Refused, Session

HERE = os.path.dirname(os.path.abspath(__file__))


class Luod:
    """Listens; says for each request what the test wants, and notes down what it hears."""

    def __init__(self, answers):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.answers, self.heard = answers, []
        self.socket = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        self.socket, _ = self.listener.accept()
        for line in self.socket.makefile():
            request = json.loads(line)
            self.heard.append(request)
            self.say(*self.answers.get(request["type"], ({"type": "OK"},)))

    def say(self, *messages):
        """All in one piece; a session comes with the first that has "fd"."""
        text = b"".join(
            json.dumps({"version": 1, "id": "a", **message}).encode() + b"\n"
            for message in messages
        )
        if any(message["type"] in luo_client.WITH_FD for message in messages):
            fd = os.open("/dev/null", os.O_RDONLY)
            socket.send_fds(self.socket, [text], [fd])
            os.close(fd)
        else:
            self.socket.sendall(text)

    def wait(self, type):
        for _ in range(500):
            for request in self.heard:
                if request["type"] == type:
                    return request
            time.sleep(0.01)
        raise AssertionError(f"no {type} in {self.heard}")


SUBSCRIBED = {"type": "SUBSCRIBED", "claimable": False, "preserved": False}
START = {"type": "START_PRESERVATION", "deadline_ms": 1000}
NOTHING = {
    "type": "ERROR",
    "error": {"code": "nothing-to-claim", "message": "nothing"},
}


class TestClient(unittest.TestCase):
    def test_a_session_comes_and_is_kept(self):
        luod = Luod({"SUBSCRIBE": (SUBSCRIBED,)})
        with Client(luod.path) as client:
            self.assertFalse(client.subscribe("a", required=True, order=3))
            self.assertTrue(luod.wait("SUBSCRIBE")["required"])
            self.assertIsNone(client.next_event(timeout=0.01))
            luod.say(START)
            event = client.next_event(timeout=5)
            fd = event["session"].fd
            client.ready("a", event["session"])
            os.fstat(fd)
            luod.say({"type": "ABORT", "reason": "so"})
            self.assertEqual(client.next_event(timeout=5)["reason"], "so")
            with self.assertRaises(OSError):
                os.fstat(fd)

    def test_what_comes_with_an_answer_is_not_missed(self):
        """A client that subscribes while an update is prepared, with an event loop."""
        luod = Luod({"SUBSCRIBE": (SUBSCRIBED, START)})
        with Client(luod.path) as client:
            client.subscribe("a")
            self.assertFalse(select.select([client], [], [], 0.05)[0])
            self.assertTrue(client.pending())
            event = client.next_event(timeout=0)
            self.assertEqual(event["type"], "START_PRESERVATION")
            self.assertFalse(client.pending())

    def test_no_is_said_and_nothing_is_none(self):
        luod = Luod({"CLAIM": (NOTHING,), "READY": ({**NOTHING, "id": "a"},)})
        with Client(luod.path) as client:
            self.assertIsNone(client.claim("a"))
            fd = os.open("/dev/null", os.O_RDONLY)
            with self.assertRaises(Refused):
                client.ready("a", Session(fd))
            with self.assertRaises(OSError):
                os.fstat(fd)

    def test_it_does_not_wait_for_ever(self):
        luod = Luod({"STATUS": ()})
        with Client(luod.path, timeout=0.05) as client:
            with self.assertRaises(TimeoutError):
                client.status()
            luod.wait("STATUS")
            luod.socket.shutdown(socket.SHUT_RDWR)
            with self.assertRaises(Gone):
                client.next_event()

    def test_a_signal_is_no_end(self):
        luod = Luod({"SUBSCRIBE": (SUBSCRIBED,)})
        hits = []
        before = signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            with Client(luod.path) as client:
                client.subscribe("a")
                self.assertIsNone(client.next_event(timeout=0.2))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        self.assertTrue(hits)

    def test_the_kernel_is_asked_as_its_header_says(self):
        header = os.path.join(HERE, "../../../uapi/liveupdate.h")
        with open(header) as text:
            self.assertIn("0xBA", text.read().replace("0xba", "0xBA"))
        calls = []

        def ioctl(fd, number, argument):
            calls.append((number, bytes(argument)))
            if number == 0xBA41:
                struct.pack_into("=i", argument, 4, os.dup(0))
            return 0

        session = Session(os.dup(0))
        with mock.patch("fcntl.ioctl", ioctl):
            session.preserve(7, 1 << 40)
            os.close(session.retrieve(5))
            session.finish()
        self.assertEqual(
            calls,
            [
                (0xBA40, struct.pack("=IiQ", 16, 7, 1 << 40)),
                (0xBA41, struct.pack("=IiQ", 16, -1, 5)),
                (0xBA42, struct.pack("=II", 8, 0)),
            ],
        )


class TestService(unittest.TestCase):
    def start(self, path):
        service = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "service.py"), path],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(service.stdout.close)
        self.addCleanup(service.wait)
        self.addCleanup(service.kill)
        self.assertEqual(service.stdout.readline(), "counting from 0\n")
        return service

    def test_it_says_when_it_cannot(self):
        luod = Luod({"SUBSCRIBE": (SUBSCRIBED,), "CLAIM": (NOTHING,)})
        service = self.start(luod.path)
        # /dev/null is no session: the kernel says so, and the service to luod.
        luod.say(START)
        self.assertIn("ioctl", luod.wait("ABORT")["reason"])
        luod.say({"type": "ABORT", "reason": "so\n"})
        self.assertEqual(service.stdout.readline(), "goes on: 'so\\n'\n")

    def test_it_is_short(self):
        with open(os.path.join(HERE, "service.py")) as text:
            self.assertLess(len(text.readlines()), 60)

    @unittest.skipUnless("LUOD" in os.environ, "LUOD names no luod")
    def test_with_luod_itself(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "socket")
        config = os.path.join(folder.name, "luod.toml")
        with open(config, "w") as text:
            text.write(f'group = "{os.getgid()}"\n')
        luod = subprocess.Popen(
            [os.environ["LUOD"], "--config", config, "--socket", path],
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(luod.wait)
        self.addCleanup(luod.terminate)
        for _ in range(500):
            if os.path.exists(path):
                break
            time.sleep(0.01)
        self.start(path)
        with Client(path) as client:
            self.assertIsNone(client.claim("b"))
            client.subscribe("b")
            with self.assertRaises(Refused) as refused:
                client.subscribe("counter")
            self.assertEqual(refused.exception.code, "in-use")
            ids = [one["id"] for one in client.status()["clients"]]
            self.assertEqual(sorted(ids), ["b", "counter"])
            client.unsubscribe("b")


if __name__ == "__main__":
    unittest.main()
