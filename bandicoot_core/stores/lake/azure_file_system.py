"""The file system of Azure Blob Storage as the lake needs it; importing this needs the extra `azure`.

adlfs bounds the time of uploads and downloads alone, reads many objects one after the other, asks twice for a listing,
takes a container that is absent for an empty one, and knows no conditions. What the lake asks of every object store
belongs to object_store.
"""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from adlfs.spec import AzureBlobFile, AzureBlobFileSystem
from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob.aio import BlobClient, BlobServiceClient, ExponentialRetry
from fsspec.asyn import sync

from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.stores.lake.changed import ChangedError

# At a lower level every request is told, with its address.
logging.getLogger("azure").setLevel(logging.WARNING)


class BlobFileSystem(AzureBlobFileSystem):
    """adlfs with a bound on every request, conditions on writes, and many small objects read at once."""

    service_client: BlobServiceClient

    def do_connect(self) -> None:
        """Make the client: what adlfs makes of the environment, with our bounds; its own tries for minutes."""
        try:
            super().do_connect()
        except ValueError:
            # Without the reason: it may quote what must not be shown.
            raise InvalidSettingError(
                "AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT_NAME is not what Azure's portal shows"
            ) from None
        # Who stays silent is asked once more; who refuses a connection, or is overloaded, twice.
        retries = ExponentialRetry(
            initial_backoff=1, increment_base=2, retry_total=2, retry_read=1, random_jitter_range=1
        )
        made = self.service_client
        self.service_client = BlobServiceClient(
            made.url, credential=made.credential, retry_policy=retries, **self._timeout_kwargs
        )

    def read_with_tag(self, path: str) -> tuple[bytes, str]:
        """The content of an object and its ETag, of one moment; FileNotFoundError when there is none."""

        async def read(blob: BlobClient) -> tuple[bytes, str]:
            try:
                stream = await blob.download_blob()
                return await stream.readall(), stream.properties.etag
            except ResourceNotFoundError as error:
                raise FileNotFoundError(errno.ENOENT, "No such object", path) from error

        return self._on_blob(path, read)

    def write_if(self, path: str, content: bytes, tag: str | None) -> None:
        """Write an object if it still has that ETag, or with None if there is none; else ChangedError."""

        async def write(blob: BlobClient) -> None:
            await blob.upload_blob(content, overwrite=True, **_condition(tag, MatchConditions.IfMissing))

        self._on_blob(path, write)

    def remove_if(self, path: str, tag: str | None) -> None:
        """Remove an object if it still has that ETag, whatever it has with None; else ChangedError."""

        async def remove(blob: BlobClient) -> None:
            await blob.delete_blob(**_condition(tag, MatchConditions.Unconditionally))

        self._on_blob(path, remove)

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **options: Any) -> Any:
        """What adlfs does; several paths whose errors are returned are read `batch_size` at once."""
        batch_size = options.pop("batch_size", None)
        if not isinstance(path, list) or on_error != "return" or recursive or not batch_size:
            return super().cat(path, recursive=recursive, on_error=on_error, **options)

        async def read_all() -> list[bytes | BaseException]:
            room = asyncio.Semaphore(batch_size)

            async def read(one: str) -> bytes:
                async with room:
                    return await self._cat_file(one, **options)

            return await asyncio.gather(*map(read, path), return_exceptions=True)

        return dict(zip(path, sync(self.loop, read_all), strict=True))

    async def _find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, **options: Any) -> Any:
        if withdirs or maxdepth or options.get("prefix"):
            return await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, **options)
        container, folder, _ = self.split_path(path.strip("/"))
        try:
            async with self.service_client.get_container_client(container) as client:
                listed = client.list_blobs(include=["metadata"], name_starts_with=f"{folder}/" if folder else None)
                infos = await self._details([blob async for blob in listed])
        except ResourceNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "No such container", container) from error
        found = {info["name"]: info for info in infos if info["type"] == "file"}
        return found if options.get("detail") else sorted(found)

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> AzureBlobFile:
        options = {"cache_type": "readahead", **options}
        return _BlobFile(fs=self, path=path, mode=mode, block_size=block_size or self.blocksize, **options)

    def _on_blob(self, path: str, ask: Callable[[BlobClient], Awaitable[Any]]) -> Any:
        """What is asked of one object, outside the event loop; ChangedError when a condition does not hold."""
        container, name, _ = self.split_path(path)

        async def asked() -> Any:
            async with self.service_client.get_blob_client(container, name) as blob:
                return await ask(blob)

        try:
            return sync(self.loop, asked)
        except (ResourceExistsError, ResourceModifiedError) as error:
            raise ChangedError(path) from error
        except ResourceNotFoundError as error:
            if error.error_code == "ContainerNotFound":
                raise
            raise ChangedError(path) from error


class _BlobFile(AzureBlobFile):
    """An object that is removed while it is read is gone, as it is before."""

    def _fetch_range(self, start: int, end: int | None = None, **options: Any) -> bytes:
        try:
            return super()._fetch_range(start, end, **options)
        except ResourceNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "No such object", self.path) from error


def _condition(tag: str | None, without: MatchConditions) -> dict[str, Any]:
    if tag is None:
        return {} if without is MatchConditions.Unconditionally else {"match_condition": without}
    return {"etag": tag, "match_condition": MatchConditions.IfNotModified}
