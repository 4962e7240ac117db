"""Transfers of libcurl side by side on one event loop, by its multi-socket interface.

pycurl has such a driver too, which watches each socket by the loop. That takes a watcher to be made
and undone for every request, a fifth of what a request costs. Here an epoll of our own holds the
sockets, and the loop watches that alone.
"""

import asyncio
import math
import select
from typing import Any

import pycurl

_IN = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_OUT = select.EPOLLOUT | select.EPOLLERR


class Transfers:
    """Runs transfers on the running event loop, which it belongs to."""

    def __init__(self, connections: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Any, asyncio.Future[pycurl.error | None]] = {}
        self._sockets = select.epoll()
        self._watched: dict[int, int] = {}
        self._running = 0
        self._due = math.inf
        self._alarm: asyncio.Handle | None = None
        self._alarm_time = math.inf
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._wake_in)
        self._loop.add_reader(self._sockets.fileno(), self._act_on_sockets)

    def close(self) -> None:
        """End all transfers and connections; those who wait for one are cancelled."""
        self._loop.remove_reader(self._sockets.fileno())
        for curl, done in list(self._waiting.items()):
            self._multi.remove_handle(curl)
            done.cancel()
        self._waiting.clear()
        self._multi.close()
        self._sockets.close()
        self._disarm()

    async def perform(self, curl: Any) -> pycurl.error | None:
        """Run the transfer that a handle describes to its end; return its error if it has one."""
        self._multi.add_handle(curl)
        done = self._waiting[curl] = self._loop.create_future()
        try:
            return await done
        finally:
            if self._waiting.pop(curl, None) is not None:  # cut off
                self._multi.remove_handle(curl)

    def _watch(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        """Take from libcurl what it waits for at a socket."""
        before = self._watched.pop(descriptor, 0)
        if what == pycurl.POLL_REMOVE or what == pycurl.POLL_NONE:
            if before:
                self._sockets.unregister(descriptor)
            return
        wanted = select.EPOLLIN if what & pycurl.POLL_IN else 0
        if what & pycurl.POLL_OUT:
            wanted |= select.EPOLLOUT
        if not before:
            self._sockets.register(descriptor, wanted)
        elif before != wanted:
            self._sockets.modify(descriptor, wanted)
        self._watched[descriptor] = wanted

    def _act_on_sockets(self) -> None:
        """Act on all sockets that are ready, and only then on what has ended."""
        for descriptor, events in self._sockets.poll(0):
            what = pycurl.CSELECT_IN if events & _IN else 0
            self._act(descriptor, what | pycurl.CSELECT_OUT if events & _OUT else what)
        self._hand_out()

    def _wake_in(self, milliseconds: int) -> None:
        """Take from libcurl when it wants to act next without a socket: -1 for never."""
        if milliseconds == 0:
            self._due = -math.inf
            if self._alarm_time > self._due:
                self._disarm()
                self._alarm = self._loop.call_soon(self._act_on_time)
                self._alarm_time = self._due
            return
        self._due = math.inf if milliseconds < 0 else self._loop.time() + milliseconds / 1000
        self._arm()

    def _arm(self) -> None:
        """Have the loop call when it is time; an earlier call that is due already does as well."""
        if self._due < self._alarm_time:
            self._disarm()
            self._alarm = self._loop.call_at(self._due, self._act_on_time)
            self._alarm_time = self._due

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_time = None, math.inf

    def _act_on_time(self) -> None:
        self._alarm, self._alarm_time = None, math.inf
        if self._due <= self._loop.time():
            self._due = math.inf
            self._act(pycurl.SOCKET_TIMEOUT, 0)
            self._hand_out()
        else:
            self._arm()

    def _act(self, descriptor: int, what: int) -> None:
        """Let libcurl go on."""
        try:
            _, self._running = self._multi.socket_action(descriptor, what)
        except pycurl.error as error:  # nothing would come of any transfer any more
            for curl in list(self._waiting):
                self._end(curl, error)

    def _hand_out(self) -> None:
        """Hand out what has come to its end."""
        if self._running >= len(self._waiting):
            return
        _, well, ended = self._multi.info_read(len(self._waiting))
        for curl in well:
            self._end(curl, None)
        for curl, code, message in ended:
            self._end(curl, pycurl.error(code, message))

    def _end(self, curl: Any, error: pycurl.error | None) -> None:
        done = self._waiting.pop(curl)
        self._multi.remove_handle(curl)
        if not done.done():
            done.set_result(error)
