"""A trivial action in each peer's own manner: `python bench_peers.py fastapi|litserve|gradio PORT`."""

from __future__ import annotations

import sys


def fastapi(port: int) -> None:
    """FastAPI alone, typed by pydantic."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Number(BaseModel):
        x: float

    class Scaled(BaseModel):
        y: float

    app = FastAPI()

    def scale(request: Number) -> Scaled:
        return Scaled(y=2 * request.x)

    scale.__annotations__ = {"request": Number, "return": Scaled}
    app.post("/scale")(scale)
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, http="h11")


def litserve(port: int) -> None:
    """LitServe with one worker, which it starts by pickling the class: that stands in a module of its own."""
    import litserve as ls
    from bench_litserve import Api

    server = ls.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")


def gradio(port: int) -> None:
    """Gradio's API."""
    import gradio as gr

    with gr.Blocks() as demo:
        x, y = gr.Number(), gr.Number()
        gr.Button().click(lambda x: 2 * x, x, y, api_name="scale", queue=False)
    demo.launch(server_name="127.0.0.1", server_port=port, quiet=True)


if __name__ == "__main__":
    {"fastapi": fastapi, "litserve": litserve, "gradio": gradio}[sys.argv[1]](int(sys.argv[2]))
