"""Lanes as ranks: the last ranks of a run sample and fit, and talk to the first training rank over gloo.

Processes are told apart before transformers or accelerate look at the environment: the training ranks see a world
without the lane ranks. Weights and results travel as JSON and safetensors, through host memory. Every process beats in
the store that all share, so that one that was killed, or lost with its machine, is noticed within seconds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from constraintlang_runtime import errors
from constraintlang_runtime.errors import ConfigError, RuntimeFailure, TrainingError
from constraintlang_runtime.rounds import Measured, RoundPlan
from constraintlang_runtime.schedule import records
from constraintlang_runtime.schedule.lanes import CLOSING_SECONDS, Dropped, Lane, as_lane_error
from constraintlang_runtime.schedule.work import Beat, GroupFit, Terms, Weights, Workbench

dist: Any = torch.distributed  # not all that it exports is typed
LANES = ("sampling", "fitting")
BEAT_SECONDS = 0.5
MAIL_SECONDS = 0.02
MEETING_SECONDS = 300.0  # for all ranks to appear
FAILED_SECONDS = 3.0  # that a run which failed waits for its lanes to hear of it
SILENT_SECONDS = 20.0  # a process that lives beats, whatever it works on
FOREVER = timedelta(days=365)
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
            "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # fmt: skip
GONE = "--resume goes on from the last checkpoint; the launcher's log says what ended the process"


def see_one_gpu(number: int) -> None:
    """Hide all GPUs but one from a process that trains alone: transformers puts a replica on each, the lanes' too."""
    if torch.cuda.is_initialized():
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(n) for n in range(torch.cuda.device_count())] if visible is None else visible.split(",")
    if len(names) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]


class LaneWorld:
    """This process's place among the ranks of a parallel run.

    ``rank`` and ``num_ranks`` are the launcher's; ranks below ``num_training`` train. Use as a context: at its end the
    lane ranks are told that the run is over.
    """

    def __init__(self, rank: int, num_ranks: int, lane_ranks: int, timeout: float) -> None:
        self.rank, self.num_training = rank, num_ranks - lane_ranks
        self.timeout = timeout
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self._num_ranks = num_ranks
        self._lane_rank = {"sampling": self.num_training, "fitting": num_ranks - 1}
        self._host, self._port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self._agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        self._silent = min(SILENT_SECONDS, timeout)
        self._over = threading.Event()
        self._links: dict[str, Link] = {}
        self._threads: list[threading.Thread] = []
        self.benches: tuple[RemoteBench, RemoteBench] | None = None

    @property
    def is_lane(self) -> bool:
        """Whether this process samples or fits and does not train."""
        return self.rank >= self.num_training

    # ------------------------------------------------------------ set-up
    def __enter__(self) -> LaneWorld:
        self._server = self._client(serves=self.rank == 0 and not self._agent)
        self._store = self._client()
        self._meet()
        self._leave_launcher()
        self._start("heartbeat", self._keep_beating)
        for number, lane in enumerate(LANES):
            if self.rank in (0, self._lane_rank[lane]):
                self._links[lane] = Link(self._client(f"link/{number}"), self._over, first=self.rank == 0)
        if self.rank == 0:
            self.benches = (RemoteBench(self._links["sampling"]), RemoteBench(self._links["fitting"]))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.rank == 0:
            with contextlib.suppress(Exception):  # a lane that is gone needs no word
                self._store.set("over", "1")
            self._await_end(SILENT_SECONDS if error is None else FAILED_SECONDS)
        self._over.set()
        deadline = time.monotonic() + CLOSING_SECONDS
        for thread in self._threads:  # one inside torch would spoil the end of the process
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self, name: str, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _client(self, below: str = "run", *, serves: bool = False) -> Any:
        store = dist.TCPStore(
            self._host,
            self._port,
            None,
            serves,
            timedelta(seconds=MEETING_SECONDS),
            wait_for_workers=False,
        )
        return dist.PrefixStore(f"constraint-lanes/{below}", store)

    def _meet(self) -> None:
        """Wait until every rank is here; the first names the place where the training ranks meet."""
        if self.rank == 0:
            self._store.set("port", str(_free_port()))
        self._store.set(f"here/{self.rank}", "1")
        try:
            self._store.wait(
                [f"here/{r}" for r in range(self._num_ranks)], timedelta(seconds=MEETING_SECONDS)
            )
        except Exception as error:
            raise TrainingError(
                f"of {self._num_ranks} ranks not all have appeared",
                help="see what the launcher says of the others",
            ) from error

    def _leave_launcher(self) -> None:
        """Let transformers and accelerate see the training ranks alone, or one process."""
        if self.is_lane or self.num_training == 1:
            kept = {"RANK": str(self.rank)} if self.is_lane else {}  # is_main reads it
        else:
            kept = {
                "RANK": str(self.rank), "WORLD_SIZE": str(self.num_training), "LOCAL_RANK": str(self.local_rank),
                "LOCAL_WORLD_SIZE": str(self.num_training), "MASTER_ADDR": self._host,
                "MASTER_PORT": self._store.get("port").decode(),
            }  # fmt: skip
        for name in (*LAUNCHER, *(name for name in os.environ if name.startswith("TORCHELASTIC_"))):
            os.environ.pop(name, None)
        os.environ |= kept
        if self.num_training == 1 and not self.is_lane:
            see_one_gpu(self.local_rank)

    # ------------------------------------------------------------ signs of life
    def _keep_beating(self) -> None:
        """Beat in the store, from a client of its own, until the run is over or the store is gone."""
        store = self._client()
        while not self._over.wait(BEAT_SECONDS):
            try:
                store.add(f"alive/{self.rank}", 1)
            except Exception:  # the watch of this process says so
                return

    def watch(self, lanes: Sequence[Lane]) -> None:
        """Look after the lane ranks on behalf of the lanes that stand for them in the training process."""
        if self.rank == 0:
            self._start("watch", self._watch, tuple(lanes))

    def _watch(self, lanes: Sequence[Lane]) -> None:
        store = self._client()
        seen: dict[str, tuple[int, float]] = {}

        def silence(key: str) -> float:
            now, before = int(store.add(key, 0)), seen.get(key, (-1, 0.0))
            if now != before[0]:
                seen[key] = (now, time.monotonic())
            return time.monotonic() - seen[key][1]

        while not self._over.wait(BEAT_SECONDS):
            for lane in lanes:
                rank = self._lane_rank[lane.name]
                try:
                    if silence(f"work/{lane.name}") < 2 * BEAT_SECONDS:
                        lane.beat()
                    if silence(f"alive/{rank}") > self._silent:
                        lane.fail(_gone(lane.name, rank))
                except Dropped:  # the lanes are closed
                    return
                except Exception as error:
                    lane.fail(_lost_store(error))
                    return

    # ------------------------------------------------------------ a lane rank
    def serve(self, workbench: Callable[[str], Workbench]) -> None:
        """Do the jobs of this rank's lanes until the run is over; ``workbench`` makes the place of a lane.

        Raises: TrainingError when the training process is gone.
        """
        threads = []
        for lane, link in self._links.items():
            beat = partial(self._beat, self._client(), lane)
            threads.append(self._start(f"lane {lane}", _serve, lane, link, workbench, beat))
        last, since = -1, time.monotonic()
        while any(thread.is_alive() for thread in threads):
            self._over.wait(BEAT_SECONDS)
            try:
                if self._store.check(["over"]):
                    break
                now = int(self._store.add("alive/0", 0))
            except Exception as error:
                raise _lost_store(error) from error
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > self._silent:
                raise TrainingError(
                    "the training process is gone: it was killed or lost its machine", help=GONE
                )
        self._store.add("ended", 1)

    def _beat(self, store: Any, lane: str) -> None:
        """A sign of life of a job."""
        if self._over.is_set():
            raise Dropped
        with contextlib.suppress(RuntimeError):  # the main thread says that the store is gone
            store.add(f"work/{lane}", 1)

    def _await_end(self, seconds: float) -> None:
        """The store may live in this process: let the lane ranks read from it that the run is over."""
        wanted, deadline = self._num_ranks - self.num_training, time.monotonic() + seconds
        with contextlib.suppress(Exception):
            while int(self._store.add("ended", 0)) < wanted and time.monotonic() < deadline:
                time.sleep(0.05)


def lane_world(config: dict[str, Any]) -> LaneWorld | None:
    """The world of a run with these settings; None when it is sequential, or one process with threads.

    Raises: ConfigError when there are too few ranks to give some to lanes.
    """
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if config.get("schedule") != "parallel" or num_ranks == 1:
        return None
    lane_ranks = config.get("lane_ranks", 1)
    if lane_ranks not in (1, 2) or num_ranks <= lane_ranks:
        raise ConfigError(
            f"lane_ranks: got {lane_ranks} of {num_ranks} ranks, expected 1 or 2, and one rank at least to train",
            help="start more ranks, or lower --lane_ranks",
        )
    return LaneWorld(int(os.environ["RANK"]), num_ranks, lane_ranks, float(config.get("lane_timeout", 900.0)))


class Link:
    """Messages between the first training rank and a lane, both ways, over a gloo group of the two.

    The store says when a message is there, so that nobody waits inside gloo, where a thread cannot be given up.
    """

    def __init__(self, store: Any, over: threading.Event, *, first: bool) -> None:
        self._store, self._over = store, over
        self._names = ("there", "back") if first else ("back", "there")  # what this end sends, and receives
        self._other = 1 if first else 0
        self._num_sent = self._num_received = 0
        self._group = dist.ProcessGroupGloo(store, 0 if first else 1, 2, FOREVER)

    def send(self, record: Any, tensors: dict[str, Tensor]) -> None:
        """One message."""
        message = torch.from_numpy(np.frombuffer(records.to_bytes(record, tensors), dtype=np.uint8).copy())
        self._num_sent += 1
        self._store.set(f"{self._names[0]}/{self._num_sent}", str(len(message)))
        self._group.send([message], self._other, 0).wait()

    def receive(self) -> records.Packed:
        """The next message; waits for it. Raises: Dropped when the run is over."""
        self._num_received += 1
        key = f"{self._names[1]}/{self._num_received}"
        while not self._store.check([key]):
            if self._over.wait(MAIL_SECONDS):
                raise Dropped
        message = torch.empty(int(self._store.get(key)), dtype=torch.uint8)
        self._store.delete_key(key)
        self._group.recv([message], self._other, 0).wait()
        return records.from_bytes(message.numpy().tobytes())


class RemoteBench:
    """Sends a lane's jobs to its rank; one job at a time."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def measure(
        self, plan: RoundPlan, terms: Sequence[Terms], weights: Weights, beat: Beat
    ) -> list[Measured]:
        """As ``Workbench.measure``."""
        record, tensors = records.pack_terms(terms)
        sent = records.under("terms.", tensors) | records.under("weights.", weights)
        return records.unpack_measured(
            *self._call({"do": "measure", "plan": vars(plan), "terms": record}, sent)
        )

    def fit(
        self,
        plan: RoundPlan,
        measured: Sequence[Measured],
        last: Sequence[GroupFit],
        weights: Weights,
        beat: Beat,
    ) -> list[GroupFit]:
        """As ``Workbench.fit``."""
        record, tensors = records.pack_measured(measured)
        fits, heads = records.pack_fits(last)
        sent = records.under("measured.", tensors) | records.under("last.", heads)
        request = {"do": "fit", "plan": vars(plan), "measured": record, "last": fits}
        return records.unpack_fits(*self._call(request, sent | records.under("weights.", weights)))

    def release(self) -> None:
        """Nothing: the rank has its memory to itself."""

    def _call(self, record: Any, tensors: dict[str, Tensor]) -> records.Packed:
        try:
            self._link.send(record, tensors)
            answer, found = self._link.receive()
        except RuntimeError as error:  # gloo: the other end is closed
            raise TrainingError("its process ended or was killed", help=GONE) from error
        if "error" in answer:
            raise _error_from(answer["error"])
        return answer["result"], found


def _serve(lane: str, link: Link, workbench: Callable[[str], Workbench], beat: Beat) -> None:
    """Answer jobs until the link is closed."""
    bench, problem = None, None
    try:
        bench = workbench(lane)
    except Exception as error:  # the answer to the first job
        problem = error
    while True:
        try:
            request, tensors = link.receive()
        except (RuntimeError, Dropped):  # over, or the training process is gone: the main thread knows
            return
        what = f"round {request['plan']['number']}"
        try:
            if bench is None:
                assert problem is not None
                raise problem
            record, found = _answer(bench, request, tensors, beat)
            answer = {"result": record}
        except Exception as error:  # told to the training process, which ends the run
            answer, found = {"error": _error_record(as_lane_error(error, lane, what))}, {}
        except Dropped:
            return
        with contextlib.suppress(RuntimeError):
            link.send(answer, found)


def _answer(bench: Workbench, request: Any, tensors: dict[str, Tensor], beat: Beat) -> records.Packed:
    plan, weights = RoundPlan(**request["plan"]), records.below(tensors, "weights.")
    if request["do"] == "measure":
        terms = records.unpack_terms(request["terms"], records.below(tensors, "terms."))
        return records.pack_measured(bench.measure(plan, terms, weights, beat))
    measured = records.unpack_measured(request["measured"], records.below(tensors, "measured."))
    last = records.unpack_fits(request["last"], records.below(tensors, "last."))
    return records.pack_fits(bench.fit(plan, measured, last, weights, beat))


def _error_record(error: BaseException) -> dict[str, Any]:
    if isinstance(error, RuntimeFailure):
        return {"kind": type(error).__name__, "message": error.message, "help": error.help}
    return {"kind": "TrainingError", "message": f"{type(error).__name__} in a lane: {error}", "help": None}


def _error_from(record: dict[str, Any]) -> RuntimeFailure:
    return getattr(errors, record["kind"])(record["message"], help=record["help"])


def _gone(lane: str, rank: int) -> TrainingError:
    return TrainingError(f"the {lane} lane (rank {rank}) is gone: its process ended or was killed", help=GONE)


def _lost_store(error: BaseException) -> TrainingError:
    lost = TrainingError(
        "the connection between the ranks is gone: one of them ended or was killed", help=GONE
    )
    lost.__cause__ = error
    return lost


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def maybe(world: LaneWorld | None) -> Iterator[LaneWorld | None]:
    """The world as a context, or nothing."""
    if world is None:
        yield None
    else:
        with world:
            yield world
