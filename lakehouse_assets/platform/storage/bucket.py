"""Buckets: how one is opened, which options its readers need, and which settings and stores are too unsafe to commit on.

All commits rest on one promise of a store: of two writers that create one object, the second is refused. Whoever makes it can hold a
lakehouse: S3 and what speaks its API, Google Cloud Storage, Azure Blob Storage. Credentials are read from the environment by the
libraries themselves and are never in an option, an error or a log.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lakehouse_assets.platform.storage.errors import BucketRefused

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PROBE: Final = ".lakehouse-probe"
_PROBE_CONTENT: Final = b"Nobody can create this object a second time: that is how a lakehouse knows that its commits are safe here.\n"
_S3: Final = "s3"
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_ACCOUNT: Final = "AZURE_STORAGE_ACCOUNT_NAME"
_REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
_FALSE: Final = frozenset({"", "0", "false", "no", "off", "n", "f"})
# Those of the connection, which obstore takes apart from those of the store.
_CLIENT_OPTIONS: Final = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "http1_only",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_url",
        "timeout",
        "user_agent",
    }
)
# What the libraries read an account, a key or an endpoint from, by what an address starts with.
_CREDENTIALS: Final = {"s3": ("AWS_",), "gs": ("GOOGLE_", "GCS_"), "az": ("AZURE_",), "abfs": ("AZURE_",), "abfss": ("AZURE_",)}
# How long an unreachable store is tried when it is opened; what runs later is more patient.
_FIRST_TRIES: Final = {"retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}}

# By `access_key`, so that new credentials open a new store.
_stores: "dict[str, ObjectStore]" = {}
_probed: set[str] = set()


def is_bucket(address: str) -> bool:
    """Whether an address names a bucket and not a folder."""
    return "://" in address


def split_address(address: str) -> tuple[str, str]:
    """The bucket's own address and the prefix in it: `s3://bucket/a/b` is `s3://bucket` and `a/b`."""
    scheme, place = address.split("://", 1)
    bucket, _, prefix = place.partition("/")
    return f"{scheme}://{bucket}", prefix.strip("/")


def storage_options(address: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What delta-rs and Polars have to be told beyond what they read from the environment themselves; nothing secret, nothing of a folder.

    Args:
        address: Of the root or below it.
        environment: Default: this process's.
    """
    environment = os.environ if environment is None else environment
    endpoint = next((environment[name] for name in _ENDPOINTS if environment.get(name)), "")
    if not address.startswith(f"{_S3}://") or not endpoint:
        return {}
    options = {"aws_endpoint_url": endpoint}
    if endpoint.startswith("http://"):
        options["aws_allow_http"] = "true"
    if not any(environment.get(name) for name in _REGIONS):
        options["aws_region"] = "us-east-1"  # what is no part of AWS has no regions, but signatures name one
    return options


def access_key(address: str, options: Mapping[str, str], environment: Mapping[str, str] | None = None) -> str:
    """What an opened table or store may be cached by: a hash of its address, its options and the credentials that the environment names.

    Args:
        address: A folder or an address in a bucket.
        options: As delta-rs takes them; they may hold secrets, of which nothing but the hash is kept.
        environment: Default: this process's.
    """
    place, credentials = address, []
    if is_bucket(address):
        prefixes = _CREDENTIALS.get(address.split("://", 1)[0], ())
        variables = (os.environ if environment is None else environment).items()
        credentials = sorted((name, value) for name, value in variables if prefixes and name.startswith(prefixes))
    else:
        place = str(Path(address).absolute())
    return hashlib.sha256(json.dumps([place, sorted(options.items()), credentials]).encode()).hexdigest()


def forget_stores() -> None:
    """Open and probe every store again when it is asked for next."""
    _stores.clear()
    _probed.clear()


def open_store(address: str, options: Mapping[str, str] | None = None) -> "ObjectStore":
    """The whole bucket that an address lies in, opened; no request is made, and the next caller gets the same connections.

    Args:
        address: Of the root or below it.
        options: As delta-rs takes them; default: `storage_options`.

    Raises:
        BucketRefused: The package is missing, or an option.
    """
    options = options or storage_options(address)
    bucket = split_address(address)[0]
    key = access_key(bucket, options)
    if key not in _stores:
        _stores[key] = _open(bucket, options)
    return _stores[key]


def ready(address: str, options: Mapping[str, str] | None = None) -> None:
    """Make sure, once a process, that commits below an address are safe; folders always are.

    Args:
        address: Of the root or below it.
        options: What delta-rs is told besides the environment; default: `storage_options`.

    Raises:
        BucketRefused: A setting takes the safety away, the store does not have it, or it cannot be reached. Nothing was written but, where
            it was possible, the object `.lakehouse-probe`.
    """
    if is_bucket(address):
        check_options(options or {}, "option")
        check_options(os.environ, "variable")
        if not options and address.startswith(f"{_S3}://"):
            _check_known_to_all(os.environ)
        options = options or storage_options(address)
        key = access_key(address, options)
        if key not in _probed:
            _probe(address, options)
            _probed.add(key)


def check_options(options: Mapping[str, str], kind: str) -> None:
    """Refuse options under which two writers could both take one version of a table.

    Raises:
        BucketRefused: Names the option, and what to do.
    """
    for name, value in options.items():
        short = name.upper().removeprefix("AWS_").removeprefix("S3_").removeprefix("MOUNT_")
        given = value.strip().lower()
        if (
            (short == "ALLOW_UNSAFE_RENAME" and given not in _FALSE)
            or (short == "CONDITIONAL_PUT" and given not in {"", "etag"})
            or (short == "COPY_IF_NOT_EXISTS" and given)
            or (short == "LOCKING_PROVIDER" and given not in {"", "dynamodb"})
        ):
            raise BucketRefused(
                f"with the {kind} {name}={value} two writers could take one version of a table, and rows would be lost. Remove it: all "
                "that commits need is a store that refuses to create an object twice (If-None-Match), as S3, MinIO, R2 and Ceph do"
            )


def _check_known_to_all(environment: Mapping[str, str]) -> None:
    if environment.get("AWS_ENDPOINT"):
        raise BucketRefused("AWS_ENDPOINT is read by some libraries here and not by others: set AWS_ENDPOINT_URL in its place")
    if environment.get("AWS_PROFILE") and not environment.get("AWS_ACCESS_KEY_ID"):
        raise BucketRefused(
            "AWS_PROFILE is read by some libraries here and not by others: put its credentials into the environment with "
            '`eval "$(aws configure export-credentials --format env)"`'
        )


def _probe(address: str, options: Mapping[str, str]) -> None:
    """Create one object twice. It stays, so that the next process needs one request and not two."""
    bucket, prefix = split_address(address)
    store = _open(bucket, options, **_FIRST_TRIES)
    place = f"{prefix}/{PROBE}" if prefix else PROBE
    from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        for _ in range(2):
            store.put(place, _PROBE_CONTENT, mode="create")
    except AlreadyExistsError:
        return
    except (PermissionDeniedError, UnauthenticatedError):
        _check_readable(store, bucket, prefix)  # who may only read cannot commit anything
        return
    except FileNotFoundError as error:
        raise BucketRefused(f"{bucket} does not exist: create the bucket, or name another one in LAKEHOUSE_ROOT") from error
    except BaseError as error:
        raise BucketRefused(
            f"{bucket} cannot be used ({error_text(error)}). Is the store up, and are the variables of its endpoint, region and "
            "credentials right (AWS_*, AZURE_*, GOOGLE_*)?"
        ) from None
    raise BucketRefused(
        f"the store of {bucket} let one object be created twice ({place}), so two writers could take one version of a table and rows would "
        "be lost. Use a store or a version of it with conditional writes (If-None-Match on PUT), and no proxy in between that drops them"
    )


def _check_readable(store: "ObjectStore", bucket: str, prefix: str) -> None:
    from obstore.exceptions import BaseError

    try:
        store.list_with_delimiter(prefix or None)
    except BaseError as error:
        raise BucketRefused(
            f"{bucket} refuses these credentials ({error_text(error)}). Are they those of this bucket, and not expired?"
        ) from None


def _open(bucket: str, options: Mapping[str, str], **arguments: Any) -> "ObjectStore":
    if find_spec("obstore") is None:
        raise BucketRefused(f"{bucket} needs the Python package obstore: pip install 'lakehouse-assets[bucket]'")
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    client = {name.removeprefix("aws_"): value for name, value in options.items() if name.removeprefix("aws_") in _CLIENT_OPTIONS}
    config = {name: value for name, value in options.items() if name.removeprefix("aws_") not in client}
    arguments["config"] = config
    if client:
        arguments["client_options"] = client
    if bucket.startswith(f"{_S3}://"):
        # A copy that never replaces an object, without the whole of it coming through this machine.
        config["aws_copy_if_not_exists"] = "multipart"
    elif bucket.startswith("a") and os.environ.get(_ACCOUNT):
        config["azure_storage_account_name"] = os.environ[_ACCOUNT]  # obstore cannot show a store whose account it read itself
    try:
        store: ObjectStore = from_url(bucket, **arguments)
    except (BaseError, ValueError) as error:
        raise BucketRefused(f"{bucket} cannot be opened ({error_text(error)}): see its variables (AWS_*, AZURE_*, GOOGLE_*)") from None
    return store


def error_text(error: BaseException) -> str:
    """The first line of a library's error about a store, without addresses that could carry a signature."""
    words: Iterable[str] = (str(error).splitlines() or [type(error).__name__])[0].split(" ")
    return " ".join(word.split("?", 1)[0] if "://" in word else word for word in words).split(": <?xml", 1)[0]
