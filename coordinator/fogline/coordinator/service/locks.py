"""Operator calls about locks: which are known, and keeping one whose wheels are here."""

from __future__ import annotations

from fogline.coordinator.artifacts.lock import read_lock
from fogline.coordinator.core.locks import NOTHING, KnownLock
from fogline.coordinator.service import translate
from fogline.coordinator.service.desk import Context, Desk
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.errors import answering
from fogline.wire.terms import ErrorKind, FoglineError

_BLOCK_BYTES = 2**20


class LockCalls(Desk):
    """Translate, call, translate back."""

    async def FindLocks(self, request: operator.FindLocksRequest, context: Context) -> operator.FindLocksReply:
        """Those of the revision in charge first: what runs is not changed by what others resolved since."""
        async with answering(context):
            known = request.id in self._deployments.ids()
            revision = self._deployments.get(request.id).revision if known else 0
            held = self._store.revision(request.id, revision).resolution if known else NOTHING
            own = {(each.requirements_digest, each.target): each.digest for each in held.locks}
            images = held.by_place
            reply = operator.FindLocksReply(apart=[operator.Incompatible(**vars(each)) for each in held.apart])
            lacking: dict[tuple[str, str], str] = {}
            for message in request.wanted:
                wanted = translate.known_lock(message)
                found = own.get((wanted.requirements_digest, wanted.target)) or self._store.find_lock(wanted)
                key = (found, wanted.target)
                if found and key not in lacking:  # many segments share a lock
                    lacking[key] = self._lacking(found, wanted)
                if found and not lacking[key]:
                    reply.locks.add().MergeFrom(message)
                    reply.locks[-1].digest = found
                    if former := images.get((wanted.segment, wanted.target)):
                        reply.locks[-1].context, reply.locks[-1].image = former.context, former.image
            return reply

    async def KeepLock(self, request: operator.KeepLockRequest, context: Context) -> operator.KeepLockReply:
        """Remember a lock that is here with all its wheels."""
        async with answering(context):
            lock = translate.known_lock(request.lock)
            if lacking := self._lacking(lock.digest, lock):
                raise FoglineError(
                    ErrorKind.CONFLICT, f"lock {lock.digest[:12]} cannot be kept: {lacking}; submit again"
                )
            self._store.keep_lock(lock)
            return operator.KeepLockReply()

    def _lacking(self, digest: str, wanted: KnownLock) -> str:
        """What keeps a lock from being used; empty when nothing does."""
        if self._artifacts.missing([digest]):
            return "it was not uploaded"
        lock = read_lock(b"".join(self._artifacts.read(digest, 0, _BLOCK_BYTES)))
        if lock.target != wanted.target:
            return f"it is for {lock.target}, not {wanted.target}"
        missing = self._artifacts.missing([wheel.sha256 for wheel in lock.wheels])
        return f"{len(missing)} of its wheels were not uploaded" if missing else ""
