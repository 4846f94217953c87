"""Read from an object store, or another server, through fsspec."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.config import conf

from fourd.storage.retrying import CutOffError, Retries, StorageError, retrying
from fourd.storage.store import Store, cut_off

_VERSIONS = ("ETag", "etag", "LastModified", "Last-Modified", "last_modified", "mtime", "updated", "created")
"""What stores call the mark of an object's version, the surest first."""

_PACKAGES = {"s3": "fourd[s3]", "s3a": "fourd[s3]", "gs": "gcsfs", "gcs": "gcsfs"}

_WRONG = {errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, getattr(errno, "EREMCHG", errno.EINVAL)}
"""Errors by which s3fs says that the request itself is wrong (400, 405, 416, a bucket of another region)."""

_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError"}


_opened: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_of_parents: list[Any] = []
"""The clients of this process, and those that it had from the process that it was forked from."""


def version_of(about: Mapping[str, Any]) -> str:
    """Take what tells the version of an object from what fsspec says of it; empty where there is nothing."""
    return next((str(about[name]) for name in _VERSIONS if about.get(name)), "")


class RemoteStore(Store):
    """Read from an object store or a server, by a URL that fsspec knows (s3://, gs://, https://, memory://).

    Where it is and who asks come from the usual environment. For s3://: AWS_ENDPOINT_URL or FSSPEC_S3_ENDPOINT_URL
    (other stores that speak S3, proxies), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or
    FSSPEC_S3_ANON=true for public buckets. For gs://: GOOGLE_APPLICATION_CREDENTIALS. Every option of fsspec's class
    can be given as FSSPEC_<SCHEME>_<OPTION>, or in ~/.config/fsspec.
    """

    def __init__(self, root: str, retries: Retries | None = None) -> None:
        """Keep the URL; nothing is asked yet."""
        super().__init__(root.rstrip("/"), retries)
        self._client: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None}

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Read a range of an object; an answer that is too short is asked for again."""
        what, address = self._what(path, start, stop), self.address(path)
        if start == stop:
            return b""

        def work() -> bytes:
            try:
                found: bytes = self._files().cat_file(address, start=start, end=stop)
            except OSError as error:
                if error.errno == errno.EINVAL:  # the answer to a range that begins behind the end, among others
                    self._require_reaching(address, stop, what)
                raise
            if len(found) > stop - start:
                raise ValueError(
                    f"{what}: {len(found)} bytes came: the server does not serve ranges; use one that does"
                )
            if len(found) != stop - start:
                self._require_reaching(address, stop, what)
                raise StorageError(f"{len(found)} bytes came instead of {stop - start}")
            return found

        return retrying(work, what, self.retries, lambda error: _refusal(error, address))

    def about(self, path: str) -> tuple[int, str]:
        """Give an object's size, and its tag or time of change."""
        address = self.address(path)
        about = retrying(lambda: self._ask(address), address, self.retries, lambda error: _refusal(error, address))
        return int(about["size"]), version_of(about)

    def _ask(self, address: str) -> Any:
        files = self._files()
        files.invalidate_cache()  # a listing may be older than the object
        about = files.info(address)
        if about["type"] != "file":
            raise FileNotFoundError(address)
        if about.get("size") is None:
            raise ValueError(f"{address}: the server does not say how long it is; expected one that serves ranges")
        return about

    def _require_reaching(self, address: str, stop: int, what: str) -> None:
        num_bytes = int(self._ask(address)["size"])
        if num_bytes < stop:
            raise cut_off(what, num_bytes)

    def _files(self) -> Any:
        """Give this process's own client: that of another process does not survive a fork."""
        if self._client is None or self._client[0] != os.getpid():
            self._client = os.getpid(), _open_client(self.root)
        return self._client[1]


def _open_client(root: str) -> Any:
    """Open a client that leaves trying again to us, so that the tries which errors state are all there were."""
    scheme = root.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in ("s3", "s3a"):
        options["config_kwargs"] = {**conf.get("s3", {}).get("config_kwargs", {}), "retries": {"total_max_attempts": 1}}
    try:
        client = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    except ImportError as error:
        package = _PACKAGES.get(scheme, f"fsspec[{scheme}]")
        raise ImportError(f"{root}: {error}. To read {scheme}:// run: pip install '{package}'") from error
    if hasattr(client, "retries"):
        client.retries = 1
    _opened[id(client)] = client
    return client


def _keep_of_parent() -> None:
    """Keep a parent's clients for good: where a fork lets go of one, its connections are closed for the parent too."""
    _of_parents.extend(_opened.values())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_of_parent)


def _refusal(error: Exception, address: str) -> Exception | None:
    """Turn an error that another try cannot mend into one that says what to do."""
    status = getattr(error, "status", getattr(error, "code", None))
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError(errno.ENOENT, "there is no such object", address)
    if isinstance(error, PermissionError) or status in (401, 403) or type(error).__name__ in _NO_CREDENTIALS:
        way_out = "check the store's credentials and rights, for s3:// AWS_ACCESS_KEY_ID or AWS_PROFILE"
        return PermissionError(errno.EACCES, f"the store refuses ({error}): {way_out}", address)
    if isinstance(error, (ImportError, ValueError, TypeError, NotImplementedError, CutOffError)):
        return error
    is_wrong = isinstance(error, OSError) and error.errno in _WRONG
    if is_wrong or (isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)):
        return StorageError(f"{address}: the store takes the request for wrong: {type(error).__name__}: {error}")
    return None
