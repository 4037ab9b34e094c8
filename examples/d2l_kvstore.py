"""The KVStore chapter of Dive into Deep Learning (and MXNet's tutorial), step by step, on akv and numpy.

Only the imports differ from what runs on MXNet, and that numpy has one device: there is no `ctx=` to pass. The prints
that say what happens are added.

    python examples/d2l_kvstore.py
"""

from __future__ import annotations

import numpy as np

from akv import sync as kv

print("init a key, pull its value into an array")
kv = kv.create("local")
shape = (2, 3)
kv.init(3, np.ones(shape) * 2)
a = np.zeros(shape)
kv.pull(3, out=a)
print(a)

print("push: the new value takes the place of the old one")
kv.push(3, np.ones(shape) * 8)
kv.pull(3, out=a)
print(a)

print("push a list, one value per device: the store sums them first")
contexts = range(4)
b = [np.ones(shape) for ctx in contexts]
kv.push(3, b)
kv.pull(3, out=a)
print(a)


def update(key, recv, stored):
    print(f"update on key: {key}")
    stored += recv * 2


print("an updater decides what a push does; setting it changes no value")
kv._set_updater(update)
kv.pull(3, out=a)
print(a)

print("push: stored += 2 * pushed")
kv.push(3, np.ones(shape))
kv.pull(3, out=a)
print(a)

print("pull into a list, one array per device")
b = [np.ones(shape) for ctx in contexts]
kv.pull(3, out=b)
print(b[1])

print("several keys in one call")
keys = [5, 7, 9]
kv.init(keys, [np.ones(shape)] * len(keys))
kv.push(keys, [np.ones(shape)] * len(keys))
b = [np.zeros(shape)] * len(keys)
kv.pull(keys, out=b)
print(b[1])

print("several keys, several devices for each")
b = [[np.ones(shape) for ctx in contexts]] * len(keys)
kv.push(keys, b)
kv.pull(keys, out=b)
print(b[1][1])
