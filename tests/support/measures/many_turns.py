"""Resident memory of a server over thousands of turns of conversations about the same images.

    python tests/support/measures/many_turns.py [--turns 10000]

The engine is vLLM's own with a worker that computes nothing (`benchmarks/preprocessing`), so that
the front end and the engine's caches are all there is to grow. Every conversation has eight turns
over four photographs of its own, each of which is sent again with every turn. Printed are memory
and open descriptors of all the server's processes, as often as a tenth of the turns is done; the
last line is the growth of the second half.
"""

import argparse
import asyncio
import os
import tempfile

from saccade.benchmarks.common.load import run_load
from saccade.benchmarks.common.workloads import Request
from saccade.benchmarks.preprocessing.idle_worker import PIXELS, WORKER
from saccade.benchmarks.serving.conversations import Conversation, make_conversation
from saccade.benchmarks.serving.server_watch import held, unfinished
from saccade.server.commands.child import ServerProcess

_FLAGS = (
    *("--enforce-eager", "--max-model-len=32768", "--max-num-seqs=16", f"--worker-cls={WORKER}"),
    "--mm-processor-cache-gb=0.25",  # full before the first tenth is over
)
_FILES, _CLIENTS, _PARTS = 4, 4, 10


def requests(first: int, count: int) -> list[Request]:
    """So many turns, one conversation after another."""
    made: list[Request] = []
    while len(made) < count:
        talk = make_conversation("chat", first + len(made))
        few = Conversation("chat", talk.files[:_FILES], talk.turns)
        urls = [file.url for file in few.files]
        bodies = [few.body(turn, "demo", 1, urls) for turn in range(few.turns)]
        made += [Request(len(made) + at, body, "image", 0) for at, body in enumerate(bodies)]
    return made[:count]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[PIXELS] = folder
        with ServerProcess("demo", _FLAGS) as server:
            server.wait_ready(600)
            memory = []
            for part in range(_PARTS):
                load = asyncio.run(
                    run_load(
                        server.url,
                        requests(part * args.turns, args.turns // _PARTS),
                        _CLIENTS,
                        600,
                    )
                )
                wrong = [one for one in load.outcomes if one.error]
                assert not wrong, wrong[0]
                left = unfinished(server.url, 30)
                assert not left, left
                now = held(server.pid)
                memory.append(now.memory)
                cached = sum(one.cached_tokens or 0 for one in load.outcomes)
                print(
                    f"{(part + 1) * args.turns // _PARTS} turns: {now.memory / 1e6:.0f} MB, "
                    f"{now.descriptors} descriptors, {now.threads} threads, "
                    f"{len(load.outcomes) / load.seconds:.0f} turns/s, {cached} tokens cached",
                    flush=True,
                )
            half = _PARTS // 2
            grown = memory[-1] - memory[half - 1]
            print(f"RESULT grown_mb={grown / 1e6:.1f} of_mb={memory[-1] / 1e6:.1f}")


if __name__ == "__main__":
    main()
