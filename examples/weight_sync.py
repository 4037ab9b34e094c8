"""Weights on their way from a learner to its actors: the newest version wins, and nobody waits for the slowest actor.

The learner publishes a version after each training step. Actors follow at their own pace: a fast one sees them all, a
slow one gets the newest, and learns how many it has skipped.

    python examples/weight_sync.py
"""

from __future__ import annotations

import asyncio

import numpy as np

import akv

URL = "memory://policy"
STEPS = 12
SHAPE = (256, 64)


async def learn() -> None:
    """Publish the weights of each training step; for show, those of step n are all n."""
    async with akv.connect(URL) as kv:
        await kv.init("policy", np.zeros(SHAPE, np.float32))  # which is version 1
        for step in range(1, STEPS + 1):
            await asyncio.sleep(0.002)  # stands for the training step
            weights = np.full(SHAPE, step, np.float32)
            version = await kv.push("policy", weights, donate=True)  # handed over for good, so nothing is copied
            print(f"learner  publishes version {version}")


async def act(name: str, seconds: float) -> None:
    """Act with the newest weights, `seconds` at a time."""
    weights, skipped = np.empty(SHAPE, np.float32), 0
    async with akv.connect(URL) as kv:
        watch = kv.watch("policy")
        async for version in watch:
            # This version or a newer one, and always a whole one: no reader sees half a push.
            await kv.pull("policy", out=weights, min_version=version)
            assert weights.min() == weights.max() >= version - 1
            skipped += watch.skipped
            print(f"{name:8} acts on version {version}, {watch.skipped} skipped")
            if version > STEPS:
                break
            await asyncio.sleep(seconds)  # stands for the acting
    print(f"{name:8} is done at version {version}, {skipped} skipped in all")


async def join_late() -> None:
    """Ask for a version that does not exist yet, nor does its key: `min_version` waits for both."""
    async with akv.connect(URL) as kv:
        weights = await kv.pull("policy", min_version=STEPS // 2)
        print(f"late     begins with the weights of step {weights[0, 0]:g}")


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(join_late())
        group.create_task(act("fast", 0.0))
        group.create_task(act("slow", 0.007))
        group.create_task(learn())


if __name__ == "__main__":
    akv.run(main())
