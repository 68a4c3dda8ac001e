"""The stock Python client (aetcd) against one endpoint: one line per check, exit code 1 on failure."""

import asyncio
import sys

import aetcd

PREFIX = b"clients/python/"
A = PREFIX + b"a"


def expect(holds, what, got):
    if not holds:
        raise AssertionError(f"{what}: got {got}")


async def put(client):
    await client.delete_prefix(PREFIX)
    await client.put(A, b"1")
    answer = await client.put(A, b"2", prev_kv=True)
    expect(answer.prev_kv.value == b"1", "what was there", answer)


async def ranges(client):
    for key in (b"b", b"c"):
        await client.put(PREFIX + key, key)
    answer = await client.get_prefix(PREFIX, sort_order="descend")
    keys = [kv.key for kv in answer]
    expect(keys == [PREFIX + key for key in (b"c", b"b", b"a")], "three keys, last first", keys)
    one = await client.get(A)
    expect((one.value, one.version) == (b"2", 2), "the second version", one)
    expect(await client.get(PREFIX + b"nothing") is None, "no key", "one")


async def txn(client):
    rules = client.transactions

    async def swap(old, new):
        return await client.transaction(
            compare=[rules.value(A) == old],
            success=[rules.put(A, new)],
            failure=[rules.get(A)],
        )

    done, _ = await swap(b"2", b"3")
    expect(done, "a swap that holds", done)
    done, responses = await swap(b"2", b"4")
    expect(not done and responses[0][0][0] == b"3", "a swap that does not hold", responses)


async def watch(client):
    start = (await client.get(A)).create_revision
    changes = await client.watch(A, start_revision=start, prev_kv=True)
    await client.put(A, b"live")
    seen, before = [], []
    async for change in changes:
        seen.append(change.kv.value)
        if change.prev_kv is not None and change.prev_kv.value:
            before.append(change.prev_kv.value)
        if len(seen) == 4:
            break
    await changes.cancel()
    expect(seen == [b"1", b"2", b"3", b"live"], "history, then live", seen)
    expect(before == [b"1", b"2", b"3"], "what was there before each change", before)


async def delete(client):
    answer = await client.delete_prefix(PREFIX, prev_kv=True)
    expect(answer.deleted == 3 and len(answer.prev_kvs) == 3, "three keys deleted", answer)


async def lease(client):
    granted = await client.lease(2)
    await client.put(PREFIX + b"leased", b"x", lease=granted)
    for _ in range(4):
        await asyncio.sleep(0.7)
        await granted.refresh()
    expect(await granted.remaining_ttl() > 0, "a lease alive after its time", "none")
    keys = list(await granted.keys())
    expect(keys == [PREFIX + b"leased"], "its key", keys)
    await granted.revoke()
    expect(await client.get(PREFIX + b"leased") is None, "the key gone with its lease", "the key")


async def compaction(client):
    start = (await client.put(A, b"old")).header.revision
    last = (await client.put(A, b"new")).header.revision
    await client.compact(last, physical=True)
    changes = await client.watch(A, start_revision=start)
    try:
        async for change in changes:
            raise AssertionError(f"a change below the compaction: {change}")
    except aetcd.RevisionCompactedError as error:
        expect(error.compacted_revision == last, "where history begins", error)
        return
    raise AssertionError("the watch ended without a word about the compaction")


async def main(endpoint):
    host, _, port = endpoint.rpartition(":")
    async with aetcd.Client(host=host, port=int(port), timeout=10) as client:
        for check in (put, ranges, txn, watch, delete, lease, compaction):
            try:
                await asyncio.wait_for(check(client), timeout=30)
            except Exception as error:
                print(f"FAIL {check.__name__}: {error!r}", file=sys.stderr)
                return 1
            print("ok", check.__name__, flush=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: check.py <host:port>")
    sys.exit(asyncio.run(main(sys.argv[1])))
