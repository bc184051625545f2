# SPDX-License-Identifier: MIT
"""Client of rwkvlited, the daemon that runs an RWKV language model.

    import rwkvlite

    with rwkvlite.Client() as client:
        for piece in client.generate("Once upon a time", max_tokens=40):
            print(piece, end="", flush=True)
        client.call("session.open", name="kitchen")
        print(client.generate("Hello", session="kitchen", temperature=0).text)

Methods, their parameters and their results are those of rwkvlited-protocol(7); any of them can be
called. Results are dictionaries. Texts are str; what is not UTF-8 (detokenize, log-probabilities)
is bytes. One thread at a time may use a client. Needs only python3-msgpack.
"""

import collections
import os
import socket
import weakref

import msgpack

__all__ = ["Client", "ConnectionLost", "Error", "Generation", "default_path"]

SYSTEM_SOCKET = "/run/rwkvlited/rwkvlited.sock"
ANSWER_BYTES = 64 << 20  # the longest answer believed

_REQUEST, _RESPONSE, _NOTIFICATION = 0, 1, 2


class Error(Exception):
    """The daemon answered with an error: code and name are those of the protocol's list."""

    def __init__(self, code, text, name=None):
        super().__init__(text)
        self.code, self.name = code, name


class ConnectionLost(Exception):
    """The daemon closed the connection, or answered with something that is no answer."""


def default_path():
    """$RWKVLITED_SOCKET, else the first socket that exists of the user's and the system's."""
    if os.environ.get("RWKVLITED_SOCKET"):
        return os.environ["RWKVLITED_SOCKET"]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = os.path.join(runtime, "rwkvlited.sock") if runtime else None
    for path in (own, SYSTEM_SOCKET):
        if path and os.path.exists(path):
            return path
    raise FileNotFoundError(
        "no daemon is running: there is no %s" % " and no ".join(filter(None, (own, SYSTEM_SOCKET)))
    )


class Client:
    """A connection. timeout: seconds to wait for the next bytes of an answer; None: for ever."""

    def __init__(self, path=None, timeout=None):
        self.path = path or default_path()
        self._last_id = 0
        self._answers = {}  # id -> (error, result), come while another request was waited for
        self._waited = set()  # ids of calls under way
        self._generations = weakref.WeakValueDictionary()  # id -> Generation
        self._farewell = None
        self._unpacker = msgpack.Unpacker(
            raw=False, strict_map_key=False, max_buffer_size=ANSWER_BYTES
        )
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(self.path)
        except BaseException:
            self._socket.close()
            raise

    def close(self):
        """Ends the connection, and with it its generations and unnamed sessions."""
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def call(self, method, **params):
        """One call: its result as a dictionary."""
        request = self._send(method, params)
        self._waited.add(request)
        try:
            while request not in self._answers:
                self._receive()
        finally:
            self._waited.discard(request)
        return _result(self._answers.pop(request))

    def generate(self, prompt, **params):
        """Starts a generation and returns it: iterate over it for the text as it comes."""
        params["stream"] = True
        request = self._send("generate", dict(params, prompt=prompt))
        generation = Generation(self, request)
        self._generations[request] = generation
        return generation

    def _send(self, method, params):
        self._last_id = self._last_id % 0xFFFFFFFF + 1
        message = [_REQUEST, self._last_id, method, [params]]
        try:
            self._socket.sendall(msgpack.packb(message, use_bin_type=True))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon may have said why: reading tells
        except BaseException:
            self.close()  # a request half sent cannot be taken back
            raise
        return self._last_id

    def _receive(self):
        """Waits for bytes and handles the messages that are whole."""
        data = self._socket.recv(65536)
        if not data:
            reason = ": " + self._farewell if self._farewell else ""
            raise ConnectionLost("%s: the daemon closed the connection%s" % (self.path, reason))
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                self._on_message(message)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            self.close()
            raise ConnectionLost("%s: the daemon's answer: %s" % (self.path, error)) from error

    def _on_message(self, message):
        if message[0] == _NOTIFICATION and message[1] == "token":
            token = message[2][0]
            generation = self._generations.get(token["id"])
            if generation is not None:
                generation._pieces.append(token["text"])
        elif message[0] == _RESPONSE:
            request, error, result = message[1:4]
            generation = self._generations.pop(request, None)
            if generation is not None:
                generation._answer = (error, result)
            elif request in self._waited:
                self._answers[request] = (error, result)
            elif request == 0 and error:  # said before closing
                self._farewell = str(error[1])


def _result(answer):
    error, result = answer
    if error is not None:
        more = error[2] if len(error) > 2 and isinstance(error[2], dict) else {}
        raise Error(error[0], error[1], more.get("name"))
    return result


class Generation:
    """A running generation. Leaving its loop early does not end it: cancel() does, as does the
    end of a `with` block."""

    def __init__(self, client, request):
        self._client, self._request = client, request
        self._pieces = collections.deque()
        self._answer = None
        self._cancelled = False

    def __iter__(self):
        return self

    def __next__(self):
        while not self._pieces and self._answer is None:
            self._client._receive()
        if self._pieces:
            return self._pieces.popleft()
        _result(self._answer)  # raises the error, if it ended with one
        raise StopIteration

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.cancel()

    def cancel(self):
        """Asks the daemon to end it; the result's reason is then "cancel"."""
        if self._answer is None and not self._cancelled:
            self._cancelled = True
            self._client._send("cancel", {"id": self._request})

    @property
    def result(self):
        """The result, as the protocol has it; waits for the end. Pieces stay for iteration."""
        while self._answer is None:
            self._client._receive()
        return _result(self._answer)

    @property
    def text(self):
        """The whole text; waits for the end."""
        return self.result["text"]
