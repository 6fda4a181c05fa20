#!/usr/bin/env python
"""Serve an ONNX file of tools/export_model.py: POST an image to /predict, and get the objects in it as json.

It needs fastapi, uvicorn and the requirements of onnx_runner.py, which is taken from this repository or from the folder
of this file. Requests that wait are predicted together: a file of `--batch` takes images of one size at once.
"""

import argparse
import asyncio
import io
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request
from PIL import Image

sys.path.append(str(Path(__file__).parents[2] / "projects" / "hrnet_kpt" / "inference"))
from onnx_runner import OnnxPredictor

BATCH = 8  # images at once
MAX_WAITING = 64  # requests
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 25_000_000


def create_app(predictor: OnnxPredictor) -> FastAPI:
    waiting: asyncio.Queue[tuple[Image.Image, asyncio.Future[Any]]] = asyncio.Queue(MAX_WAITING)

    async def predict_waiting() -> None:
        while True:
            batch = [await waiting.get()]
            while len(batch) < BATCH and not waiting.empty():
                batch.append(waiting.get_nowait())
            try:
                results = await asyncio.to_thread(predictor, [image for image, _ in batch])
            except Exception:  # of one of the images
                results = [await asyncio.to_thread(one_result, image) for image, _ in batch]
            for (_, answer), result in zip(batch, results, strict=True):
                if not answer.done():  # else the client has gone
                    answer.set_result(result)

    def one_result(image: Image.Image) -> Any:
        try:
            return predictor(image)
        except Exception as error:
            return error

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(predict_waiting())
        yield
        task.cancel()

    app = FastAPI(title="hrnet_kpt", lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"waiting": waiting.qsize(), "classes": list(predictor.info["classes"])}

    @app.post("/predict")
    async def predict(
        request: Request, score_threshold: Annotated[float, Query(ge=0, le=1)] = 0.5
    ) -> dict[str, Any]:
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_BYTES:
                raise HTTPException(413, f"more than {MAX_BYTES} bytes")
        image = await asyncio.to_thread(read_image, bytes(data))
        answer = asyncio.get_running_loop().create_future()
        try:
            waiting.put_nowait((image, answer))
        except asyncio.QueueFull:
            raise HTTPException(503, "too many requests", {"Retry-After": "1"}) from None
        objects = await answer
        if isinstance(objects, Exception):
            raise HTTPException(400 if isinstance(objects, ValueError) else 500, str(objects))
        return {"objects": [found for found in objects if found["score"] > score_threshold]}

    return app


def read_image(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise HTTPException(413, f"{image.width} x {image.height} pixels, limit {MAX_PIXELS}")
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise HTTPException(400, f"not an image: {error}") from error
    return image


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, help="for an image (default: the number of cores)")
    parser.add_argument("--runtime", default="onnxruntime", choices=("onnxruntime", "openvino"))
    args = parser.parse_args(argv)
    predictor = OnnxPredictor(args.model, threads=args.threads, runtime=args.runtime)
    uvicorn.run(create_app(predictor), host=args.host, port=args.port, access_log=False)


if __name__ == "__main__":
    main()
