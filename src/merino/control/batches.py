"""Files and batches of accounts: what may be ordered, and who may see it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from merino.domain.batch import (
    UNFINISHED,
    Batch,
    BatchProblem,
    BatchStatus,
    FilePurpose,
    StoredFile,
)
from merino.domain.clock import DAY_MS, epoch_ms
from merino.domain.errors import BodyTooLarge, Conflict, InvalidCall, NotFound
from merino.domain.key import VirtualKey
from merino.settings.sections.batches import BatchesSettings
from merino.wire.served import BATCH_PATHS

ENDPOINTS = tuple(BATCH_PATHS)
COMPLETION_WINDOW = "24h"
FILE_BYTES_MAX = 200 * 1024 * 1024
"""As at OpenAI."""
EXPIRY_ANCHOR = "created_at"
EXPIRY_S_MIN = 3_600
EXPIRY_S_MAX = 30 * 86_400
"""What `expires_after` may ask for; as at OpenAI."""
ITEMS_MAX = 50_000
_WINDOW_MS = DAY_MS
_LIST_MAX = {"files": 10_000, "batches": 100}
_METADATA_MAX = 16
_METADATA_NAME_MAX = 64
_METADATA_TEXT_MAX = 512
_FILENAME_MAX = 255


class Files(Protocol):
    """Where files are kept."""

    async def add(self, file: StoredFile, content: BinaryIO, account_bytes_max: int) -> bool:
        """False if its account would keep more than it may."""
        ...

    async def get(self, file_id: str, account_id: str) -> StoredFile: ...

    async def list(
        self, account_id: str, *, purpose: str | None, after: str | None, limit: int, newest: bool
    ) -> Sequence[StoredFile]: ...

    async def kept_bytes(self, account_id: str) -> int: ...

    async def delete(self, file_id: str) -> bool:
        """False, and nothing is done, if a batch still needs it."""
        ...

    def path(self, file_id: str) -> Path: ...


class Batches(Protocol):
    """Where orders are kept."""

    async def create(self, batch: Batch) -> bool:
        """False if its input file is gone."""
        ...

    async def find(self, batch_id: str) -> Batch | None: ...

    async def list(self, account_id: str, *, after: str | None, limit: int) -> Sequence[Batch]: ...

    async def advance(
        self,
        batch: Batch,
        status: BatchStatus,
        problems: Sequence[BatchProblem] = (),
        total: int | None = None,
    ) -> bool: ...


class FileDesk:
    """Use cases around the files of one account."""

    def __init__(
        self,
        files: Files,
        settings: BatchesSettings | None = None,
        *,
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._files = files
        self._settings = settings or BatchesSettings()
        self._now_ms = now_ms

    def configure(self, settings: BatchesSettings) -> None:
        """For files that come from now on."""
        self._settings = settings

    async def upload(
        self,
        key: VirtualKey,
        filename: str,
        purpose: str,
        content: BinaryIO,
        size_bytes: int,
        expires_after: object = None,
    ) -> StoredFile:
        """Keep a file. Raises `InvalidCall`, `BodyTooLarge`, `StoreUnavailable`."""
        expires_after_s = expiry_of(expires_after, "expires_after")
        if purpose != "batch":
            raise InvalidCall(
                f"Invalid purpose '{purpose[:50]}': this relay keeps files for batches; send "
                "purpose=batch.",
                param="purpose",
                code="invalid_value",
            )
        if size_bytes > FILE_BYTES_MAX:
            raise too_large()
        if not size_bytes:
            raise InvalidCall("The file is empty.", param="file", code="invalid_file")
        most_bytes = self._settings.account_bytes_max
        file = self.new(key.account_id, filename, "batch", size_bytes, expires_after_s)
        kept_bytes = await self._files.kept_bytes(key.account_id)
        is_too_much = kept_bytes + size_bytes > most_bytes
        # Asked before it is copied, and again when its row is written: others come meanwhile.
        if is_too_much or not await self._files.add(file, content, most_bytes):
            kept_bytes = await self._files.kept_bytes(key.account_id)
            raise BodyTooLarge(
                f"This account keeps {kept_bytes:,} bytes of files and may keep {most_bytes:,}. "
                "Delete some with DELETE /v1/files/FILE_ID.",
                param="file",
                code="storage_full",
            )
        return file

    def new(
        self,
        account_id: str,
        filename: str,
        purpose: FilePurpose,
        size_bytes: int,
        expires_after_s: int | None = None,
    ) -> StoredFile:
        """A file that is to be kept; as long as was asked for, or as the settings say at most."""
        now_ms = self._now_ms()
        keep_ms = self._settings.keep_days * DAY_MS
        if expires_after_s is not None:
            keep_ms = min(keep_ms, expires_after_s * 1000)
        return StoredFile(
            id=f"file-{secrets.token_hex(12)}",
            account_id=account_id,
            filename=filename[:_FILENAME_MAX] or "file",
            purpose=purpose,
            size_bytes=size_bytes,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + keep_ms,
        )

    async def get(self, key: VirtualKey, file_id: str) -> StoredFile:
        return await self._files.get(file_id, key.account_id)

    async def path(self, key: VirtualKey, file_id: str) -> Path:
        """Where the content lies."""
        return self._files.path((await self.get(key, file_id)).id)

    async def list(
        self,
        key: VirtualKey,
        *,
        purpose: str | None,
        after: str | None,
        limit: int,
        order: str,
    ) -> tuple[Sequence[StoredFile], bool]:
        """A page, and whether there is more. `order` is ``asc`` or ``desc``."""
        if order not in ("asc", "desc"):
            raise InvalidCall("order must be asc or desc.", param="order", code="invalid_value")
        _check_limit(limit, _LIST_MAX["files"])
        found = await self._files.list(
            key.account_id, purpose=purpose, after=after, limit=limit + 1, newest=order == "desc"
        )
        return found[:limit], len(found) > limit

    async def delete(self, key: VirtualKey, file_id: str) -> None:
        """Raises `Conflict` while a batch reads it."""
        file = await self.get(key, file_id)
        if not await self._files.delete(file.id):
            raise Conflict(
                f"A running batch reads {file.id}. Cancel it, or delete the file when it is done.",
                code="file_in_use",
            )


class BatchDesk:
    """Use cases around batches. `announce` tells the workers that there is something to do."""

    def __init__(
        self,
        batches: Batches,
        files: Files,
        announce: Callable[[], None],
        now_ms: Callable[[], int] = epoch_ms,
    ) -> None:
        self._batches = batches
        self._files = files
        self._announce = announce
        self._now_ms = now_ms

    async def create(
        self,
        key: VirtualKey,
        *,
        endpoint: object,
        input_file_id: object,
        completion_window: object,
        metadata: object = None,
        output_expires_after: object = None,
    ) -> Batch:
        """Order a batch. Raises `InvalidCall`, `NotFound`. The file is looked through later."""
        if endpoint not in ENDPOINTS:
            raise _invalid("endpoint", f"must be one of {', '.join(ENDPOINTS)}")
        if completion_window != COMPLETION_WINDOW:
            raise _invalid("completion_window", f"must be '{COMPLETION_WINDOW}'")
        if not isinstance(input_file_id, str):
            raise _invalid("input_file_id", "must be the id of an uploaded file")
        try:
            file = await self._files.get(input_file_id, key.account_id)
        except NotFound:
            raise _no_file(input_file_id) from None
        if file.purpose != "batch":
            raise _invalid("input_file_id", "must be a file of purpose 'batch'")
        now_ms = self._now_ms()
        batch = Batch(
            id=f"batch_{secrets.token_hex(12)}",
            account_id=key.account_id,
            key_id=key.id,
            endpoint=str(endpoint),
            input_file_id=file.id,
            status="validating",
            created_at_ms=now_ms,
            expires_at_ms=now_ms + _WINDOW_MS,
            metadata=_metadata(metadata),
            output_expires_after_s=expiry_of(output_expires_after, "output_expires_after"),
            moments_ms={"validating": now_ms},
        )
        if not await self._batches.create(batch):
            raise _no_file(file.id)
        self._announce()
        return batch

    async def get(self, key: VirtualKey, batch_id: str) -> Batch:
        batch = await self._batches.find(batch_id)
        if batch is None or batch.account_id != key.account_id:
            raise NotFound(f"No batch found with id '{batch_id[:100]}'.", param="id")
        return batch

    async def list(
        self, key: VirtualKey, *, after: str | None, limit: int
    ) -> tuple[Sequence[Batch], bool]:
        """A page, the newest first, and whether there is more."""
        _check_limit(limit, _LIST_MAX["batches"])
        found = await self._batches.list(key.account_id, after=after, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def cancel(self, key: VirtualKey, batch_id: str) -> Batch:
        """Start nothing more of it; what runs is finished. Raises `Conflict` if it is over."""
        batch = await self.get(key, batch_id)
        while batch.status not in ("cancelling", "cancelled"):
            if batch.status not in UNFINISHED:
                raise Conflict(
                    f"Cannot cancel a batch with status '{batch.status}'.",
                    code="batch_not_cancellable",
                )
            if await self._batches.advance(batch, "cancelling"):
                self._announce()
            batch = await self.get(key, batch_id)  # a worker may have brought it on meanwhile
        return batch


def _no_file(file_id: str) -> InvalidCall:
    return InvalidCall(
        f"No such File object: {file_id[:100]}. Upload it with POST /v1/files.",
        param="input_file_id",
        code="file_not_found",
    )


def too_large() -> BodyTooLarge:
    return BodyTooLarge(
        f"A file may have {FILE_BYTES_MAX:,} bytes at most. Split it into several batches.",
        param="file",
    )


def expiry_of(value: object, param: str) -> int | None:
    """Seconds that a file is to be kept from its creation on; `None` if nothing was asked for."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _invalid(param, 'must be an object such as {"anchor": "created_at", "seconds": 3600}')
    fields = cast("dict[str, object]", value)
    anchor, seconds = fields.get("anchor"), fields.get("seconds")
    if anchor != EXPIRY_ANCHOR:
        raise _invalid(f"{param}.anchor", f"must be '{EXPIRY_ANCHOR}'")
    # Out of a form every number is text.
    if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit() and len(seconds) < 10:
        seconds = int(seconds)
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise _invalid(f"{param}.seconds", "must be a whole number")
    if not EXPIRY_S_MIN <= seconds <= EXPIRY_S_MAX:
        raise _invalid(
            f"{param}.seconds",
            f"must be from {EXPIRY_S_MIN} (an hour) to {EXPIRY_S_MAX} (30 days)",
        )
    return seconds


def _invalid(param: str, what: str) -> InvalidCall:
    return InvalidCall(f"Invalid '{param}': it {what}.", param=param, code="invalid_value")


def _check_limit(limit: int, most: int) -> None:
    if not 1 <= limit <= most:
        raise _invalid("limit", f"must be from 1 to {most}")


def _metadata(value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid("metadata", "must be an object")
    pairs: dict[str, str] = {}
    for name, text in cast("dict[object, object]", value).items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise _invalid("metadata", "must map texts to texts")
        if len(name) > _METADATA_NAME_MAX or len(text) > _METADATA_TEXT_MAX:
            raise _invalid(
                "metadata",
                f"may have names of {_METADATA_NAME_MAX} and texts of {_METADATA_TEXT_MAX} "
                "characters at most",
            )
        pairs[name] = text
    if len(pairs) > _METADATA_MAX:
        raise _invalid("metadata", f"may have {_METADATA_MAX} pairs at most")
    return pairs
