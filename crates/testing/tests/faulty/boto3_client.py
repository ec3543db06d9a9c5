"""Does to the bucket `dunnage` of a faulty server what the SDKs can do, and leaves the object `parts` in it."""

import io
import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "dunnage"
PART = 5 << 20


def main() -> None:
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}))
    objects(client)
    lists(client)
    uploads(client)


def objects(client) -> None:
    for body in (b"plain", io.BytesIO(b"streamed " * 100_000)):
        etag = client.put_object(Bucket=BUCKET, Key="a b/ü+c", Body=body)["ETag"]
        answer = client.get_object(Bucket=BUCKET, Key="a b/ü+c", IfMatch=etag)
        expected = body if isinstance(body, bytes) else body.getvalue()
        assert answer["Body"].read() == expected
        assert client.head_object(Bucket=BUCKET, Key="a b/ü+c")["ContentLength"] == len(expected)
    assert refusal(client.get_object, Bucket=BUCKET, Key="none") == "NoSuchKey"
    assert refusal(client.put_object, Bucket=BUCKET, Key="a", Body=b"1", ChecksumCRC32="AAAAAA==") == "BadDigest"


def lists(client) -> None:
    keys = ["d/1", "d/2", "d/e/3", "d/<&>", "f"]
    for key in keys:
        client.put_object(Bucket=BUCKET, Key=key, Body=b"")
    page = client.list_objects_v2(Bucket=BUCKET, Prefix="d/", Delimiter="/")
    assert [entry["Key"] for entry in page["Contents"]] == ["d/1", "d/2", "d/<&>"], page
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["d/e/"], page
    inside = client.list_objects_v2(Bucket=BUCKET, Prefix="d/e/", Delimiter="/", StartAfter="d/e/")
    assert [entry["Key"] for entry in inside["Contents"]] == ["d/e/3"] and "CommonPrefixes" not in inside, inside
    client.put_object(Bucket=BUCKET, Key="d/", Body=b"")
    folder = client.list_objects_v2(Bucket=BUCKET, Prefix="d/", Delimiter="/", MaxKeys=1)
    assert [entry["Key"] for entry in folder["Contents"]] == ["d/"] and folder["IsTruncated"], folder
    client.delete_object(Bucket=BUCKET, Key="d/")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2})
    found = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert found == sorted([*keys, "a b/ü+c"]), found
    answer = client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in found[1:]]})
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == found[1:], answer
    client.delete_object(Bucket=BUCKET, Key=found[0])
    assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def uploads(client) -> None:
    bodies = [os.urandom(PART), os.urandom(1000)]
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="parts", ChecksumAlgorithm="CRC32")
    place = {"Bucket": BUCKET, "Key": "parts", "UploadId": upload["UploadId"]}
    etags = [client.upload_part(**place, PartNumber=i, Body=body)["ETag"] for i, body in enumerate(bodies, 1)]
    assert [upload["Key"] for upload in client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == ["parts"]
    assert [part["ETag"] for part in client.list_parts(**place)["Parts"]] == etags
    parts = [{"ETag": etag, "PartNumber": i} for i, etag in enumerate(etags, 1)]
    assert refusal(client.complete_multipart_upload, **place, MultipartUpload={"Parts": parts[::-1]}) == "InvalidPartOrder"
    client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
    answer = client.get_object(Bucket=BUCKET, Key="parts", ChecksumMode="ENABLED")
    assert answer["Body"].read() == b"".join(bodies)
    assert answer["ChecksumCRC32"].endswith("-2") and answer["ETag"].endswith('-2"'), answer
    assert refusal(client.complete_multipart_upload, **place, MultipartUpload={"Parts": parts}) == "NoSuchUpload"
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="aborted")
    client.abort_multipart_upload(Bucket=BUCKET, Key="aborted", UploadId=upload["UploadId"])


def refusal(call, **arguments) -> str:
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError("it was not refused")


main()
