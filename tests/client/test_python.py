# SPDX-License-Identifier: MIT
"""The Python module against a real daemon: test_python.py MODULE_FOLDER DAEMON MODEL.

Exits with 77 (skipped) where python3-msgpack is missing. MESON_EXE_WRAPPER runs the daemon of a
cross build."""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

try:
    import msgpack
except ImportError:
    print("skipped: python3-msgpack is missing")
    sys.exit(77)

folder, daemon_path, model_path = sys.argv[1:4]
sys.path.insert(0, folder)
import rwkvlite  # noqa: E402


class WithDaemon(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = os.path.join(cls.folder.name, "socket")
        command = shlex.split(os.environ.get("MESON_EXE_WRAPPER", ""))
        command += [daemon_path, "--set", "socket.path=" + cls.path, "--set", "log.level=error"]
        cls.daemon = subprocess.Popen(command + [model_path])
        while not os.path.exists(cls.path):
            if cls.daemon.poll() is not None:
                raise RuntimeError("the daemon did not start")
            time.sleep(0.01)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.terminate()
        assert cls.daemon.wait() == 0
        cls.folder.cleanup()

    def setUp(self):
        self.client = rwkvlite.Client(self.path, timeout=60)
        self.addCleanup(self.client.close)

    def test_call(self):
        tokens = self.client.call("tokenize", text="hello w\u00f6rld")["tokens"]
        self.assertGreater(len(tokens), 1)
        self.assertEqual(self.client.call("detokenize", tokens=tokens)["text"], "hello w\u00f6rld")
        raw = self.client.call("tokenize", text=b"\xff\x00")["tokens"]
        self.assertEqual(self.client.call("detokenize", tokens=raw)["text"], b"\xff\x00")

    def test_error(self):
        with self.assertRaises(rwkvlite.Error) as caught:
            self.client.call("session.info", session="nowhere")
        self.assertEqual(caught.exception.name, "no_session")
        self.assertEqual(caught.exception.code, -30)
        self.assertIn("nowhere", str(caught.exception))
        with self.assertRaises(rwkvlite.Error) as caught:
            list(self.client.generate("x", temperature=-5))
        self.assertEqual(caught.exception.name, "bad_param")
        self.client.call("server.info")  # the connection goes on

    def test_generate(self):
        params = {"max_tokens": 12, "temperature": 0.9, "top_p": 0.8, "seed": 5}
        generation = self.client.generate("The robot", **params)
        pieces = list(generation)
        self.assertGreater(len(pieces), 1)
        self.assertEqual("".join(pieces), generation.text)
        self.assertEqual(generation.result["tokens"], 12)
        self.assertEqual(self.client.generate("The robot", **params).text, generation.text)

    def test_two_at_once(self):
        params = {"max_tokens": 20, "temperature": 0}
        alone = [self.client.generate(prompt, **params).text for prompt in ("One day", "Maria")]
        together = [self.client.generate(prompt, **params) for prompt in ("One day", "Maria")]
        self.assertGreater(self.client.call("server.info")["pid"], 0)  # a call in between
        self.assertEqual([generation.text for generation in together], alone)

    def test_cancel(self):
        params = {"max_tokens": 60000, "ignore_end_token": True}
        with self.client.generate("Once", **params) as generation:
            self.assertTrue(next(generation))
        self.assertEqual(generation.result["reason"], "cancel")
        # One that is dropped unread disturbs nothing that follows.
        self.client.generate("Once", max_tokens=3)
        self.assertEqual(self.client.generate("Once", max_tokens=3).result["tokens"], 3)

    def test_session(self):
        self.client.call("session.open", name="python")
        self.client.generate("Anna", session="python", max_tokens=2, temperature=0).result
        with rwkvlite.Client(self.path) as other:
            sessions = other.call("session.list")["sessions"]
            self.assertIn("python", [session["session"] for session in sessions])
            other.call("session.close", session="python")

    def test_default_path(self):
        os.environ["RWKVLITED_SOCKET"] = self.path
        self.addCleanup(os.environ.pop, "RWKVLITED_SOCKET")
        with rwkvlite.Client() as client:
            self.assertEqual(client.path, self.path)
            client.call("server.info")


class WithoutDaemon(unittest.TestCase):
    """Peers that answer with nothing, a farewell, or no MessagePack-RPC."""

    def answer(self, data):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = os.path.join(self.enterFolder(), "socket")
        listener.bind(path)
        listener.listen(1)

        def serve():
            connection = listener.accept()[0]
            connection.recv(65536)
            connection.sendall(data)
            connection.close()
            listener.close()

        thread = threading.Thread(target=serve)
        thread.start()
        self.addCleanup(thread.join)
        return rwkvlite.Client(path, timeout=60)

    def enterFolder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def test_lost(self):
        farewell = msgpack.packb([1, 0, [-32, "64 connections are open", {}], None])
        for data, text in (
            (b"", "the daemon closed the connection$"),
            (msgpack.packb([1, 1, None, {}])[:-1], "the daemon closed the connection$"),
            (farewell, "closed the connection: 64 connections are open$"),
            (b"\xc1", "the daemon's answer"),
            (b"\x05", "the daemon's answer"),
            (b"\x91\x01", "the daemon's answer"),
        ):
            with self.subTest(data=data), self.answer(data) as client:
                with self.assertRaisesRegex(rwkvlite.ConnectionLost, text):
                    client.call("server.info")

    def test_no_socket(self):
        with self.assertRaises(FileNotFoundError):
            rwkvlite.Client(os.path.join(self.enterFolder(), "none"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
