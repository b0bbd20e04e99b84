# SPDX-License-Identifier: MIT OR Apache-2.0
"""A client of luod for services: the standard library alone, one connection, blocking calls.

Documentation/luod-protocol.rst has every message; service.py beside this file
is a whole service.
"""

import fcntl
import json
import os
import select
import socket
import struct
import time

SOCKET = "/run/luod/liveupdate.sock"
VERSION = 1
MAX_ANSWER = 1 << 20
# Answers that bring a descriptor.
WITH_FD = ("START_PRESERVATION", "CLAIMED")
# What may come at any time, also before the answer to something else.
EVENTS = ("START_PRESERVATION", "STOP", "CHECK", "ABORT")

# uapi/liveupdate.h
_PRESERVE_FD, _RETRIEVE_FD, _FINISH = 0xBA40, 0xBA41, 0xBA42


class Gone(ConnectionError):
    """luod is gone: close all sessions, connect and subscribe again."""


class Refused(Exception):
    """luod said no; code is for programs."""

    def __init__(self, error):
        super().__init__(error.get("message", ""))
        self.code = error.get("code", "")


class Session:
    """A session of /dev/liveupdate. Closing it gives up what is in it."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd

    def preserve(self, fd, token):
        """Takes a file along, under a number that is the caller's choice."""
        argument = struct.pack("=IiQ", 16, fd, token)
        fcntl.ioctl(self.fd, _PRESERVE_FD, argument)

    def retrieve(self, token):
        """The file that was preserved under this number, as a descriptor."""
        argument = bytearray(struct.pack("=IiQ", 16, -1, token))
        fcntl.ioctl(self.fd, _RETRIEVE_FD, argument)
        fd = struct.unpack("=IiQ", argument)[1]
        os.set_inheritable(fd, False)
        return fd

    def finish(self):
        """What was not retrieved is freed."""
        fcntl.ioctl(self.fd, _FINISH, struct.pack("=II", 8, 0))

    def close(self):
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()


class Client:
    """A connection to luod."""

    def __init__(self, path=SOCKET, timeout=60.0):
        """Connects. No call but next_event() takes longer than timeout."""
        self.timeout = timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._bytes = b""
        self._fds = []
        self._events = []
        self._held = {}
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def fileno(self):
        """For an event loop; look at pending() before waiting on it."""
        return self._socket.fileno()

    def pending(self):
        """Whether next_event() has something without the socket being read."""
        return bool(self._events) or b"\n" in self._bytes

    def close(self):
        self._socket.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        for session in self._held.values():
            session.close()
        self._held = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def subscribe(self, id, **wish):
        """Takes part in updates; true if something has arrived for the id.

        wish: required, stops, checks, order, as in luod-protocol.rst.
        """
        return self._ask("SUBSCRIBE", id, **wish)["claimable"]

    def unsubscribe(self, id):
        """No longer, nor with what was ready."""
        self._ask("UNSUBSCRIBE", id)
        self._drop(id)

    def claim(self, id):
        """The session that has arrived for the id; None if none has."""
        try:
            return self._ask("CLAIM", id)["session"]
        except Refused as refused:
            if refused.code == "nothing-to-claim":
                return None
            raise

    def finished(self, id, session):
        """All of it is retrieved."""
        session.finish()
        session.close()
        self._ask("FINISHED", id)

    def ready(self, id, session):
        """All is in the session, which is kept open here until the kexec."""
        self._held[id] = session
        try:
            self._ask("READY", id)
        except BaseException:
            self._drop(id)
            raise

    def stopped(self, id):
        """It stands still, and its last state is in the session."""
        self._ask("STOPPED", id)

    def can(self, id, able, **more):
        """The answer to CHECK, which luod does not answer: reason, files, stop_ms."""
        self._say("CAN", id, able=able, **more)

    def decline(self, id, reason):
        """The update has to go on without this id; its session is closed."""
        self._drop(id)
        self._ask("ABORT", id, reason=reason[:200])

    def next_event(self, timeout=None):
        """What luod wants: START_PRESERVATION with a "session", STOP, CHECK or ABORT, as a dict.

        None if nothing has come within timeout seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._events:
            message = self._read(until)
            if message is None:
                return None
            if message["type"] in EVENTS:
                self._events.append(message)
        event = self._events.pop(0)
        if event["type"] == "ABORT":
            for id in [event["id"]] if "id" in event else list(self._held):
                self._drop(id)
        return event

    def status(self):
        """How things are."""
        return self._ask("STATUS", None)["status"]

    def _drop(self, id):
        session = self._held.pop(id, None)
        if session is not None:
            session.close()

    def _say(self, type, id, **more):
        message = {"version": VERSION, "type": type, **more}
        if id is not None:
            message["id"] = id
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise Gone(str(error)) from error

    def _ask(self, type, id, **more):
        self._say(type, id, **more)
        until = time.monotonic() + self.timeout
        while True:
            answer = self._read(until)
            if answer is None:
                raise TimeoutError("luod does not answer")
            if answer["type"] in EVENTS:
                self._events.append(answer)
            elif answer["type"] == "ERROR":
                raise Refused(answer.get("error", {}))
            else:
                return answer

    def _read(self, until):
        while b"\n" not in self._bytes:
            if len(self._bytes) > MAX_ANSWER:
                raise Gone("luod said a line without an end")
            left = None if until is None else max(0, until - time.monotonic())
            if not select.select([self._socket], [], [], left)[0]:
                return None
            try:
                got, fds, _, _ = socket.recv_fds(
                    self._socket, 4096, 1, socket.MSG_CMSG_CLOEXEC
                )
            except OSError as error:
                raise Gone(str(error)) from error
            self._fds += fds
            if not got:
                raise Gone("luod hung up")
            self._bytes += got
        line, self._bytes = self._bytes.split(b"\n", 1)
        message = json.loads(line)
        # Each comes with the first byte of its line, so they are in order.
        if message["type"] in WITH_FD:
            if not self._fds:
                raise Gone("luod sent no session")
            message["session"] = Session(self._fds.pop(0))
        return message
