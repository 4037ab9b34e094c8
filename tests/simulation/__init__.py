"""A server and its clients on a simulated network, in virtual time: one seed, one course of events.

The code under test runs unchanged. What is simulated is what it gets from outside: `loop` is an event loop whose clock
jumps, `network` (with `transport` and `lane`) its connections, `seams` what else a process takes from its surroundings.
`plan` draws what a run is like, `faults` does harm, `clients` and `workers` work, `history` says what they saw, `laws`
and `job_laws` what they may see, and `world` puts it all together.
"""

from __future__ import annotations
