"""The service: live captions by device, corrected by server, and files over HTTP.

- :class:`dualmode.serving.app.Service`: the ASGI application and what is behind it.
- :func:`dualmode.serving.server.make_server`: a process that runs it.
- :class:`dualmode.serving.client.CaptionClient`: a client of its WebSocket.

docs/serving.md defines the protocol.
"""
