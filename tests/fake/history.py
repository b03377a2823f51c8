# SPDX-License-Identifier: Apache-2.0
"""What clients saw, held to what etcd says has happened.

etcd numbers its writes, so no search for an order is needed: the revision of each answer names the state that it is
about. Clients record operations and watches; afterwards etcd's own history, asked for without the proxy, is the truth:

  nothing lost     an acknowledged write is in the truth, at its revision, with its value
  nothing doubled  a value is there at most once, only if somebody wrote it, and not if its write was answered with "no";
                   a deletion, if somebody was told of it or does not know
  nothing stale    revisions follow real time: an answer is not older than what was answered before its call began, and
                   an effect is not older than that either, also of a call whose outcome nobody knows
  nothing wrong    a read is the state at its revision, key by key and with all that etcd says of each
  no watch gap     a watcher's answers, over all its streams, are the truth from its first revision on: in order, each
                   event once, revisions whole, with the values before and who created what; what progress promised did
                   not come later
"""
import bisect
import collections
import threading

PUT, DELETE = "put", "delete"
Event = collections.namedtuple("Event", "revision kind key value")  # value: None of a deletion
Item = collections.namedtuple("Item", "value mod_revision create_revision version")


class Op:
    """One call. What is not known stays None: revision unless the call was answered, ended while it is under way."""

    def __init__(self, began, puts=(), deletes=()):
        self.began, self.ended = began, None
        self.puts, self.deletes = dict(puts), list(deletes)  # deletes: keys
        self.revision = None
        self.refused = False  # etcd has said that nothing was written
        self.reads = {}       # key -> Item or None
        self.listed = None    # a prefix, all of which is in reads
        self.deleted = 0      # keys that etcd says were deleted

    def writes(self):
        return not self.refused and bool(self.puts or self.deleted)

    def __repr__(self):
        return f"Op({self.began:.3f}..{self.ended or 0:.3f} rev {self.revision} puts {sorted(self.puts)} " \
               f"deletes {self.deletes} reads {sorted(self.reads)[:3]})"


class Watched:
    """One watcher's answers over all its streams. It goes on behind the last revision that it was told of."""

    def __init__(self, prefix, first):
        self.prefix, self.first, self.next = prefix, first, first
        self.problems, self.events = [], []

    def answer(self, revision, events):
        """events: each an Event, the value before it (None: none was told) and its Item (None: deleted). No events:
        progress up to revision."""
        if not events:
            self.next = max(self.next, revision + 1)
        for event, _, _ in events:
            if event.revision < self.next:
                self.problems.append(f"revision {event.revision} came when everything below {self.next} had come")
        self.events += events
        if events:
            self.next = max(self.next, events[-1][0].revision + 1)


class Truth:
    """All events in order. values: those of unprotected and opened keys alike."""

    def __init__(self, events):
        self.events = list(events)
        self.by_key = collections.defaultdict(list)  # key -> (revision, Item or None)
        for event in self.events:
            states = self.by_key[event.key]
            before = states[-1][1] if states else None
            now = None
            if event.kind == PUT:
                now = Item(event.value, event.revision, before.create_revision if before else event.revision,
                           before.version + 1 if before else 1)
            states.append((event.revision, now))
        self.revisions = {key: [r for r, _ in states] for key, states in self.by_key.items()}

    def state(self, key, revision):
        at = bisect.bisect_right(self.revisions.get(key, ()), revision)
        return self.by_key[key][at - 1][1] if at else None

    def below(self, prefix, revision):
        found = {key: self.state(key, revision) for key in self.by_key if key.startswith(prefix)}
        return {key: item for key, item in found.items() if item is not None}


class History:
    def __init__(self, clock):
        self.clock, self.lock = clock, threading.Lock()
        self.ops, self.watches = [], []

    def begin(self, puts=(), deletes=()):
        op = Op(self.clock(), puts, deletes)
        with self.lock:
            self.ops.append(op)
        return op

    def answered(self, op, revision, reads=None, listed=None, refused=False, deleted=0):
        op.reads, op.listed, op.refused, op.deleted = reads or {}, listed, refused, deleted
        op.revision = revision
        op.ended = self.clock()

    def unknown(self, op):
        op.ended = self.clock()

    def watch(self, prefix, first):
        watched = Watched(prefix, first)
        with self.lock:
            self.watches.append(watched)
        return watched

    def check(self, truth):
        """All that is wrong, as texts."""
        problems = [*self.lost(truth), *self.doubled(truth), *self.deletions(truth), *self.wrong(truth),
                    *self.stale(truth)]
        for watched in self.watches:
            problems += watched.problems
            problems += self.gaps(watched, truth)
        return problems

    def lost(self, truth):
        for op in self.ops:
            if op.revision is None or op.refused:
                continue
            for key, value in op.puts.items():
                item = truth.state(key, op.revision)
                if item is None or (item.value, item.mod_revision) != (value, op.revision):
                    yield f"lost: {key} of {op}"
            for key in op.deletes:
                if truth.state(key, op.revision) is not None:
                    yield f"lost: the deletion of {key} by {op}"

    def doubled(self, truth):
        written = {(key, value): op for op in self.ops for key, value in op.puts.items()}
        seen = set()
        for event in truth.events:
            if event.kind != PUT:
                continue
            what = event.key, event.value
            if what not in written:
                yield f"invented: {event.key} at {event.revision}"
            elif written[what].refused:
                yield f"refused, but there: {event.key} at {event.revision}"
            if what in seen:
                yield f"doubled: {event.key} at {event.revision}"
            seen.add(what)

    def deletions(self, truth):
        told = {(key, op.revision) for op in self.ops if op.deleted for key in op.deletes}
        unknown = collections.Counter(key for op in self.ops if op.revision is None for key in op.deletes)
        for event in truth.events:
            if event.kind == DELETE and (event.key, event.revision) not in told:
                unknown[event.key] -= 1
                if unknown[event.key] < 0:
                    yield f"doubled: nobody deleted {event.key} at {event.revision}"

    def wrong(self, truth):
        for op in self.ops:
            for key, item in op.reads.items():
                if item != truth.state(key, op.revision):
                    yield f"wrong: {key} of {op}: {item!r:.200} is {truth.state(key, op.revision)!r:.200}"
            if op.listed is not None:
                missing = truth.below(op.listed, op.revision).keys() - op.reads.keys()
                if missing:
                    yield f"wrong: {sorted(missing)[:3]} not in the list of {op}"

    def stale(self, truth):
        """Sweeps over the calls as they began, with the newest revision of those that had ended by then."""
        at = {(e.key, e.value): e.revision for e in truth.events}
        ended = sorted((op for op in self.ops if op.revision is not None), key=lambda op: op.ended)
        floor, index = 0, 0
        for op in sorted(self.ops, key=lambda op: op.began):
            while index < len(ended) and ended[index].ended < op.began:
                floor = max(floor, ended[index].revision)
                index += 1
            effect = op.revision
            if effect is None:  # unknown: it may have happened, but not before it began
                effect = min((at[what] for what in op.puts.items() if what in at), default=None)
                if effect is not None and effect <= floor:
                    yield f"stale: {op} was written at {effect}, but {floor} was answered before it began"
            elif effect < floor or op.writes() and effect == floor:
                yield f"stale: {op} is of {effect}, but {floor} was answered before it began"

    def gaps(self, watched, truth):
        expected = [e for e in truth.events if watched.first <= e.revision < watched.next
                    and e.key.startswith(watched.prefix)]
        for n, (event, before, item) in enumerate(watched.events):
            if n >= len(expected) or event != expected[n]:
                yield f"watch of {watched.prefix}: {event!r:.150} where " \
                      f"{(expected[n] if n < len(expected) else None)!r:.150} was due"
                return
            earlier = truth.state(event.key, event.revision - 1)
            if before != (earlier.value if earlier else None):
                yield f"watch of {watched.prefix}: {event!r:.150} with a wrong value before it"
            if item != truth.state(event.key, event.revision):
                yield f"watch of {watched.prefix}: {event!r:.150} with another creation or version"
        if len(watched.events) < len(expected):
            yield f"watch of {watched.prefix}: gap at {expected[len(watched.events)]!r:.150}"
