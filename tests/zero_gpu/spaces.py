"""A stand-in for the package `spaces` on ZeroGPU, without a GPU: it notes every call of CUDA and where it came from.

As in the real one (0.51) a decorated function runs in a fork that has been kept since its first call, arguments and
results are pickled, errors that are not gradio's come back as a name; in the main thread `.to("cuda")` is acted before
the launch, and what was put there is gone from the app's own memory after it. Unlike the real one all is computed
on the CPU, and there is no quota: a call that asks for more than `MOST_SECONDS` is refused.

Notes are lines of JSON in the file $ZERO_NOTES: `what`, and `where` it was called: `start` (main thread, before the
launch), `lent` (in a decorated function) or `outside`; `seconds` of a call that was lent the GPU.
"""

import functools
import json
import multiprocessing
import os
import pickle
import threading
import traceback

import gradio as gr
import torch

MOST_SECONDS = 1500
_FORK = multiprocessing.get_context("fork")
_NOTES = os.open(os.environ["ZERO_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_launched = threading.Event()
_in_fork = False
_held: list[tuple[torch.Tensor, torch.Tensor]] = []


def note(what: str, **more: object) -> None:
    at_start = threading.current_thread() is threading.main_thread() and not _launched.is_set()
    where = "lent" if _in_fork else "start" if at_start else "outside"
    lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack() if "/demo/" in frame.filename]
    os.write(_NOTES, (json.dumps({"what": what, "where": where, "from": lines[-3:], **more}) + "\n").encode())


def GPU(task=None, *, duration=60, size=None):  # noqa: N802
    if task is None:
        return functools.partial(GPU, duration=duration, size=size)
    worker: list = []

    @functools.wraps(task)
    def call(*arguments):
        if _in_fork:
            return task(*arguments)
        seconds = duration(*arguments) if callable(duration) else duration
        note("GPU", seconds=seconds)
        if seconds > MOST_SECONDS:
            raise gr.Error("illegal duration", print_exception=False)
        if not worker:
            here, there = _FORK.Pipe()
            process = _FORK.Process(target=_work, args=(task, there), daemon=True)
            process.start()
            worker.append((here, threading.Lock()))
        connection, lock = worker[0]
        with lock:
            connection.send_bytes(pickle.dumps(arguments))
            fine, result = pickle.loads(connection.recv_bytes())
        if not fine:
            raise gr.Error(result, print_exception=False)
        return result

    return call


def _work(task, connection) -> None:
    global _in_fork
    _in_fork = True
    for data, held in _held:
        data.data = held
    while True:
        arguments = pickle.loads(connection.recv_bytes())
        answer: list = []

        def run(arguments=arguments, answer=answer) -> None:
            try:
                answer.append((True, task(*arguments)))
            except Exception as error:
                traceback.print_exc()
                answer.append((False, type(error).__name__))

        thread = threading.Thread(target=run)  # in the real one it is no main thread either
        thread.start()
        thread.join()
        connection.send_bytes(pickle.dumps(answer[0]))


def launched() -> None:
    """What was put on "cuda" leaves the memory."""
    for data, held in _held:
        data.data = torch.full_like(held, torch.nan)
    _launched.set()


def _is_cuda(value: object) -> bool:
    return (isinstance(value, str) and value.startswith("cuda")) or (
        isinstance(value, torch.device) and value.type == "cuda"
    )


def _on_cpu(function, name: str):
    """A function of torch that notes where it is asked for CUDA, and then takes the CPU."""

    @functools.wraps(function)
    def call(*arguments, **named):
        if any(map(_is_cuda, (*arguments, *named.values()))):
            note(name)
        arguments = ["cpu" if _is_cuda(value) else value for value in arguments]
        return function(*arguments, **{key: "cpu" if _is_cuda(value) else value for key, value in named.items()})

    return call


def _module_to(module, *arguments, **named):
    if any(map(_is_cuda, (*arguments, *named.values()))):
        note("Module.to")
        if threading.current_thread() is threading.main_thread() and not _launched.is_set() and not _in_fork:
            for tensor in (*module.parameters(), *module.buffers()):
                _held.append((tensor, tensor.data.clone()))
        return module
    return _to(module, *arguments, **named)


_to = torch.nn.Module.to
torch.nn.Module.to = _module_to
torch.nn.Module.cuda = lambda module, *_: module.to("cuda")
torch.Tensor.to = _on_cpu(torch.Tensor.to, "Tensor.to")
torch.Tensor.cuda = lambda tensor, *_: tensor.to("cuda")
for name in ("zeros", "ones", "empty", "full", "tensor", "as_tensor", "arange", "eye", "rand", "randn", "linspace"):
    setattr(torch, name, _on_cpu(getattr(torch, name), name))


class _Autocast(torch.autocast):
    def __init__(self, device_type, dtype=None, enabled=True, cache_enabled=None) -> None:
        if _is_cuda(device_type):
            note("autocast")
            device_type, dtype, enabled = "cpu", None, False
        super().__init__(device_type, dtype, enabled, cache_enabled)


torch.autocast = torch.amp.autocast = _Autocast


def _noted(name: str, value):
    def call(*arguments, **named):
        note(f"cuda.{name}")
        return value if not _in_fork else None  # in there PyTorch's own parts ask too, and there is no CUDA

    return call


for name, value in {
    **{"is_available": True, "is_bf16_supported": False, "device_count": 1, "current_device": 0, "synchronize": None},
    **{"get_device_properties": None, "get_device_capability": (9, 0), "set_device": None, "empty_cache": None},
    **{"init": None, "_lazy_init": None, "mem_get_info": (0, 0), "get_device_name": "", "manual_seed_all": None},
}.items():
    if name != "manual_seed_all":  # of torch.manual_seed, which asks for nothing where CUDA was not begun
        setattr(torch.cuda, name, _noted(name, value))


def _compiled(*arguments, **named):
    note("compile")
    return arguments[0] if arguments else lambda function: function


torch.compile = _compiled
_launch = gr.Blocks.launch


@functools.wraps(_launch)
def _launch_and_pack(blocks, *arguments, **named):
    launched()
    return _launch(blocks, *arguments, **named)


gr.Blocks.launch = _launch_and_pack
