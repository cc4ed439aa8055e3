"""The resident host: one process that holds the models, and the client that every front end talks to it through.

Only the host's own process imports starlette and uvicorn, only a call to it imports httpx.
"""
