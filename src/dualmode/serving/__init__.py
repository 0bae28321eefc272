"""The service: live captions by device, corrected by server, and transcription of files over HTTP.

- :class:`dualmode.serving.app.Service`: the ASGI application.
- :func:`dualmode.serving.server.make_server`: a uvicorn server that runs it.
- :class:`dualmode.serving.client.CaptionClient`: a client of its WebSocket.

docs/serving.md defines the protocol.
"""
